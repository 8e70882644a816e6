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

use std::collections::BTreeSet;

use crate::checker::Violation;
use crate::plan::{Plan, Timed};

pub(crate) mod edits;
pub(crate) mod search;

use self::edits::{client_of, fields, is_kept, retimed, smaller};
use self::search::{Search, minimize};

/// Runs that are enough for a plan of some hundred actions.
pub const RUNS_MAX: usize = 1000;

/// What came of shrinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk<P = Plan> {
    /// The smallest plan found; it fails.
    pub plan: P,
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
    let passes = Passes {
        search: Search::new(runs_max, fails),
        settle_ms: settle_ms(plan),
    };
    let mut best = plan.clone();
    if !passes.search.fails(&best) {
        return None;
    }
    loop {
        let before = best.clone();
        passes.clients(&mut best);
        passes.actions(&mut best);
        passes.times(&mut best);
        passes.network(&mut best);
        passes.sizes(&mut best);
        if best == before || passes.search.is_over() {
            let runs = passes.search.runs();
            return Some(Shrunk { plan: best, runs });
        }
    }
}

/// The time from the last action to the end.
fn settle_ms(plan: &Plan) -> u64 {
    let last = plan.actions.iter().map(|timed| timed.at_ms).max();
    plan.end_ms.saturating_sub(last.unwrap_or(0))
}

struct Passes<F> {
    search: Search<F>,
    settle_ms: u64,
}

impl<F: Fn(&Plan) -> bool> Passes<F> {
    fn clients(&self, best: &mut Plan) {
        let clients: BTreeSet<u64> = best
            .actions
            .iter()
            .filter_map(|timed| client_of(&timed.action))
            .collect();
        let base = best.clone();
        let part = |clients: &[u64]| {
            let stays =
                |timed: &&Timed| client_of(&timed.action).is_none_or(|c| clients.contains(&c));
            Plan {
                actions: base.actions.iter().filter(stays).cloned().collect(),
                ..base.clone()
            }
        };
        let all: Vec<u64> = clients.into_iter().collect();
        let needed = minimize(&all, |clients| self.search.fails(&part(clients)));
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
        let needed = minimize(&rest, |places| self.search.fails(&part(places)));
        *best = part(&needed);
    }

    /// Makes the waits shorter, first all of them at once and then one by one.
    fn times(&self, best: &mut Plan) {
        self.search
            .take(best, retimed(best, self.settle_ms, |_, wait| wait));
        for wait_max in WAITS_MS {
            let shorter = retimed(best, self.settle_ms, |_, wait| wait.min(wait_max));
            if self.search.take(best, shorter) {
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
                if self.search.take(best, shorter) {
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
            self.search.take(best, candidate);
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
                    if self.search.take(best, candidate) {
                        break;
                    }
                }
            }
        }
    }
}

/// Waits that are tried, from the shortest.
const WAITS_MS: [u64; 6] = [0, 1, 10, 100, 1_000, 10_000];
