//! Each rule that holds of all plans is broken by a trace that was tampered with.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each test tampers with some kinds of events"
)]

use std::path::Path;
use std::sync::OnceLock;

use sim::plan::{Action, Plan};
use sim::plan_file::PlanFile;
use sim::swarm::swarm;
use sim::trace::{Ending, Entry, Event, Held};
use sim::{Report, Trace};

const SEEDS: u64 = 150;

/// Runs of wild plans, all of them good.
fn good() -> &'static [(Plan, Trace)] {
    static GOOD: OnceLock<Vec<(Plan, Trace)>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let run = |seed| {
            let plan = swarm(seed);
            let trace = sim::run::run(&plan).expect("the run comes to a result");
            (plan, trace)
        };
        (0..SEEDS).map(run).collect()
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

fn is_log(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Log { message, .. } if message == wanted)
}

/// The connection that the server did something with.
fn conn_of(event: &Event) -> Option<u32> {
    match event {
        Event::Blocked { conn }
        | Event::Dropped { conn }
        | Event::Failed { conn, .. }
        | Event::Read { conn, .. }
        | Event::ReadEnd { conn }
        | Event::Shutdown { conn }
        | Event::Written { conn, .. } => Some(*conn),
        _ => None,
    }
}

/// Leaves out what the server does with the connection of the last such event, after that.
fn forget_after(entries: &mut Vec<Entry>, is_it: impl Fn(&Event) -> bool) {
    let Some(place) = entries.iter().rposition(|entry| is_it(&entry.event)) else {
        return;
    };
    let conn = conn_of(&entries[place].event);
    let after = entries.split_off(place + 1);
    let is_left = |entry: &Entry| conn_of(&entry.event) != conn;
    entries.extend(after.into_iter().filter(is_left));
}

fn tamper_held(entries: &mut [Entry], tamper: impl Fn(&mut Held)) {
    for entry in entries {
        if let Event::Held(held) = &mut entry.event {
            tamper(held);
        }
    }
}

/// A close frame of a session with this code.
fn is_close(event: &Event, code: u16) -> bool {
    let [high, low] = code.to_be_bytes();
    let close = |bytes: &[u8]| matches!(bytes, [0x88, _, h, l, ..] if [*h, *l] == [high, low]);
    matches!(event, Event::Written { data, .. } if close(data))
}

/// Has the first session that is closed with one code be closed with another one.
fn recode(entries: &mut [Entry], (from, to): (u16, u16)) {
    for entry in entries {
        let is_it = is_close(&entry.event, from);
        if let Event::Written { data, .. } = &mut entry.event
            && is_it
        {
            data[2..4].copy_from_slice(&to.to_be_bytes());
            return;
        }
    }
}

fn is_failed(entry: &Entry) -> bool {
    entry.event == Event::AcceptFailed
}

#[test]
fn accepting_finds_a_server_that_asks_without_pause() {
    assert_breach("accepting", "failed within a second", |entries| {
        if let Some(place) = entries.iter().position(is_failed) {
            let copies = vec![entries[place].clone(); 20];
            entries.splice(place..place, copies);
        }
    });
}

#[test]
fn accepting_finds_a_server_that_gives_up() {
    assert_breach("accepting", "was not accepted", |entries| {
        if let Some(place) = entries.iter().position(is_failed) {
            let after = entries.split_off(place);
            let is_left = |entry: &Entry| {
                !matches!(
                    entry.event,
                    Event::Connected { .. } | Event::Refused { .. } | Event::Ended { .. }
                )
            };
            entries.extend(after.into_iter().filter(is_left));
        }
    });
}

#[test]
fn accepting_finds_a_server_that_gives_up_while_a_link_is_held() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let plan = PlanFile::read(&folder.join("accepting-in-a-hold.json"));
    let plan = plan.expect("it is there").plan;
    let trace = sim::run::run(&plan).expect("the run comes to a result");
    let is_left = |entry: &&Entry| {
        !matches!(
            entry.event,
            Event::Connected { .. } | Event::Closed { .. } | Event::Ended { .. }
        )
    };
    let entries: Vec<_> = trace.entries().iter().filter(is_left).cloned().collect();
    let report = Report::new(plan, Trace::from_entries(entries));
    let mut violations = report.violations.iter();
    let breach = violations.find(|violation| violation.checker == "accepting");
    let breach = &breach.expect("nobody is served").breach;
    assert!(breach.text.contains("was not accepted"), "{}", breach.text);
}

#[test]
fn arriving_finds_a_message_that_has_no_end() {
    assert_breach("arriving", "sends a message since", |entries| {
        let is_it = |entry: &Entry| is_close(&entry.event, 1008);
        if let Some(place) = entries.iter().position(is_it) {
            let conn = conn_of(&entries[place].event);
            let after = entries.split_off(place);
            let is_left = |entry: &Entry| conn_of(&entry.event) != conn;
            entries.extend(after.into_iter().filter(is_left));
        }
    });
}

#[test]
fn arriving_finds_a_client_that_is_closed_with_1008_for_nothing() {
    assert_breach("arriving", "for nothing", |entries| {
        recode(entries, (1001, 1008));
    });
}

#[test]
fn bounds_finds_a_session_too_many() {
    assert_breach("bounds", "sessions are there", |entries| {
        let is_opened = |entry: &Entry| is_log(&entry.event, "session opened");
        if let Some(place) = entries.iter().rposition(is_opened) {
            let copies = vec![entries[place].clone(); 7];
            entries.splice(place..place, copies);
        }
    });
}

#[test]
fn bounds_finds_a_client_refused_while_there_is_room() {
    assert_breach("bounds", "was refused with", |entries| {
        for entry in entries {
            if let Event::Written { data, .. } = &mut entry.event
                && data.starts_with(b"HTTP/1.1 101")
            {
                data[9] = b'2';
            }
        }
    });
}

#[test]
fn bounds_finds_a_message_that_is_too_long() {
    assert_breach("bounds", "received a message of", |entries| {
        for entry in entries {
            if let Event::Received { text, .. } = &mut entry.event {
                text.push_str(&"x".repeat(70_000));
            }
        }
    });
}

#[test]
fn bounds_finds_a_loss_from_a_window_with_room() {
    assert_breach("bounds", "messages were lost", |entries| {
        tamper_held(entries, |held| {
            (held.published, held.bytes_in, held.lost_lagged) = (1, 0, 1);
        });
    });
}

#[test]
fn codes_finds_a_close_frame_without_a_cause() {
    assert_breach("codes", "had a cause for it", |entries| {
        for entry in entries {
            if let Event::Log { fields, .. } = &mut entry.event {
                fields.remove("code");
            }
        }
    });
}

#[test]
fn deadlines_finds_a_connection_without_an_answer() {
    assert_breach("deadlines", "has no answer", |entries| {
        entries.retain(|entry| conn_of(&entry.event).is_none());
    });
}

#[test]
fn deadlines_finds_a_socket_that_takes_nothing() {
    assert_breach("deadlines", "takes nothing", |entries| {
        forget_after(entries, |event| matches!(event, Event::Blocked { .. }));
    });
}

#[test]
fn deadlines_finds_a_client_that_says_nothing() {
    assert_breach("deadlines", "says nothing", |entries| {
        let is_gone = |event: &Event| {
            matches!(
                event,
                Event::Read { .. } | Event::Shutdown { .. } | Event::Dropped { .. }
            )
        };
        let is_blocked = |entry: &Entry| matches!(entry.event, Event::Blocked { .. });
        if !entries.iter().any(is_blocked) {
            entries.retain(|entry| !is_gone(&entry.event));
        }
    });
}

#[test]
fn deadlines_finds_a_client_that_speaks_and_is_closed_as_silent() {
    assert_breach("deadlines", "was closed with 1011, and spoke", |entries| {
        recode(entries, (1001, 1011));
    });
}

#[test]
fn deadlines_finds_a_connection_that_is_left_open() {
    for part in ["was closed since", "does not take its response"] {
        assert_breach("deadlines", part, |entries| {
            entries.retain(|entry| !matches!(entry.event, Event::Dropped { .. }));
        });
    }
}

#[test]
fn deadlines_finds_a_healthy_client_that_is_dropped() {
    assert_breach("deadlines", "was dropped", |entries| {
        entries.retain(|entry| !matches!(entry.event, Event::Closed { .. }));
        for entry in entries {
            if let Event::Ended { ending, .. } = &mut entry.event {
                *ending = Ending::Broken;
            }
        }
    });
}

#[test]
fn drain_finds_a_client_that_is_let_in() {
    assert_breach("drain", "was upgraded after", |entries| {
        let action = Action::Drain;
        let drain = Event::Acted { action };
        if let Some(place) = entries.iter().position(|entry| entry.event == drain) {
            let mut drain = entries.remove(place);
            drain.t = 1;
            entries.insert(1, drain);
        }
    });
}

#[test]
fn drain_finds_a_client_that_is_not_told() {
    assert_breach("drain", "was not told", |entries| {
        let goes_away = |data: &[u8]| data.windows(2).any(|part| part == [0x03, 0xe9]);
        entries.retain(|entry| match &entry.event {
            Event::Written { data, .. } => !goes_away(data),
            Event::ReadEnd { .. } => false,
            _ => true,
        });
    });
}

#[test]
fn drain_finds_a_server_that_takes_too_long() {
    assert_breach("drain", "not returned in time", |entries| {
        for entry in entries {
            if matches!(entry.event, Event::Served { .. }) {
                entry.t += 60_000_000;
            }
        }
    });
}

#[test]
fn leases_finds_a_client_too_many_and_one_too_few() {
    for change in [1, -1] {
        assert_breach("leases", "have a session", |entries| {
            for entry in entries {
                if let Event::Status { clients, .. } = &mut entry.event {
                    *clients = clients.saturating_add_signed(change);
                }
            }
        });
    }
}

#[test]
fn metrics_finds_each_counter_that_is_wrong() {
    type Tamper = fn(&mut Held);
    let counters: [(&str, Tamper); 9] = [
        ("opened", |held| held.opened += 1),
        ("closed", |held| held.closed += 1),
        ("refused", |held| held.refused += 100),
        ("messages_out", |held| held.messages_out += 1),
        ("bytes_out", |held| held.bytes_out += 1),
        ("pings", |held| held.pings += 100),
        ("messages_in", |held| held.messages_in += 100),
        ("bytes_in", |held| held.bytes_in += 10_000),
        ("delivered", |held| held.delivered += 10_000),
    ];
    for (counter, tamper) in counters {
        let part = format!("{counter} is ");
        assert_breach("metrics", &part, |entries| tamper_held(entries, tamper));
    }
}

#[test]
fn prompt_finds_a_message_that_waited() {
    assert_breach("prompt", "us late", |entries| {
        for entry in entries {
            if matches!(entry.event, Event::Received { .. }) {
                entry.t += 5_000_000;
            }
        }
    });
}

#[test]
fn timenow_finds_a_date_that_does_not_follow_the_clock() {
    assert_breach("timenow", "is no tick", |entries| {
        let is_set = |event: &Event| {
            if let Event::Acted {
                action: Action::Wall { by_ms },
            } = event
            {
                return *by_ms > 1_000;
            }
            false
        };
        entries.retain(|entry| !is_set(&entry.event));
    });
}

#[test]
fn timenow_finds_a_tick_off_its_raster() {
    assert_breach("timenow", "is no tick", |entries| {
        for entry in entries {
            if is_log(&entry.event, "service started") {
                entry.t += 1_000_000;
            }
        }
    });
}

#[test]
fn registry_finds_two_instances_in_a_wild_run() {
    assert_breach("registry", "is there", |entries| {
        entries.retain(|entry| !is_log(&entry.event, "instance returned"));
    });
}

#[test]
fn lifecycle_finds_a_service_that_is_started_before_its_backoff() {
    assert_breach("lifecycle", "has crashed, and rested 0 us", |entries| {
        let crashed = |entry: &Entry| match &entry.event {
            Event::Log { message, .. } => message.starts_with("service crashed"),
            _ => false,
        };
        let Some(place) = entries.iter().position(crashed) else {
            return;
        };
        let t = entries[place].t;
        let after = entries[place..].iter_mut();
        let mut started = after.filter(|entry| is_log(&entry.event, "service started"));
        if let Some(entry) = started.next() {
            entry.t = t;
        }
    });
}

#[test]
fn pongs_finds_a_ping_without_an_answer() {
    assert_breach("pongs", "has no answer to its ping", |entries| {
        let pongs = |entry: &mut Entry| match &mut entry.event {
            // Text instead.
            Event::Written { data, .. } if data.first() == Some(&0x8a) => data[0] = 0x81,
            _ => {}
        };
        entries.iter_mut().for_each(pongs);
    });
}

/// Has the last look at a history, of one that was seen before with a message, show another epoch.
fn change_epoch(entries: &mut [Entry]) {
    let is_used = |entry: &Entry| matches!(&entry.event, Event::Journal { top, .. } if *top > 0);
    let Some(first) = entries.iter().position(is_used) else {
        return;
    };
    let Event::Journal { room: used, .. } = entries[first].event.clone() else {
        return;
    };
    for entry in entries.iter_mut().skip(first + 1).rev() {
        match &mut entry.event {
            Event::Started => return,
            Event::Journal { room, epoch, .. } if *room == used => {
                *epoch = "0".repeat(16);
                return;
            }
            _ => {}
        }
    }
}

/// Whether the server wrote a frame with a text that has these words.
fn is_told(event: &Event, words: &str) -> bool {
    let Event::Written { data, .. } = event else {
        return false;
    };
    data.first() == Some(&0x81) && String::from_utf8_lossy(data).contains(words)
}

#[test]
fn recovery_finds_an_epoch_that_changes() {
    assert_breach("recovery", " became 0000", |entries| change_epoch(entries));
}

#[test]
fn recovery_finds_an_epoch_that_a_crash_has_left() {
    assert_breach("recovery", "of another one", |entries| {
        for entry in entries {
            if let Event::Journal { epoch, .. } = &mut entry.event {
                *epoch = "0".repeat(16);
            }
        }
    });
}

#[test]
fn recovery_finds_a_reason_that_is_not_true() {
    assert_breach("recovery", "was told Some(\"removed\")", |entries| {
        for entry in entries {
            let is_it = is_told(&entry.event, "\"why\":\"evicted\"");
            if let Event::Written { data, .. } = &mut entry.event
                && is_it
            {
                let place = data.windows(7).position(|part| part == b"evicted");
                let place = place.expect("it is there");
                data[place..place + 7].copy_from_slice(b"removed");
            }
        }
    });
}

#[test]
fn recovery_finds_a_message_that_comes_twice() {
    assert_breach("recovery", "was given", |entries| {
        let is_it = |entry: &Entry| is_told(&entry.event, "\"offset\":1,");
        if let Some(place) = entries.iter().position(is_it) {
            let copy = entries[place].clone();
            entries.insert(place, copy);
        }
    });
}

#[test]
fn recovery_finds_messages_that_do_not_come() {
    assert_breach("recovery", "stands at", |entries| {
        entries.retain(|entry| !is_told(&entry.event, "\"from\":{\"client\""));
    });
}
