//! Makes a plan that fails as small as it can be while it fails in the same way.
//!
//! Every pass proposes smaller plans and keeps those that still fail; the passes are repeated until
//! none of them finds anything. No pass knows the simulator: what fails is the caller's to say.
//!
//! | pass | makes smaller |
//! |---|---|
//! | clients | who takes part, with all that they do |
//! | actions | what is done, faults among it |
//! | times | the waits between two actions, towards none |
//! | sizes | texts and counts, towards nothing |
//! | network | zones, towards one; latency, towards the least; limits, towards none |

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::checker::Violation;
use crate::plan::{Plan, Timed};

mod edits;

use self::edits::{client_of, fields, is_kept, retimed, smaller};

/// Runs that are enough for a plan of some hundred actions.
pub const RUNS_MAX: usize = 1000;

/// What came of shrinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest plan found; it fails.
    pub plan: Plan,
    /// How many plans were tried.
    pub runs: usize,
}

/// The way in which a run fails: the rule, and the words of the breach without what is particular
/// to the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symptom {
    checker: &'static str,
    shape: String,
}

impl Symptom {
    /// The way in which this violation fails: numbers and quoted texts do not matter.
    pub fn of(violation: &Violation) -> Self {
        let mut shape = String::new();
        let mut is_quoted = false;
        for char in violation.breach.text.chars() {
            match char {
                '`' => is_quoted = !is_quoted,
                _ if is_quoted => {}
                '0'..='9' => {
                    if !shape.ends_with('#') {
                        shape.push('#');
                    }
                }
                char => shape.push(char),
            }
        }
        let checker = violation.checker;
        Self { checker, shape }
    }

    /// Whether one of these violations is of this kind.
    pub fn is_among(&self, violations: &[Violation]) -> bool {
        violations.iter().any(|found| Self::of(found) == *self)
    }
}

/// The smallest plan that fails, found in at most `runs_max` runs; `None` when `plan` does not.
///
/// The drain is kept: the rules ask for one. The run is never over sooner after the last action
/// than in `plan`.
pub fn shrink(plan: &Plan, runs_max: usize, fails: impl Fn(&Plan) -> bool) -> Option<Shrunk> {
    let search = Search {
        runs: Cell::new(0),
        runs_max,
        settle_ms: settle_ms(plan),
        fails,
    };
    let mut best = plan.clone();
    if !search.fails(&best) {
        return None;
    }
    loop {
        let before = best.clone();
        search.clients(&mut best);
        search.actions(&mut best);
        search.times(&mut best);
        search.network(&mut best);
        search.sizes(&mut best);
        if best == before || search.is_over() {
            let runs = search.runs.get();
            return Some(Shrunk { plan: best, runs });
        }
    }
}

/// The time from the last action to the end.
fn settle_ms(plan: &Plan) -> u64 {
    let last = plan.actions.iter().map(|timed| timed.at_ms).max();
    plan.end_ms.saturating_sub(last.unwrap_or(0))
}

struct Search<F> {
    runs: Cell<usize>,
    runs_max: usize,
    settle_ms: u64,
    fails: F,
}

impl<F: Fn(&Plan) -> bool> Search<F> {
    fn is_over(&self) -> bool {
        self.runs.get() >= self.runs_max
    }

    fn fails(&self, plan: &Plan) -> bool {
        if self.is_over() {
            return false;
        }
        self.runs.set(self.runs.get() + 1);
        (self.fails)(plan)
    }

    /// Takes the candidate for the best plan if it is another one and fails.
    fn take(&self, best: &mut Plan, candidate: Plan) -> bool {
        let is_better = candidate != *best && self.fails(&candidate);
        if is_better {
            *best = candidate;
        }
        is_better
    }

    fn clients(&self, best: &mut Plan) {
        let clients: BTreeSet<u64> = best.actions.iter().filter_map(client_of).collect();
        let base = best.clone();
        let part = |clients: &[u64]| {
            let stays = |timed: &&Timed| client_of(timed).is_none_or(|c| clients.contains(&c));
            Plan {
                actions: base.actions.iter().filter(stays).cloned().collect(),
                ..base.clone()
            }
        };
        let all: Vec<u64> = clients.into_iter().collect();
        let needed = minimize(&all, |clients| self.fails(&part(clients)));
        *best = part(&needed);
    }

    fn actions(&self, best: &mut Plan) {
        let base = best.clone();
        let (kept, rest): (Vec<usize>, Vec<usize>) =
            (0..base.actions.len()).partition(|place| is_kept(&base.actions[*place].action));
        let part = |places: &[usize]| {
            let mut places = [places, &kept].concat();
            places.sort_unstable();
            Plan {
                actions: places.iter().map(|at| base.actions[*at].clone()).collect(),
                ..base.clone()
            }
        };
        let needed = minimize(&rest, |places| self.fails(&part(places)));
        *best = part(&needed);
    }

    /// Makes the waits shorter, first all of them at once and then one by one.
    fn times(&self, best: &mut Plan) {
        self.take(best, retimed(best, self.settle_ms, |_, wait| wait));
        for wait_max in WAITS_MS {
            let shorter = retimed(best, self.settle_ms, |_, wait| wait.min(wait_max));
            if self.take(best, shorter) {
                break;
            }
        }
        for place in 0..best.actions.len() {
            for wait_max in WAITS_MS {
                let shorter = retimed(best, self.settle_ms, |at, wait| {
                    if at == place {
                        wait.min(wait_max)
                    } else {
                        wait
                    }
                });
                if self.take(best, shorter) {
                    break;
                }
            }
        }
    }

    fn network(&self, best: &mut Plan) {
        let changes = [
            edits::one_zone,
            edits::least_latency,
            edits::latency_of_a_tick,
            edits::full_lengths,
            edits::no_rate,
            edits::large_buffers,
        ];
        for change in changes {
            let mut candidate = best.clone();
            change(&mut candidate);
            self.take(best, candidate);
        }
    }

    fn sizes(&self, best: &mut Plan) {
        for place in 0..best.actions.len() {
            for field in fields(&best.actions[place].action) {
                for smaller in smaller(&best.actions[place].action, &field) {
                    // Texts stay different, as some rules need them to be.
                    let is_there = |timed: &Timed| timed.action == smaller;
                    if best.actions.iter().any(is_there) {
                        continue;
                    }
                    let mut candidate = best.clone();
                    candidate.actions[place].action = smaller;
                    if self.take(best, candidate) {
                        break;
                    }
                }
            }
        }
    }
}

/// Waits that are tried, from the shortest.
const WAITS_MS: [u64; 6] = [0, 1, 10, 100, 1_000, 10_000];

/// A part of `all` that fails and of which no single item can be left out (delta debugging).
fn minimize<T: Clone>(all: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut best = all.to_vec();
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 && !best.is_empty() {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < best.len() {
            let end = (start + chunk).min(best.len());
            let rest = [&best[..start], &best[end..]].concat();
            if fails(&rest) {
                best = rest;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        // At the end, single items until all of them are needed.
        if chunk > 1 || !has_shrunk {
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }
    best
}
