//! The hard situations of backends, and of requests to services, that a run has reached.

use std::collections::BTreeSet;

use crate::calls::{Call, PARTED};
use crate::checker::{History, Outcome, ToldBack as Told};
use crate::plan::Plan;
use crate::rooms::HALL;
use crate::trace::{Event, Reply, Seen, Trace};

/// The situations that a run has reached.
pub(crate) fn reached(plan: &Plan, trace: &Trace) -> BTreeSet<&'static str> {
    let mut marks = BTreeSet::new();
    if plan.wild.as_ref().is_none_or(|wild| wild.calls.is_none()) {
        return marks;
    }
    let history = History::new(plan, trace);
    let (mut keys, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for one in &history.ledger().tries {
        let told = one.told().unwrap_or_default();
        let is_lost = matches!(one.outcome, Outcome::Lost);
        let is_batch = matches!(one.call, Call::Batch { .. });
        let is_drained = history.drained.is_some_and(|drained| drained <= one.t);
        let is_answered = matches!(one.outcome, Outcome::Answered { .. });
        let in_drain = is_drained && is_answered;
        mark(&mut marks, "call answered in a drain", in_drain);
        let of = (one.client, one.number);
        mark(&mut marks, "call without an answer", is_lost);
        let (mut is_crash, mut is_again) = (false, lost.contains(&of));
        for (call, told) in one.call.each().iter().zip(&told) {
            let is_done = matches!(told, Told::Done(_));
            match call {
                Call::Publish {
                    room, once, live, ..
                } if is_done => {
                    let key = (one.server, room, once);
                    let is_known = !once.is_empty() && !keys.insert(key);
                    mark(&mut marks, "call answered from its key", is_known);
                    mark(&mut marks, "call sent again with its key", is_again);
                    is_again = false;
                    mark(&mut marks, "live text of a backend", *live);
                    let mut lives = history.clients.values();
                    let is_empty = !lives.any(|life| life.service == *room);
                    let of_nobody = "text of a backend where no client is";
                    mark(&mut marks, of_nobody, is_empty);
                    let is_after = is_batch && is_crash;
                    mark(&mut marks, "crash of a service within a batch", is_after);
                }
                Call::Rpc { room, method, .. } => {
                    is_crash |= method == "panic" && *told == Told::Fault(100);
                    let is_none = *told == Told::Fault(108) && room.starts_with(HALL);
                    mark(&mut marks, "request where no service runs", is_none);
                    let is_late = method == "keep" && *told == Told::Fault(100);
                    mark(&mut marks, "request not answered in time", is_late);
                }
                Call::Batch { .. }
                | Call::Disconnect { .. }
                | Call::HangUp
                | Call::History { .. }
                | Call::Publish { .. } => {}
            }
        }
        lost.extend(is_lost.then_some(of));
    }
    for entry in trace.entries() {
        marks.extend(of_event(&entry.event));
    }
    marks
}

#[expect(clippy::wildcard_enum_match_arm, reason = "few events are of requests")]
fn of_event(event: &Event) -> Option<&'static str> {
    match event {
        Event::Closed {
            code: Some(PARTED), ..
        } => Some("call that closes clients"),
        Event::Room { seen, .. } => match seen {
            Seen::Asked { method, .. } if method == "panic" => {
                Some("request lost with its instance")
            }
            Seen::Gave { answer, .. } => Some(match answer {
                Reply::Answer => "request answered by its service",
                Reply::Nothing => "request dropped by its service",
                Reply::Refusal => "request refused by its service",
            }),
            _ => None,
        },
        _ => None,
    }
}

fn mark(marks: &mut BTreeSet<&'static str>, mark: &'static str, is_reached: bool) {
    if is_reached {
        marks.insert(mark);
    }
}
