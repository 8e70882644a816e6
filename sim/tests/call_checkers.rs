//! Each rule about backends and requests is broken by a trace that was tampered with.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each test tampers with some kinds of events"
)]

use std::sync::OnceLock;

use sim::calls::Call;
use sim::plan::Plan;
use sim::swarm::swarm;
use sim::trace::{Entry, Event, Seen};
use sim::{Report, Trace};

/// Of which some have backends.
const SEEDS: u64 = 250;

/// Runs of plans with backends, all of them good.
fn good() -> &'static [(Plan, Trace)] {
    static GOOD: OnceLock<Vec<(Plan, Trace)>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let plans = (0..SEEDS).map(swarm);
        let has_calls = |plan: &Plan| plan.wild.as_ref().is_some_and(|wild| wild.calls.is_some());
        let run = |plan: Plan| {
            let trace = sim::run::run(&plan).expect("the run comes to a result");
            (plan, trace)
        };
        plans.filter(has_calls).map(run).collect()
    })
}

/// Looks for a run whose trace, tampered with, breaks the rule in these words.
#[track_caller]
fn assert_breach(checker: &str, part: &str, tamper: impl Fn(&mut Vec<Entry>)) {
    for (plan, trace) in good() {
        let mut entries: Vec<Entry> = trace.entries().to_vec();
        tamper(&mut entries);
        let report = Report::new(plan.clone(), Trace::from_entries(entries));
        let found = report
            .violations
            .iter()
            .any(|violation| violation.checker == checker && violation.breach.text.contains(part));
        if found {
            return;
        }
    }
    panic!("{checker}: no `{part}`");
}

/// Tampers with the last answer whose body has these words.
fn tamper_answer(entries: &mut [Entry], words: &str, tamper: impl Fn(&mut u16, &mut String)) {
    for entry in entries.iter_mut().rev() {
        if let Event::Answered { status, body, .. } = &mut entry.event
            && body.contains(words)
        {
            return tamper(status, body);
        }
    }
}

/// The place of a frame of the server with the answer of a service.
fn reply(entries: &[Entry]) -> Option<usize> {
    entries.iter().position(|entry| match &entry.event {
        Event::Written { data, .. } => {
            data.first() == Some(&0x81) && String::from_utf8_lossy(data).contains("\"answer\":")
        }
        _ => false,
    })
}

#[test]
fn called_finds_an_answer_to_no_call() {
    assert_breach("called", "an answer to no call", |entries| {
        for entry in entries {
            if let Event::Answered { number, .. } = &mut entry.event {
                *number = 0;
                return;
            }
        }
    });
}

#[test]
fn called_finds_a_call_without_an_answer() {
    assert_breach("called", "has no answer", |entries| {
        let is_it = |entry: &Entry| {
            matches!(
                entry.event,
                Event::Answered { .. } | Event::Unanswered { .. }
            )
        };
        entries.retain(|entry| !is_it(entry));
    });
}

#[test]
fn called_finds_a_late_answer() {
    assert_breach("called", "was answered at", |entries| {
        for entry in entries {
            if matches!(entry.event, Event::Answered { .. }) {
                entry.t += 120_000_000;
            }
        }
    });
}

#[test]
fn called_finds_a_caller_that_is_sent_away_too_early() {
    assert_breach("called", "by a server that stays", |entries| {
        for entry in entries {
            if let Event::Answered { status, .. } = &mut entry.event {
                *status = 503;
            }
        }
    });
}

#[test]
fn called_finds_a_place_that_is_not_there() {
    assert_breach("called", "was told {", |entries| {
        tamper_answer(entries, "{\"result\":{\"offset\":", |_, body| {
            *body = body.replace("\"offset\":", "\"offset\":9");
        });
    });
}

#[test]
fn called_finds_a_place_of_another_text() {
    assert_breach("called", "have the place", |entries| {
        for entry in entries {
            if let Event::Answered { body, .. } = &mut entry.event {
                *body = body.replace("{\"offset\":2,", "{\"offset\":1,");
            }
        }
    });
}

#[test]
fn called_finds_a_key_with_two_results() {
    assert_breach("called", "was answered {", |entries| {
        let keys = entries.iter().filter_map(|entry| match &entry.event {
            Event::Called {
                client,
                number,
                call: Call::Publish { once, .. },
                ..
            } if !once.is_empty() => Some((*client, *number)),
            _ => None,
        });
        let keys: Vec<_> = keys.collect();
        for entry in entries.iter_mut().rev() {
            if let Event::Answered {
                client,
                number,
                body,
                ..
            } = &mut entry.event
                && keys.contains(&(*client, *number))
            {
                "{\"result\":{\"offset\":1,\"epoch\":\"0\"}}".clone_into(body);
                return;
            }
        }
    });
}

#[test]
fn called_finds_a_history_with_a_hole() {
    assert_breach("called", "are there", |entries| {
        tamper_answer(entries, "\"publications\":[{", |_, body| {
            let from = body.find("[{").expect("it is there");
            let to = body.rfind("}]").expect("it is there");
            body.replace_range(from + 1..=to, "");
        });
    });
}

#[test]
fn called_finds_a_refused_text_at_a_client() {
    assert_breach("called", "which was refused", |entries| {
        for entry in entries {
            if let Event::Answered { body, .. } = &mut entry.event {
                "{\"error\":{\"code\":111,\"message\":\"\"}}".clone_into(body);
            }
        }
    });
}

#[test]
fn called_finds_an_answer_of_another_request() {
    assert_breach("called", "and the instance says", |entries| {
        tamper_answer(entries, "{\"result\":{\"data\":[", |_, body| {
            *body = body.replace("[\"", "[\"0");
        });
    });
}

#[test]
fn recovery_finds_a_text_of_a_backend_that_was_refused() {
    assert_breach("recovery", "that is not for it", |entries| {
        for entry in entries {
            if let Event::Answered { body, .. } = &mut entry.event {
                "{\"error\":{\"code\":111,\"message\":\"\"}}".clone_into(body);
            }
        }
    });
}

#[test]
fn relays_finds_a_text_of_a_backend_that_comes_twice() {
    assert_breach("relays", "has a text again", |entries| {
        let is_it = |entry: &Entry| match &entry.event {
            Event::Received { text, .. } => text.starts_with("\"say backend"),
            _ => false,
        };
        let place = entries.iter().position(is_it);
        if let Some(place) = place {
            let copy = entries[place].clone();
            entries.insert(place, copy);
        }
    });
}

#[test]
fn asked_finds_a_second_reply() {
    assert_breach("asked", "a reply to no request", |entries| {
        if let Some(place) = reply(entries) {
            let copy = entries[place].clone();
            entries.insert(place, copy);
        }
    });
}

#[test]
fn asked_finds_a_request_without_a_reply() {
    assert_breach("asked", "has no answer to", |entries| {
        while let Some(place) = reply(entries) {
            entries.remove(place);
        }
    });
}

#[test]
fn asked_finds_an_answer_that_no_instance_gave() {
    assert_breach("asked", "and the instance says", |entries| {
        let gave = |event: &Event| {
            matches!(
                event,
                Event::Room {
                    seen: Seen::Gave { .. },
                    ..
                }
            )
        };
        entries.retain(|entry| !gave(&entry.event));
    });
}

#[test]
fn asked_finds_a_request_that_is_put_twice() {
    assert_breach("asked", "again", |entries| {
        let is_it = |entry: &Entry| match &entry.event {
            Event::Room { seen, .. } => matches!(seen, Seen::Asked { who: Some(_), .. }),
            _ => false,
        };
        if let Some(place) = entries.iter().position(is_it) {
            let copy = entries[place].clone();
            entries.insert(place, copy);
        }
    });
}

#[test]
fn members_finds_a_request_of_a_client_that_is_not_there() {
    assert_breach("members", "asks, and is not there", |entries| {
        for entry in entries {
            if let Event::Room {
                seen: Seen::Asked { who: Some(who), .. },
                ..
            } = &mut entry.event
            {
                // Another one of the same room.
                *who += 1;
            }
        }
    });
}
