//! Server-sent events as a session says them: ids from which a client that was cut off goes on.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::limits::{HistoryPolicy, Publish, Recovery, RelayPolicy, Retention, Window};
use busline::session::{Subprotocol, Wish};
use busline::{Limits, ServicePolicy};

use crate::model::crowd::{Crowd, texts};
use crate::model::peer::Peer;
use crate::newsroom::{self, record};

/// An event as a page receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    /// The id of this very event.
    id: Option<String>,
    kind: String,
    data: String,
}

fn event(text: &str) -> Event {
    let text = text.strip_suffix("\n\n").expect("a whole event");
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| *field == name)
    };
    let value = |name: &str| field(name).map(|(_, value)| value.to_owned());
    Event {
        id: value("id"),
        kind: value("event").unwrap_or_else(|| "message".to_owned()),
        data: value("data").expect("each event has data"),
    }
}

fn events(peer: &Peer) -> Vec<Event> {
    texts(peer).iter().map(|text| event(text)).collect()
}

/// The messages among events.
fn messages(events: &[Event]) -> Vec<String> {
    let messages = events.iter().filter(|event| event.kind == "message");
    messages.map(|event| event.data.clone()).collect()
}

fn crowd(recovery: Recovery, window: usize) -> Crowd {
    let retention = Retention {
        messages: NonZeroUsize::new(20).expect("not 0"),
        bytes: 1 << 20,
        ttl: Duration::from_secs(10),
        recovery_max: None,
    };
    let history = HistoryPolicy {
        recovery,
        ..retention.into()
    };
    let relay = RelayPolicy {
        publish: Publish::Members,
        ..RelayPolicy::default()
    };
    let policy = ServicePolicy::of_relay(relay).with_history(history);
    let window = Window {
        messages: NonZeroUsize::new(window).expect("not 0"),
        ..Window::default()
    };
    let limits = Limits {
        window,
        outbox_bytes: 64,
        ..Limits::default()
    };
    Crowd::new(|app| {
        let app = app.limits(limits);
        app.relay_with("news", policy).expect("a valid policy")
    })
}

/// A client with this wish, whose socket takes so many bytes.
fn enter(crowd: &Crowd, wish: Wish, bytes: usize) -> Peer {
    newsroom::enter(crowd, Subprotocol::Events, wish, bytes)
}

/// The wish of an `EventSource` that comes back after these events.
fn again(first: Wish, had: &[Event]) -> Wish {
    let id = had.iter().rev().find_map(|event| event.id.as_deref());
    let id = id.map(|id| id.parse().expect("an id is a position"));
    Wish {
        since: id.or(first.since),
        ..first
    }
}

#[test]
fn a_client_that_is_cut_off_after_any_event_misses_nothing_and_gets_nothing_twice() {
    let start = ":0".parse().ok();
    for (since, last, first) in [(None, 0, 4), (None, 2, 2), (None, 9, 0), (start, 0, 0)] {
        let crowd = crowd(Recovery::Asked, 100);
        (0..4).for_each(|n| drop(record(&crowd, &n.to_string())));
        let wish = Wish { since, last };
        let whole = enter(&crowd, wish, 1 << 20);
        (4..7).for_each(|n| drop(record(&crowd, &n.to_string())));
        let all = events(&whole);
        let expected: Vec<_> = (first..8).map(|n| n.to_string()).collect();
        for cut in 1..=all.len() {
            let had = &all[..cut];
            let came_back = enter(&crowd, again(wish, had), 1 << 20);
            if cut == 1 {
                record(&crowd, "7");
            }
            let then = events(&came_back);
            assert_eq!(then[0].kind, "recovered", "{last}, {cut}: {then:?}");
            assert!(then[0].data.contains("\"recovered\":true"));
            let seen = [messages(had), messages(&then)].concat();
            assert_eq!(seen, expected, "{since:?}, {last}, after {cut} of {all:?}");
        }
    }
}

#[test]
fn each_message_of_a_history_has_its_position_as_its_id_and_a_live_one_has_none() {
    let crowd = crowd(Recovery::Asked, 100);
    let peer = enter(&crowd, Wish::default(), 1 << 20);
    let room = crowd.app.room("news", "a").expect("a key");
    let epoch = room.position().expect("a history").epoch;
    record(&crowd, "a");
    let bob = newsroom::enter(&crowd, Subprotocol::Json, Wish::default(), 1 << 20);
    crowd.say(&bob, r#"{"text":"typing","live":true}"#);
    record(&crowd, "b");
    let ids: Vec<_> = events(&peer).into_iter().map(|event| event.id).collect();
    let at = |offset: u64| Some(format!("{epoch}:{offset}"));
    assert_eq!(ids, [at(0), at(1), None, at(2)]);
}

#[test]
fn a_client_that_cannot_recover_is_told_why_and_goes_on_from_the_present() {
    let crowd = crowd(Recovery::Asked, 100);
    (0..30).for_each(|n| drop(record(&crowd, &n.to_string())));
    let position = crowd.app.room("news", "a").expect("a key").position();
    let position = position.expect("a history");
    for (since, why) in [
        ("0000000000000001:30".to_owned(), "epoch"),
        (format!("{}:3", position.epoch), "evicted"),
        (format!("{}:31", position.epoch), "ahead"),
    ] {
        let since = since.parse().ok();
        let wish = Wish { since, last: 0 };
        let told = events(&enter(&crowd, wish, 1 << 20));
        assert_eq!(told.len(), 1, "none of the missed ones is sent: {told:?}");
        assert!(
            told[0].data.contains(&format!("\"why\":\"{why}\"")),
            "{told:?}"
        );
        assert_eq!(told[0].id, Some(position.to_string()));
    }
}

#[test]
fn nobody_is_told_an_id_where_nobody_recovers() {
    let crowd = crowd(Recovery::Off, 100);
    (0..3).for_each(|n| drop(record(&crowd, &n.to_string())));
    let wish = Wish {
        since: ":1".parse().ok(),
        last: 2,
    };
    let peer = enter(&crowd, wish, 1 << 20);
    record(&crowd, "3");
    let told = events(&peer);
    assert_eq!(messages(&told), ["1", "2", "3"]);
    assert!(
        told.iter()
            .all(|event| event.id.is_none() && event.kind == "message")
    );
}

#[test]
fn the_newest_value_comes_first_where_that_is_the_policy_whatever_the_client_shows() {
    let crowd = crowd(Recovery::Newest, 100);
    (0..3).for_each(|n| drop(record(&crowd, &n.to_string())));
    for since in [None, ":0".parse().ok()] {
        let told = events(&enter(&crowd, Wish { since, last: 0 }, 1 << 20));
        let kinds: Vec<_> = told.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["position", "message"]);
        assert_eq!(messages(&told), ["2"]);
    }
}

#[test]
fn a_slow_reader_gets_from_the_history_what_fell_out_of_the_window_and_is_told_of_the_rest() {
    for (published, lost) in [(15_u64, 0), (30, 8)] {
        let crowd = crowd(Recovery::Asked, 2);
        let peer = enter(&crowd, Wish::default(), 0);
        (1..=published).for_each(|n| drop(record(&crowd, &n.to_string())));
        peer.make_room(1 << 20);
        crowd.rt.settle();
        let told = events(&peer);
        let lagged = told.iter().find(|event| event.kind == "lagged");
        let data = lagged.map(|event| event.data.as_str());
        let seen = messages(&told);
        let missing = published - seen.len() as u64;
        let expected = (missing > 0).then(|| format!("{{\"lagged\":{missing}}}"));
        assert_eq!(data, expected.as_deref());
        assert_eq!(missing > 0, lost > 0, "{told:?}");
        // In order, once each, and the ids say which.
        let offsets: Vec<u64> = told
            .iter()
            .filter(|event| event.kind == "message")
            .filter_map(|event| event.id.as_ref()?.split_once(':')?.1.parse().ok())
            .collect();
        let same: Vec<_> = offsets.iter().map(u64::to_string).collect();
        assert_eq!(seen, same);
        assert!(offsets.is_sorted_by(|a, b| a < b));
        assert_eq!(offsets.last(), Some(&published));
    }
}
