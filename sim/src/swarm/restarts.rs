//! How a seed adds planned restarts, and texts and readings with replies, to a wild plan with
//! histories.
//!
//! The draws are of a stream of their own, and what else the plan has stays as it is.

use super::at;
use crate::journal::JOURNAL;
use crate::plan::{Action, Plan};
use crate::rng::Rng;
use crate::rooms::is_of;
use crate::wild::Deed;

/// Of so many plans with histories one has restarts.
const PLANS: u64 = 3;

/// The first number of a request.
const FIRST: u64 = 100;

/// Adds restarts to the plan, and has some texts want a reply.
pub(super) fn plan(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "restarts", 0);
    let Some(wild) = plan.wild.as_ref().filter(|wild| wild.journal.is_some()) else {
        return;
    };
    let healed = wild.healed_ms;
    replies(plan, &mut rng);
    if rng.chance(1, PLANS) {
        for _ in 0..rng.within(1..=2) {
            let time = rng.within(500..=healed + 4_000);
            plan.actions.push(at(time, Action::Restart));
        }
    }
    // Stable, so that what a client does in one millisecond keeps its order.
    plan.actions.sort_by_key(|timed| timed.at_ms);
}

/// Some texts of clients of journals want a reply, and some clients read.
fn replies(plan: &mut Plan, rng: &mut Rng) {
    if !rng.chance(1, 2) {
        return;
    }
    let connects = plan.actions.iter().filter_map(|timed| {
        let Action::Connect {
            client, service, ..
        } = &timed.action
        else {
            return None;
        };
        is_of(JOURNAL, service).then_some(*client)
    });
    let clients: Vec<u32> = connects.collect();
    let mut next = FIRST;
    let mut readings = Vec::new();
    for timed in &mut plan.actions {
        let Action::Text { client, text } = &timed.action else {
            continue;
        };
        if !clients.contains(client) || !rng.chance(1, 2) {
            continue;
        }
        next += 1;
        let (client, text, id) = (*client, text.clone(), next);
        if rng.chance(1, 4) {
            next += 1;
            let deed = Deed::Read { id: next };
            let later = timed.at_ms + rng.within(0..=300);
            readings.push(at(later, Action::Act { client, deed }));
        }
        let deed = Deed::Tell { id, text };
        timed.action = Action::Act { client, deed };
    }
    plan.actions.extend(readings);
}
