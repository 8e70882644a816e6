//! The core alone keeps every rule under every order of its tasks; `SIM_CORE_SEEDS` says how many
//! seeds are run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::core::{MARKS, Plan, run};
use sim::trace::diff;

const SEEDS: u64 = 3_000;

const JOBS: usize = 2;

#[derive(Default)]
struct Batch {
    failures: Vec<String>,
    marks: BTreeMap<&'static str, u64>,
}

#[test]
fn every_seed_keeps_every_rule_and_every_mark_is_reached() {
    let count = std::env::var("SIM_CORE_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("SIM_CORE_SEEDS is a number of seeds")
    });
    let next = AtomicU64::new(0);
    let work = || {
        let mut batch = Batch::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return batch;
            }
            let report = run(&Plan::draw(seed));
            batch.failures.extend(report.verdict().err());
            for mark in report.marks {
                *batch.marks.entry(mark).or_default() += 1;
            }
        }
    };
    let batches: Vec<Batch> = thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let batches = workers.into_iter().map(thread::ScopedJoinHandle::join);
        batches.map(|batch| batch.expect("no panic")).collect()
    });
    let failures: Vec<&str> = batches
        .iter()
        .flat_map(|batch| batch.failures.iter().map(String::as_str))
        .collect();
    assert!(
        failures.is_empty(),
        "{} seeds fail:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    let reached = |mark: &&&str| batches.iter().any(|batch| batch.marks.contains_key(**mark));
    let missing: Vec<_> = MARKS.iter().filter(|mark| !reached(mark)).collect();
    // A few seeds cannot reach everything.
    assert!(
        missing.is_empty() || count < SEEDS,
        "never reached: {missing:?}"
    );
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in 0..40 {
        let plan = Plan::draw(seed);
        let runs: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| run(&plan))).collect();
            let runs = runs.into_iter().map(thread::ScopedJoinHandle::join);
            runs.map(|run| run.expect("no panic").trace).collect()
        });
        if let Some(difference) = diff(&runs[0], &runs[1]) {
            panic!("seed {seed}: {difference}");
        }
        assert_eq!(runs[0].hash(), runs[1].hash(), "seed {seed}");
    }
}

#[test]
fn a_plan_is_the_same_after_it_was_written() {
    for seed in 0..50 {
        let plan = Plan::draw(seed);
        let text = serde_json::to_string(&plan).expect("a plan is JSON");
        assert_eq!(serde_json::from_str::<Plan>(&text).ok(), Some(plan));
    }
}
