//! Each checker fails on a trace that breaks its rule: a good one that was tampered with.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sim::trace::{Ending, Entry, Event};
use sim::{Report, Trace};

/// A run that kept every rule.
fn good() -> &'static Report {
    static GOOD: OnceLock<Report> = OnceLock::new();
    GOOD.get_or_init(|| {
        let report = sim::scenario(7).expect("the run comes to a result");
        report.assert_ok();
        report
    })
}

/// The breach that this checker finds in the good run after `tamper`.
fn breach(checker: &str, tamper: impl FnOnce(&mut Vec<Entry>)) -> Option<String> {
    let mut entries = good().trace.entries().to_vec();
    tamper(&mut entries);
    let report = Report::new(good().plan.clone(), Trace::from_entries(entries));
    let mut violations = report.violations.iter();
    let violation = violations.find(|violation| violation.checker == checker)?;
    Some(violation.breach.text.clone())
}

fn assert_breach(checker: &str, part: &str, tamper: impl FnOnce(&mut Vec<Entry>)) {
    let breach = breach(checker, tamper).unwrap_or_else(|| panic!("{checker}: no `{part}`"));
    assert!(breach.contains(part), "{checker}: {breach}");
}

/// The places of the messages that the clients of a service received.
fn received(entries: &[Entry], service: &str) -> Vec<usize> {
    let client = |entry: &Entry| {
        if let Event::Connecting {
            client, service, ..
        } = &entry.event
        {
            return Some((*client, service.clone()));
        }
        None
    };
    let clients: BTreeMap<u32, String> = entries.iter().filter_map(client).collect();
    let is_theirs = |entry: &Entry| {
        matches!(&entry.event,
            Event::Received { client, .. } if clients[client] == service)
    };
    (0..entries.len())
        .filter(|place| is_theirs(&entries[*place]))
        .collect()
}

fn client_and_text(entry: &mut Entry) -> (u32, &mut String) {
    let Event::Received { client, text } = &mut entry.event else {
        panic!("not a message");
    };
    (*client, text)
}

/// The place of the first event that is looked for.
fn find(entries: &[Entry], is_it: impl Fn(&Event) -> bool) -> usize {
    let place = entries.iter().position(|entry| is_it(&entry.event));
    place.expect("the good run has one")
}

fn is_log(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Log { message, .. } if message == wanted)
}

#[test]
fn ping_finds_a_message_that_comes_twice() {
    assert_breach("ping", "twice", |entries| {
        let place = received(entries, "ping")[10];
        entries.insert(place, entries[place].clone());
    });
}

#[test]
fn ping_finds_a_message_that_is_missing() {
    let places = received(good().trace.entries(), "ping");
    let sample: Vec<usize> = places.into_iter().step_by(50).collect();
    let found = sample.iter().filter(|place| {
        let breach = breach("ping", |entries| drop(entries.remove(**place)));
        breach.is_some()
    });
    // Those that come while a client leaves or its link is cut may be missing.
    assert!(found.count() * 10 > sample.len() * 8);
}

#[test]
fn ping_finds_two_orders() {
    assert_breach("ping", "right after", |entries| {
        let places = received(entries, "ping");
        let client = client_and_text(&mut entries[places[200]]).0;
        let mut theirs = places[200..].iter().copied();
        let mut next = || theirs.find(|place| client_and_text(&mut entries[*place]).0 == client);
        let (one, other) = (next().expect("one"), next().expect("another"));
        let text = client_and_text(&mut entries[one]).1.clone();
        let other_text = std::mem::replace(client_and_text(&mut entries[other]).1, text);
        *client_and_text(&mut entries[one]).1 = other_text;
    });
}

#[test]
fn ping_finds_what_nobody_sent() {
    assert_breach("ping", "nobody had sent", |entries| {
        let place = received(entries, "ping")[10];
        client_and_text(&mut entries[place]).1.push('!');
    });
}

#[test]
fn echo_finds_an_echo_that_is_missing_or_wrong() {
    assert_breach("echo", "as number 0", |entries| {
        let place = received(entries, "echo")[0];
        client_and_text(&mut entries[place]).1.push('!');
    });
    assert_breach("echo", "", |entries| {
        let place = received(entries, "echo")[0];
        entries.remove(place);
    });
}

#[test]
fn timenow_finds_a_wrong_time() {
    assert_breach("timenow", "is no tick", |entries| {
        let place = received(entries, "timenow")[50];
        *client_and_text(&mut entries[place]).1 = "2025-12-22T10:30:00Z".to_owned();
    });
    assert_breach("timenow", "no RFC 3339 time", |entries| {
        let place = received(entries, "timenow")[50];
        *client_and_text(&mut entries[place]).1 = "half past ten".to_owned();
    });
}

#[test]
fn timenow_finds_a_tick_that_drifts() {
    assert_breach("timenow", "is no tick", |entries| {
        let late = received(entries, "timenow");
        // 1 ms later with every tick of a minute.
        let first = entries[late[0]].t;
        for place in late {
            let ticks = (entries[place].t - first) / 2_000_000;
            entries[place].t += ticks * 1000;
        }
    });
}

#[test]
fn timenow_finds_a_tick_that_is_missing_or_comes_twice() {
    assert_breach("timenow", "not told", |entries| {
        let place = received(entries, "timenow")[50];
        entries.remove(place);
    });
    assert_breach("timenow", "again", |entries| {
        let place = received(entries, "timenow")[50];
        entries.insert(place, entries[place].clone());
    });
}

#[test]
fn timenow_finds_a_first_tick_that_is_missing() {
    assert_breach("timenow", "the first tick", |entries| {
        let place = received(entries, "timenow")[0];
        entries.remove(place);
    });
}

#[test]
fn registry_finds_two_instances_at_once() {
    assert_breach("registry", "is there", |entries| {
        let place = find(entries, |event| is_log(event, "instance returned"));
        entries.remove(place);
    });
}

#[test]
fn registry_finds_an_instance_without_clients() {
    assert_breach("registry", "running with 0 clients", |entries| {
        let running =
            |event: &Event| matches!(event, Event::Status { clients, .. } if *clients > 0);
        let place = find(entries, running);
        if let Event::Status { clients, .. } = &mut entries[place].event {
            *clients = 0;
        }
    });
}

#[test]
fn registry_finds_a_client_without_a_session() {
    assert_breach("registry", "there are 0 sessions", |entries| {
        for entry in entries {
            if let Event::Status { sessions_open, .. } = &mut entry.event {
                *sessions_open = 0;
            }
        }
    });
}

#[test]
fn connection_finds_a_client_that_is_not_admitted() {
    assert_breach("connection", "was not admitted", |entries| {
        entries.retain(|entry| !matches!(entry.event, Event::Connected { .. }));
    });
}

#[test]
fn connection_finds_a_wrong_code() {
    assert_breach("connection", "was answered with", |entries| {
        let place = find(entries, |event| matches!(event, Event::Closed { .. }));
        if let Event::Closed { code, .. } = &mut entries[place].event {
            *code = Some(1005);
        }
    });
}

#[test]
fn connection_finds_a_client_that_is_sent_away() {
    assert_breach("connection", "was sent away", |entries| {
        let place = find(entries, |event| matches!(event, Event::Leaving { .. }));
        let Event::Leaving { client, .. } = entries.remove(place).event else {
            return;
        };
        let ending = Ending::Broken;
        entries[place].event = Event::Ended { client, ending };
    });
}

#[test]
fn quiescence_finds_what_is_left() {
    for what in ["topics", "tasks", "deliveries", "sessions"] {
        assert_breach("quiescence", what, |entries| {
            let place = find(entries, |event| matches!(event, Event::Held(_)));
            if let Event::Held(held) = &mut entries[place].event {
                match what {
                    "topics" => held.topics = 1,
                    "tasks" => held.tasks = 1,
                    "deliveries" => held.delivered -= 1,
                    _ => held.opened += 1,
                }
            }
        });
    }
}

#[test]
fn quiescence_finds_a_server_that_does_not_end() {
    assert_breach("quiescence", "serve has not returned", |entries| {
        entries.retain(|entry| !matches!(entry.event, Event::Served { .. }));
    });
    assert_breach("quiescence", "sockets were accepted", |entries| {
        let place = find(entries, |event| matches!(event, Event::Dropped { .. }));
        entries.remove(place);
    });
}
