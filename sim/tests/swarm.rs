//! Wild plans keep every rule and reach every mark; `SIM_SWARM_SEEDS` says how many are run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sim::run::run;
use sim::trace::diff;
use sim::{Report, marks, swarm};

const SEEDS: u64 = 600;

/// Seeds that once failed.
const ONCE_FAILED: [u64; 1] = [
    // Of two segments under way at the end of a hold, the second arrived first.
    11_140,
];

/// Each seed has a thread of its own for the run, so this many runs go on at once.
const JOBS: usize = 2;

#[derive(Default)]
struct Batch {
    failures: Vec<String>,
    marks: BTreeMap<&'static str, u64>,
}

impl Batch {
    fn run(&mut self, seed: u64) {
        let plan = swarm::swarm(seed);
        let trace = match run(&plan) {
            Ok(trace) => trace,
            Err(error) => return self.failures.push(error.to_string()),
        };
        for mark in marks::reached(&plan, &trace) {
            *self.marks.entry(mark).or_default() += 1;
        }
        let report = Report::new(plan, trace);
        let told = report.violations.iter().map(|violation| {
            let next = seed + 1;
            format!("cargo run -p sim -- run --seeds {seed}..{next}  # {violation}")
        });
        self.failures.extend(told);
    }

    fn add(mut self, other: Self) -> Self {
        self.failures.extend(other.failures);
        for (mark, count) in other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        self
    }
}

#[test]
fn every_seed_keeps_every_rule_and_every_mark_is_reached() {
    let count = std::env::var("SIM_SWARM_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("SIM_SWARM_SEEDS is a number of seeds")
    });
    let seeds: Vec<u64> = (0..count).chain(ONCE_FAILED).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut batch = Batch::default();
        loop {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return batch;
            };
            batch.run(*seed);
        }
    };
    let batch = thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let batches = workers.into_iter().map(thread::ScopedJoinHandle::join);
        batches.fold(Batch::default(), |all, batch| {
            all.add(batch.expect("no panic"))
        })
    });
    assert!(batch.failures.is_empty(), "\n{}", batch.failures.join("\n"));
    let missing = marks::ALL
        .iter()
        .filter(|mark| !batch.marks.contains_key(*mark));
    let missing: Vec<_> = missing.collect();
    // A few seeds cannot reach everything.
    if count >= SEEDS {
        assert!(
            missing.is_empty(),
            "never reached: {missing:?}, of {:?}",
            batch.marks
        );
    }
}

#[test]
fn one_seed_gives_one_trace_on_our_own_network() {
    for seed in 0..6 {
        let plan = swarm::swarm(seed);
        let runs: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| run(&plan))).collect();
            let runs = runs.into_iter().map(thread::ScopedJoinHandle::join);
            let runs = runs.map(|run| run.expect("no panic").expect("a result"));
            runs.collect()
        });
        if let Some(difference) = diff(&runs[0], &runs[1]) {
            panic!("seed {seed}: {difference}");
        }
    }
}
