//! Makes a plan of the core that fails as small as it can be while it fails in the same way.
//!
//! Any part of the steps is a plan, so that nothing needs to be kept: first clients are left out
//! with all that they do, then steps, then times, counts and texts become smaller.

use std::collections::BTreeSet;

use super::Plan;
use super::executor::Order;
use super::plan::Step;
use crate::shrink::Shrunk;
use crate::shrink::edits::{client_of, fields, smaller};
use crate::shrink::search::{Search, minimize};

/// The smallest plan that fails, found in at most `runs_max` runs; `None` when `plan` does not.
pub fn shrink(plan: &Plan, runs_max: usize, fails: impl Fn(&Plan) -> bool) -> Option<Shrunk<Plan>> {
    let search = Search::new(runs_max, fails);
    let mut best = plan.clone();
    if !search.fails(&best) {
        return None;
    }
    loop {
        let before = best.clone();
        clients(&search, &mut best);
        steps(&search, &mut best);
        order(&search, &mut best);
        sizes(&search, &mut best);
        if best == before || search.is_over() {
            let runs = search.runs();
            return Some(Shrunk { plan: best, runs });
        }
    }
}

fn of_steps(plan: &Plan, steps: Vec<Step>) -> Plan {
    Plan {
        steps,
        ..plan.clone()
    }
}

fn clients<F: Fn(&Plan) -> bool>(search: &Search<F>, best: &mut Plan) {
    let all: BTreeSet<u64> = best.steps.iter().filter_map(client_of).collect();
    let all: Vec<u64> = all.into_iter().collect();
    let base = best.clone();
    let part = |clients: &[u64]| {
        let stays = |step: &&Step| client_of(*step).is_none_or(|c| clients.contains(&c));
        of_steps(&base, base.steps.iter().filter(stays).cloned().collect())
    };
    let needed = minimize(&all, |clients| search.fails(&part(clients)));
    *best = part(&needed);
}

fn steps<F: Fn(&Plan) -> bool>(search: &Search<F>, best: &mut Plan) {
    let base = best.clone();
    let steps = minimize(&base.steps, |steps| {
        search.fails(&of_steps(&base, steps.to_vec()))
    });
    best.steps = steps;
}

/// First come, first served, if that shows it too.
fn order<F: Fn(&Plan) -> bool>(search: &Search<F>, best: &mut Plan) {
    let order = Order::Fifo;
    let candidate = Plan {
        order,
        ..best.clone()
    };
    search.take(best, candidate);
}

fn sizes<F: Fn(&Plan) -> bool>(search: &Search<F>, best: &mut Plan) {
    for place in 0..best.steps.len() {
        for field in fields(&best.steps[place]) {
            for smaller in smaller(&best.steps[place], &field) {
                // Texts stay different, as some rules need them to be.
                let is_text = matches!(smaller, Step::Text { .. } | Step::Fragments { .. });
                if is_text && best.steps.contains(&smaller) {
                    continue;
                }
                let mut candidate = best.clone();
                candidate.steps[place] = smaller;
                if search.take(best, candidate) {
                    break;
                }
            }
        }
    }
}
