//! The same plans on three networks that have nothing in common: one set of checkers judges all.

use std::thread;

use sim::Report;
use sim::plan::Plan;
use sim::run::{Backend, run_on};
use sim::scenario::gathering;
use sim::swarm::{brief, swarm};

const TURMOIL_SEEDS: u64 = 24;

/// Seeds that once failed on turmoil.
const ONCE_FAILED: [u64; 1] = [
    // The timer of a service that was given up outlived the drain.
    228,
];

/// Plans of some seconds each, which all networks carry out; one has a server that crashes.
const BRIEF_SEEDS: [u64; 5] = [0, 1, 2, 3, 4];

/// What is wrong with a run of this plan on this network.
fn failures(plan: &Plan, network: Backend) -> Vec<String> {
    let plan = network.fit(plan);
    let seed = plan.seed;
    match run_on(&plan, network) {
        Err(error) => vec![format!("{network}: {error}")],
        Ok(trace) => {
            let report = Report::new(plan, trace);
            let told = |violation| format!("{network}, seed {seed}: {violation}");
            report.violations.iter().map(told).collect()
        }
    }
}

#[track_caller]
fn assert_kept(failures: &[String]) {
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_same_plans_keep_every_rule_on_all_networks() {
    let plans = BRIEF_SEEDS.map(brief);
    let failures = thread::scope(|scope| {
        // Real time is mostly waited for, so all of it is waited for at once.
        let run = |plan: &'_ Plan| {
            let plan = plan.clone();
            scope.spawn(move || failures(&plan, Backend::Loopback))
        };
        let real: Vec<_> = plans.iter().map(run).collect();
        let simulated = [Backend::Simnet, Backend::Turmoil];
        let on = |network| plans.iter().flat_map(move |plan| failures(plan, network));
        let mut all: Vec<String> = simulated.into_iter().flat_map(on).collect();
        for run in real {
            all.extend(run.join().expect("no panic"));
        }
        all
    });
    assert_kept(&failures);
}

#[test]
fn wild_plans_keep_every_rule_on_turmoil_too() {
    let on = |seed| failures(&swarm(seed), Backend::Turmoil);
    let seeds = (0..TURMOIL_SEEDS).chain(ONCE_FAILED);
    assert_kept(&seeds.flat_map(on).collect::<Vec<_>>());
}

#[test]
fn calm_plans_keep_every_rule_on_our_own_network_too() {
    let on = |seed| failures(&gathering(seed), Backend::Simnet);
    assert_kept(&(0..4).flat_map(on).collect::<Vec<_>>());
}

#[test]
fn a_network_is_called_what_it_prints() {
    for network in Backend::ALL {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    assert!("ethernet".parse::<Backend>().is_err());
}
