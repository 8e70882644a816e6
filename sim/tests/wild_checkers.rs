//! Each checker of wild plans fails on a trace that breaks its rule: a good one, tampered with.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each test tampers with one kind of event"
)]

use sim::swarm::{PROBES, swarm};
use sim::trace::{Entry, Event};
use sim::{Report, Trace};

/// Looks for a seed whose trace, tampered with, breaks the rule in these words.
fn assert_breach(checker: &str, part: &str, tamper: impl Fn(&mut Event) -> bool) {
    for seed in 0..30 {
        let plan = swarm(seed);
        let trace = sim::run::run(&plan).expect("the run comes to a result");
        let mut entries: Vec<Entry> = trace.entries().to_vec();
        let hit = entries.iter_mut().any(|entry| tamper(&mut entry.event));
        let report = Report::new(plan, Trace::from_entries(entries));
        let found = report
            .violations
            .iter()
            .any(|violation| violation.checker == checker && violation.breach.text.contains(part));
        if hit && found {
            return;
        }
    }
    panic!("{checker}: no `{part}`");
}

#[test]
fn protocol_finds_a_frame_with_a_reserved_bit() {
    assert_breach("protocol", "reserved bits", |event| match event {
        Event::Written { data, .. } if !data.starts_with(b"HTTP") => {
            data[0] |= 0x40;
            true
        }
        _ => false,
    });
}

#[test]
fn conservation_finds_a_message_that_was_counted_and_not_sent() {
    assert_breach("conservation", "messages out", |event| match event {
        Event::Held(held) => {
            held.messages_out += 1;
            true
        }
        _ => false,
    });
}

#[test]
fn isolation_finds_a_service_that_fails_with_another_one() {
    assert_breach("isolation", "ping is failed", |event| match event {
        Event::Status { service, state, .. } if service == "ping" => {
            *state = "failed";
            true
        }
        _ => false,
    });
}

#[test]
fn order_finds_what_was_not_sent() {
    assert_breach("order", "had not sent", |event| match event {
        Event::Received { client, text } if *client == PROBES => {
            text.push('!');
            true
        }
        _ => false,
    });
}

#[test]
fn closing_finds_a_code_without_a_cause() {
    assert_breach("closing", "was closed with", |event| match event {
        Event::Closed { code, .. } => {
            *code = Some(1008);
            true
        }
        _ => false,
    });
}

#[test]
fn liveness_finds_a_client_that_waits() {
    assert_breach("liveness", "is not connected", |event| match event {
        Event::Connected { client } if *client == PROBES => {
            *client = u32::MAX;
            true
        }
        _ => false,
    });
}

#[test]
fn rest_finds_a_task_that_is_left() {
    assert_breach("rest", "1 tasks are left", |event| match event {
        Event::Held(held) => {
            held.tasks = 1;
            true
        }
        _ => false,
    });
}

#[test]
fn lifecycle_finds_a_crash_too_many_and_a_linger_that_is_left_out() {
    assert_breach(
        "lifecycle",
        "has failed: true, after",
        |event| match event {
            Event::Log { message, .. } if message.starts_with("service crashed") => {
                "service failed, said by nobody".clone_into(message);
                true
            }
            _ => false,
        },
    );
    assert_breach("lifecycle", "stops after 0 us of", |event| match event {
        Event::Log { message, .. } if message == "service lingers" => {
            "service lurks".clone_into(message);
            true
        }
        _ => false,
    });
}
