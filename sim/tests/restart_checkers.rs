//! The rule of histories over planned restarts, and of replies, is broken by a trace that was
//! tampered with.

use std::sync::OnceLock;

use sim::plan::{Action, Plan};
use sim::swarm::swarm;
use sim::trace::{Entry, Event};
use sim::{Report, Trace};

/// Of which some have histories.
const SEEDS: u64 = 250;

/// Runs of plans with histories, all of them good.
fn good() -> &'static [(Plan, Trace)] {
    static GOOD: OnceLock<Vec<(Plan, Trace)>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let plans = (0..SEEDS).map(swarm);
        let is_kept = |plan: &Plan| {
            plan.wild
                .as_ref()
                .is_some_and(|wild| wild.journal.is_some())
        };
        let run = |plan: Plan| {
            let trace = sim::run::run(&plan).expect("the run comes to a result");
            (plan, trace)
        };
        plans.filter(is_kept).map(run).collect()
    })
}

/// Looks for a run whose trace, tampered with, breaks the rule in these words.
#[track_caller]
fn assert_breach(part: &str, tamper: impl Fn(&mut Vec<Entry>)) {
    for (plan, trace) in good() {
        let mut entries: Vec<Entry> = trace.entries().to_vec();
        tamper(&mut entries);
        let report = Report::new(plan.clone(), Trace::from_entries(entries));
        let mut violations = report.violations.iter();
        let is_it = |text: &str| text.contains(part);
        if violations.any(|it| it.checker == "recovery" && is_it(&it.breach.text)) {
            return;
        }
    }
    panic!("no `{part}`");
}

/// The place of a frame with the reply to a text.
fn reply(entries: &[Entry]) -> Option<usize> {
    entries.iter().position(|entry| {
        let Event::Written { data, .. } = &entry.event else {
            return false;
        };
        let text = String::from_utf8_lossy(data);
        // A reply that was not written whole is passed over.
        let reply = text.split_once("\"published\":{\"epoch\"");
        data.first() == Some(&0x81) && reply.is_some_and(|(_, rest)| rest.contains("\"offset\":"))
    })
}

#[test]
fn recovery_finds_an_epoch_that_changes_with_a_planned_restart() {
    assert_breach(" became 0000", |entries| {
        let is_order = |event: &Event| {
            matches!(
                event,
                Event::Acted {
                    action: Action::Restart
                }
            )
        };
        let order = entries.iter().position(|entry| is_order(&entry.event));
        let order = order.unwrap_or(entries.len());
        let mut after = entries.iter_mut().skip(order);
        // The histories of the next server.
        let _orders = after.find(|entry| entry.event == Event::Started);
        for entry in after {
            if let Event::Journal { epoch, .. } = &mut entry.event {
                *epoch = "0".repeat(16);
            }
        }
    });
}

#[test]
fn recovery_finds_a_second_reply() {
    assert_breach("has a second reply", |entries| {
        if let Some(place) = reply(entries) {
            let copy = entries[place].clone();
            entries.insert(place, copy);
        }
    });
}

#[test]
fn recovery_finds_a_text_without_a_reply() {
    assert_breach("has no reply to", |entries| {
        while let Some(place) = reply(entries) {
            entries.remove(place);
        }
    });
}

#[test]
fn recovery_finds_a_reply_with_another_place() {
    assert_breach("have the place", |entries| {
        while let Some(place) = reply(entries) {
            let Event::Written { data, .. } = &mut entries[place].event else {
                return;
            };
            let offset = data.windows(9).position(|part| part == b"\"offset\":");
            let digit = offset.expect("it is there") + 9;
            if data[digit] == b'2' {
                data[digit] = b'1';
                return;
            }
            // The next one is looked for.
            entries.remove(place);
        }
    });
}
