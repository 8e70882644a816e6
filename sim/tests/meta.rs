//! The simulator repeats itself: one seed, one trace, wherever and beside whatever it is run.

use std::process::Command;
use std::thread;

use sim::Trace;
use sim::trace::{diff, diff_lines};

const SEEDS: [u64; 3] = [101, 102, 103];

fn trace(seed: u64) -> Trace {
    sim::scenario(seed)
        .expect("the run comes to a result")
        .trace
}

/// The trace of another process.
fn trace_of_child(seed: u64) -> Vec<String> {
    let path = format!("{}/meta-{seed}.jsonl", env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--seed", &seed.to_string(), "--trace", &path, "--hash"])
        .output()
        .expect("the child starts");
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&path).expect("the child has written its trace");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn one_seed_gives_one_trace_in_parallel_threads_and_in_another_process() {
    // Twice each, all at once.
    let seeds = SEEDS.into_iter().chain(SEEDS);
    let traces: Vec<Trace> = thread::scope(|scope| {
        let runs: Vec<_> = seeds.map(|seed| scope.spawn(move || trace(seed))).collect();
        let traces = runs.into_iter().map(thread::ScopedJoinHandle::join);
        traces.map(|trace| trace.expect("no panic")).collect()
    });
    let (first, second) = traces.split_at(SEEDS.len());
    for ((seed, first), second) in SEEDS.into_iter().zip(first).zip(second) {
        if let Some(difference) = diff(first, second) {
            panic!("seed {seed}, two threads of one process: {difference}");
        }
        assert_eq!(first.hash(), second.hash(), "seed {seed}");
    }
    let seed = SEEDS[0];
    if let Some(difference) = diff_lines(first[0].lines(), trace_of_child(seed)) {
        panic!("seed {seed}, two processes: {difference}");
    }
}

#[test]
fn two_seeds_give_two_traces() {
    let difference = diff(&trace(SEEDS[0]), &trace(SEEDS[1]));
    assert!(difference.is_some());
}
