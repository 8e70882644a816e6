//! Seeds keep every rule; `SIM_SEEDS` says how many are run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const SEEDS: u64 = 8;

/// Seeds that once failed.
const ONCE_FAILED: [u64; 1] = [
    // A tick that was held until it could have been one of an instance that had ended.
    10,
];

/// Each seed has a thread of its own for the run, so this many runs go on at once.
const JOBS: usize = 2;

#[test]
fn every_seed_keeps_every_rule() {
    let count = std::env::var("SIM_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("SIM_SEEDS is a number of seeds")
    });
    let seeds: Vec<u64> = (0..count).chain(ONCE_FAILED).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return failures;
            };
            match sim::scenario(*seed) {
                Ok(report) => failures.extend(report.verdict().err().map(|f| f.to_string())),
                Err(error) => failures.push(error.to_string()),
            }
        }
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let failures = workers.into_iter().map(thread::ScopedJoinHandle::join);
        failures.flat_map(|f| f.expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
