//! Histories as the clients of a relay see them: positions, recovery, replies, and their order.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::bus::Reading;
use busline::limits::{
    HistoryPolicy, Publish, Readers, Recovery, RelayPolicy, Retention, SlowConsumer, Window,
};
use busline::session::{Admission, AdmitError, Asking, Subprotocol, Wish};
use busline::{App, CloseReason, Context, Limits, Peer as Who, ServicePolicy};
use serde_json::{Value, json};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::executor::Manual;
use crate::model::peer::Peer;

/// A history of four messages, for ten seconds.
const RETENTION: Retention = Retention {
    messages: NonZeroUsize::new(4).expect("not 0"),
    bytes: 1 << 20,
    ttl: Duration::from_secs(10),
    recovery_max: Some(3),
};

/// The policy of a relay in which every client may publish.
fn policy(history: HistoryPolicy, echo: bool) -> ServicePolicy {
    let relay = RelayPolicy {
        publish: Publish::Members,
        echo,
        ..RelayPolicy::default()
    };
    ServicePolicy::of_relay(relay).with_history(history)
}

fn crowd(policy: ServicePolicy) -> Crowd {
    Crowd::new(|app| app.relay_with("news", policy).expect("a valid policy"))
}

fn asked() -> Crowd {
    crowd(policy(RETENTION.into(), true))
}

fn admit(app: &App<Manual>, asking: Asking) -> Result<Admission<Manual>, AdmitError> {
    let room = app.registry().room("news", Some("a")).expect("a key");
    Admission::request_wishing(app, &room, Who::default(), asking)
}

/// A client with this wish, whose socket takes so many bytes.
fn enter(crowd: &Crowd, subprotocol: Subprotocol, wish: Wish, bytes: usize) -> Peer {
    let admission = admit(
        &crowd.app,
        Asking {
            subprotocol,
            wish,
            join_leave: false,
        },
    )
    .expect("admitted");
    let peer = crowd.serve(admission, bytes);
    crowd.rt.settle();
    peer
}

/// A client of `busline.v1.json` that shows this position, if there is one.
fn json(crowd: &Crowd, since: Option<&str>) -> Peer {
    let since = since.map(|since| since.parse().expect("a position"));
    let wish = Wish { since, last: 0 };
    enter(crowd, Subprotocol::Json, wish, 1 << 20)
}

/// All that the client was told, as JSON.
fn told(peer: &Peer) -> Vec<Value> {
    let all = texts(peer).into_iter();
    all.map(|text| serde_json::from_str(&text).expect("JSON"))
        .collect()
}

/// Publishes from outside.
fn record(crowd: &Crowd, text: &str) -> String {
    let room = crowd.app.room("news", "a").expect("a key");
    let position = room.record(text).expect("it has a history");
    crowd.rt.settle();
    position.to_string()
}

fn epoch(crowd: &Crowd) -> String {
    let room = crowd.app.room("news", "a").expect("a key");
    room.position().expect("a history").epoch.to_string()
}

#[test]
fn a_client_is_told_where_it_stands_and_each_message_has_its_offset() {
    let crowd = asked();
    let ann = json(&crowd, None);
    let epoch = epoch(&crowd);
    record(&crowd, "one");
    crowd.say(&ann, r#"{"text":"two"}"#);
    let from = json!({ "client": 1, "subject": null });
    let expected = [
        json!({ "position": { "epoch": epoch, "offset": 0 } }),
        json!({ "text": "one", "offset": 1 }),
        json!({ "text": "two", "offset": 2, "from": from }),
    ];
    assert_eq!(told(&ann), expected);
    // A plain client sees no difference.
    let bob = enter(&crowd, Subprotocol::Plain, Wish::default(), 1 << 20);
    record(&crowd, "three");
    assert_eq!(texts(&bob), ["three"]);
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_is_told_so_first() {
    let crowd = asked();
    let since = record(&crowd, "one");
    record(&crowd, "two");
    record(&crowd, "three");
    let ann = json(&crowd, Some(&since));
    record(&crowd, "four");
    let expected = [
        json!({ "recovered": true, "epoch": epoch(&crowd), "offset": 3 }),
        json!({ "text": "two", "offset": 2 }),
        json!({ "text": "three", "offset": 3 }),
        json!({ "text": "four", "offset": 4 }),
    ];
    assert_eq!(told(&ann), expected);
}

#[test]
fn a_client_that_cannot_recover_is_told_why_and_gets_no_part() {
    let crowd = asked();
    let first = record(&crowd, "0");
    let epoch = epoch(&crowd);
    let not = |since: &str, why: &str, offset: u64| {
        let told = told(&json(&crowd, Some(since)));
        let expected = json!({
            "recovered": false, "why": why, "epoch": epoch, "offset": offset,
        });
        assert_eq!(told, [expected], "{since}");
    };
    not("0000000000000000:0", "epoch", 1);
    not(&format!("{epoch}:2"), "ahead", 1);
    for text in ["1", "2", "3"] {
        record(&crowd, text);
    }
    not(&format!("{epoch}:0"), "too_many", 4);
    record(&crowd, "4");
    not(&format!("{epoch}:0"), "evicted", 5);
    crowd.wait(10_001);
    not(&first, "expired", 5);
    // Nothing is missing at the top, also after everything has expired.
    let top = told(&json(&crowd, Some(&format!(":{}", 5))));
    assert_eq!(
        top,
        [json!({ "recovered": true, "epoch": epoch, "offset": 5 })]
    );
    let room = crowd.app.room("news", "a").expect("a key");
    record(&crowd, "5");
    room.remove_history();
    not(&format!("{epoch}:5"), "removed", 6);
}

#[test]
fn a_slow_client_reads_on_from_the_history_and_is_told_what_is_lost_for_good() {
    let narrow = Window {
        messages: NonZeroUsize::new(2).expect("not 0"),
        bytes: 1 << 20,
    };
    let policy = ServicePolicy {
        window: Some(narrow),
        ..policy(RETENTION.into(), true)
    };
    let crowd = crowd(policy);
    let texts = |from: u64, to: u64| (from..=to).map(|n| json!({ "text": "x", "offset": n }));
    for (published, lost) in [(4_u64, 0_u64), (5, 1), (9, 5)] {
        let ann = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
        let before = crowd.app.room("news", "a").expect("a key");
        let before = before.position().expect("a history");
        for _ in 0..published {
            record(&crowd, "x");
        }
        ann.make_room(1 << 20);
        crowd.rt.settle();
        let (epoch, first) = (before.epoch.to_string(), before.offset);
        let position = json!({ "position": { "epoch": epoch, "offset": first } });
        let mut expected = vec![position];
        if lost > 0 {
            expected.push(json!({ "lagged": lost }));
        }
        expected.extend(texts(first + 1 + lost, first + published));
        assert_eq!(told(&ann), expected, "{published} messages");
    }
}

#[test]
fn a_reply_follows_the_own_message_and_live_messages_have_no_offset() {
    let crowd = asked();
    let ann = json(&crowd, None);
    let epoch = epoch(&crowd);
    crowd.say(&ann, r#"{"text":"one","id":7}"#);
    crowd.say(&ann, r#"{"text":"two","id":8,"live":true}"#);
    crowd.say(&ann, r#"{"text":"three","live":true}"#);
    let from = json!({ "client": 1, "subject": null });
    let expected = [
        json!({ "position": { "epoch": epoch, "offset": 0 } }),
        json!({ "text": "one", "offset": 1, "from": from }),
        json!({ "id": 7, "published": { "epoch": epoch, "offset": 1 } }),
        json!({ "text": "two", "from": from }),
        json!({ "id": 8, "published": {} }),
        json!({ "text": "three", "from": from }),
    ];
    assert_eq!(told(&ann), expected);
    let room = crowd.app.room("news", "a").expect("a key");
    assert_eq!(room.position().expect("a history").offset, 1);
}

#[test]
fn an_excluded_client_is_told_that_its_position_rises_and_recovers_its_own_message() {
    let crowd = crowd(policy(RETENTION.into(), false));
    let ann = json(&crowd, None);
    let epoch = epoch(&crowd);
    crowd.say(&ann, r#"{"text":"mine","id":1}"#);
    let at = |offset: u64| json!({ "position": { "epoch": epoch, "offset": offset } });
    let published = json!({ "id": 1, "published": { "epoch": epoch, "offset": 1 } });
    assert_eq!(told(&ann), [at(0), at(1), published]);
    let back = json(&crowd, Some(&format!("{epoch}:0")));
    let from = json!({ "client": 1, "subject": null });
    let expected = [
        json!({ "recovered": true, "epoch": epoch, "offset": 1 }),
        json!({ "text": "mine", "offset": 1, "from": from }),
    ];
    assert_eq!(told(&back), expected);
}

#[test]
fn a_history_is_read_in_both_directions_and_a_fault_has_a_number() {
    let crowd = asked();
    let ann = json(&crowd, None);
    let epoch = epoch(&crowd);
    for text in ["1", "2", "3"] {
        record(&crowd, text);
    }
    let entry = |n: u64| json!({ "text": n.to_string(), "offset": n });
    for (asked, messages) in [
        ("{}", vec![entry(1), entry(2), entry(3)]),
        (r#"{"limit":2,"reverse":true}"#, vec![entry(3), entry(2)]),
        (r#"{"since":":1","limit":1}"#, vec![entry(2)]),
        (r#"{"limit":0}"#, vec![]),
    ] {
        crowd.say(&ann, &format!(r#"{{"id":1,"history":{asked}}}"#));
        let history = json!({ "messages": messages, "epoch": epoch, "offset": 3 });
        let expected = json!({ "id": 1, "history": history });
        assert_eq!(told(&ann).pop(), Some(expected), "{asked}");
    }
    for (asked, code) in [
        (r#"{"since":"0000000000000000:1"}"#, 112),
        (r#"{"since":"1"}"#, 107),
    ] {
        crowd.say(&ann, &format!(r#"{{"id":2,"history":{asked}}}"#));
        let last = told(&ann).pop().expect("a reply");
        assert_eq!(last["error"]["code"], json!(code), "{asked}: {last}");
    }
}

#[test]
fn a_history_that_nobody_may_read_and_one_that_is_not_there_are_refused_by_number() {
    let hidden = HistoryPolicy {
        read: Readers::Nobody,
        ..RETENTION.into()
    };
    let forbidden = ServicePolicy {
        publish: Publish::Nobody,
        ..policy(hidden, true)
    };
    let without = ServicePolicy {
        history: None,
        slow_consumer: SlowConsumer::Skip,
        ..forbidden.clone()
    };
    for (policy, code) in [(forbidden.clone(), 103), (without, 108)] {
        let crowd = crowd(policy);
        let ann = json(&crowd, None);
        crowd.say(&ann, r#"{"id":1,"history":{}}"#);
        crowd.say(&ann, r#"{"id":2,"text":"x"}"#);
        let codes: Vec<_> = told(&ann)
            .into_iter()
            .filter_map(|told| told["error"]["code"].as_u64())
            .collect();
        assert_eq!(codes, [code, 103]);
        assert_eq!(
            crowd
                .app
                .counts()
                .sessions
                .closed_for(CloseReason::NotAllowed),
            0
        );
    }
    let crowd = crowd(forbidden);
    let wish = Wish {
        since: None,
        last: 2,
    };
    let subprotocol = Subprotocol::Plain;
    let refused = admit(
        &crowd.app,
        Asking {
            subprotocol,
            wish,
            join_leave: false,
        },
    )
    .map(drop);
    assert_eq!(refused, Err(AdmitError::HistoryForbidden));
}

#[test]
fn the_last_messages_come_first_where_they_are_wanted_and_the_newest_where_the_kind_says() {
    let crowd = asked();
    for text in ["1", "2", "3"] {
        record(&crowd, text);
    }
    for (last, expected) in [(0, &[][..]), (2, &["2", "3"]), (9, &["1", "2", "3"])] {
        let wish = Wish { since: None, last };
        let ann = enter(&crowd, Subprotocol::Plain, wish, 1 << 20);
        assert_eq!(texts(&ann), expected, "the last {last}");
    }
    let newest = HistoryPolicy {
        recovery: Recovery::Newest,
        ..RETENTION.into()
    };
    let crowd = self::crowd(policy(newest, true));
    record(&crowd, "1");
    record(&crowd, "2");
    let plain = enter(&crowd, Subprotocol::Plain, Wish::default(), 1 << 20);
    assert_eq!(texts(&plain), ["2"]);
    let off = HistoryPolicy {
        recovery: Recovery::Off,
        ..RETENTION.into()
    };
    let crowd = self::crowd(policy(off, false));
    record(&crowd, "1");
    let ann = json(&crowd, Some(":0"));
    record(&crowd, "2");
    crowd.say(&ann, r#"{"text":"3"}"#);
    assert_eq!(told(&ann), [json!({ "text": "2", "offset": 2 })]);
}

#[test]
fn a_history_outlives_its_clients_and_then_its_memory_is_free() {
    let limits = Limits {
        history: busline::limits::HistoryLimits {
            position_ttl: Duration::from_secs(60),
            ..busline::limits::HistoryLimits::default()
        },
        ..Limits::default()
    };
    let crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        let app = app.relay_with("news", policy(RETENTION.into(), true));
        app.expect("a valid policy")
    });
    let ann = json(&crowd, None);
    let first = record(&crowd, "1");
    let epoch = epoch(&crowd);
    ann.reset();
    crowd.wait(1);
    let kept = |crowd: &Crowd| crowd.app.bus().histories();
    assert_eq!((kept(&crowd).live, kept(&crowd).shelved), (0, 1));
    record(&crowd, "2");
    let back = json(&crowd, Some(&first));
    assert_eq!(told(&back).len(), 2, "{:?}", told(&back));
    back.reset();
    crowd.wait(20_000);
    assert_eq!((kept(&crowd).bytes, kept(&crowd).shelved), (0, 1));
    assert_eq!(
        self::epoch(&crowd),
        epoch,
        "a position outlives its messages"
    );
    crowd.wait(60_000);
    assert_eq!((kept(&crowd).shelved, kept(&crowd).forgotten), (0, 1));
    assert_ne!(self::epoch(&crowd), epoch);
}

/// Publishes each text that a client says, live alone if it is `live`, and answers with the number
/// of messages in the history and its offset.
async fn chronicle(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        match message.as_text() {
            Some("live") => ctx.publish_live("typing"),
            Some("crash") => panic!("on purpose"),
            _ => ctx.publish(&message),
        };
        let all = Reading {
            since: None,
            limit: 9,
            reverse: false,
        };
        let kept = ctx.history(&all).map(|page| page.messages.len());
        let offset = ctx.position().map(|position| position.offset);
        let answer = format!("{kept:?} {offset:?}");
        ctx.reply(&message, answer);
    }
}

#[test]
fn a_service_reads_its_history_which_a_crash_leaves_as_it_is() {
    let policy = ServicePolicy::of_rooms().with_history(RETENTION);
    let crowd = Crowd::new(|app| {
        let app = app.room_with("news", chronicle, policy);
        app.expect("a valid policy")
    });
    let ann = json(&crowd, None);
    let epoch = epoch(&crowd);
    for (said, expected) in [
        ("one", json!({ "text": "Ok(1) Some(1)" })),
        ("live", json!({ "text": "Ok(1) Some(1)" })),
        ("two", json!({ "text": "Ok(2) Some(2)" })),
    ] {
        crowd.say(&ann, &format!(r#"{{"text":"{said}"}}"#));
        assert_eq!(told(&ann).pop(), Some(expected), "{said}");
    }
    crowd.say(&ann, r#"{"text":"crash"}"#);
    crowd.wait(1_000);
    crowd.say(&ann, r#"{"text":"three","id":5}"#);
    let last: Vec<_> = told(&ann).into_iter().rev().take(4).collect();
    let expected = [
        json!({ "text": "Ok(3) Some(3)" }),
        json!({ "text": "three", "offset": 3 }),
        json!({ "id": 5, "published": {} }),
        json!({ "service": "restarted", "generation": 2 }),
    ];
    let sort = |mut all: Vec<Value>| {
        all.sort_by_key(ToString::to_string);
        all
    };
    assert_eq!(sort(last), sort(expected.to_vec()));
    // What an older instance published is recovered, and each client sees it.
    let back = told(&json(&crowd, Some(&format!("{epoch}:0"))));
    let offsets: Vec<_> = back
        .iter()
        .filter_map(|told| told["offset"].as_u64())
        .collect();
    assert_eq!(offsets, [3, 1, 2, 3], "{back:?}");
}

#[test]
fn a_refused_client_leaves_no_history_and_prolongs_none() {
    let limits = Limits {
        history: busline::limits::HistoryLimits {
            positions: 1,
            position_ttl: Duration::from_secs(60),
            ..busline::limits::HistoryLimits::default()
        },
        rooms: 0,
        ..Limits::default()
    };
    let crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        let app = app.relay_with("news", policy(RETENTION.into(), true));
        app.expect("a valid policy")
    });
    record(&crowd, "1");
    let epoch = epoch(&crowd);
    let refused = |key: &str| {
        let room = crowd.app.registry().room("news", Some(key));
        let room = room.expect("a key");
        let asking = Asking::default();
        Admission::request_wishing(&crowd.app, &room, Who::default(), asking).is_err()
    };
    let kept = || crowd.app.bus().histories();
    assert!(refused("other"), "no room may be made");
    assert_eq!((kept().shelved, kept().forgotten), (1, 0));
    assert_eq!(self::epoch(&crowd), epoch, "it was not pushed out");
    crowd.wait(50_000);
    assert!(refused("a"));
    assert_eq!(self::epoch(&crowd), epoch);
    crowd.wait(20_000);
    assert_eq!((kept().shelved, kept().forgotten), (0, 1));
}

/// A room whose service knows its members, so that all is said in one order, with a window of two.
fn narrow_room(retention: Retention) -> Crowd {
    let window = Window {
        messages: NonZeroUsize::new(2).expect("not 0"),
        bytes: 1 << 20,
    };
    let policy = ServicePolicy {
        window: Some(window),
        ..ServicePolicy::of_rooms().with_history(retention)
    };
    Crowd::new(|app| {
        let app = app.room_with("news", chronicle, policy);
        app.expect("a valid policy")
    })
}

#[test]
fn a_client_of_an_ordered_room_that_falls_behind_while_it_recovers_gets_all() {
    let crowd = narrow_room(Retention {
        messages: NonZeroUsize::new(100).expect("not 0"),
        recovery_max: None,
        ..RETENTION
    });
    // The backlog is longer than an outbox, so that the window overtakes the client meanwhile.
    let long = "x".repeat(10_000);
    for _ in 1..=5 {
        record(&crowd, &long);
    }
    let since = Some(":0".parse().expect("a position"));
    let wish = Wish { since, last: 0 };
    let slow = enter(&crowd, Subprotocol::Json, wish, 0);
    for _ in 6..=20 {
        record(&crowd, &long);
    }
    slow.make_room(1 << 20);
    crowd.rt.settle();
    let offsets: Vec<_> = told(&slow)
        .iter()
        .skip(1)
        .filter_map(|told| told["offset"].as_u64())
        .collect();
    assert_eq!(offsets, Vec::from_iter(1..=20));
}

#[test]
fn a_request_does_not_overtake_messages_that_no_instance_takes_yet() {
    let crowd = narrow_room(RETENTION);
    let asking = Asking {
        subprotocol: Subprotocol::Json,
        wish: Wish::default(),
        join_leave: false,
    };
    let ann = crowd.serve(admit(&crowd.app, asking).expect("admitted"), 1 << 20);
    // All of it arrives before the instance runs.
    for said in [
        r#"{"text":"a"}"#,
        r#"{"text":"b"}"#,
        r#"{"text":"c"}"#,
        r#"{"text":"d"}"#,
        r#"{"text":"e","id":1}"#,
    ] {
        ann.send(true, 1, said.as_bytes());
    }
    crowd.rt.settle();
    let texts: Vec<_> = told(&ann)
        .iter()
        .filter(|told| told["offset"].is_u64())
        .map(|told| told["text"].clone())
        .collect();
    assert_eq!(texts, ["a", "b", "c", "d", "e"]);
    let counts = crowd.app.counts().sessions;
    assert_eq!((counts.messages_in, counts.lost_not_taken), (5, 0));
}

#[test]
fn replies_that_wait_are_bounded_and_counted() {
    let long = "x".repeat(40_000);
    let crowd = asked();
    record(&crowd, &long);
    let ann = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
    for id in 0..40 {
        let request = format!(r#"{{"id":{id},"history":{{}}}}"#);
        ann.send(true, 1, request.as_bytes());
    }
    crowd.rt.settle();
    let held = crowd.app.counts().queued_bytes;
    assert!((40_000..100_000).contains(&held), "{held} bytes");
    ann.make_room(1 << 30);
    crowd.rt.settle();
    let ids: Vec<_> = told(&ann)
        .iter()
        .filter_map(|told| told["id"].as_u64())
        .collect();
    assert_eq!(ids, Vec::from_iter(0..40));
    assert_eq!(crowd.app.counts().queued_bytes, 0);
}

#[test]
fn a_live_text_without_a_number_that_may_not_be_sent_ends_its_session() {
    let policy = ServicePolicy {
        publish: Publish::Nobody,
        ..policy(RETENTION.into(), true)
    };
    let crowd = crowd(policy);
    let ann = json(&crowd, None);
    crowd.say(&ann, r#"{"text":"x","live":true,"id":0}"#);
    assert_eq!(told(&ann).pop().expect("a reply")["error"]["code"], 103);
    crowd.say(&ann, r#"{"text":"x","live":true}"#);
    assert_eq!(closed(&ann), Some(4403));
}

#[test]
fn a_hidden_history_is_not_recovered_by_a_position_of_any_epoch() {
    let hidden = HistoryPolicy {
        read: Readers::Nobody,
        ..RETENTION.into()
    };
    let crowd = crowd(policy(hidden, true));
    record(&crowd, "secret");
    let told_all = told(&json(&crowd, Some(":0")));
    assert_eq!(told_all.len(), 1, "{told_all:?}");
    assert_eq!(told_all[0]["position"]["offset"], 1);
}

#[test]
fn histories_that_expire_together_are_freed_without_a_pause() {
    let crowd = asked();
    for n in 0..5_000 {
        let room = crowd.app.room("news", &n.to_string()).expect("a key");
        room.record("x").expect("a position");
    }
    crowd.wait(12_000);
    assert_eq!(crowd.app.bus().histories().bytes, 0);
}

#[test]
fn the_maker_of_a_history_makes_room_first_whoever_publishes_into_it() {
    let limits = Limits {
        history: busline::limits::HistoryLimits {
            history_bytes: 40_000,
            ..busline::limits::HistoryLimits::default()
        },
        ..Limits::default()
    };
    let crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        let app = app.relay_with("news", policy(RETENTION.into(), true));
        app.expect("a valid policy")
    });
    let long = "x".repeat(10_000);
    let outside = crowd.app.room("news", "of the program").expect("a key");
    outside.record(&*long).expect("a position");
    // A client fills one room after the other, and leaves each.
    for key in ["1", "2", "3", "4", "5"] {
        let who = Who {
            address: Some("192.0.2.1".parse().expect("an address")),
            ..Who::default()
        };
        let room = crowd.app.registry().room("news", Some(key)).expect("a key");
        let admission = Admission::request_room(&crowd.app, &room, who).expect("admitted");
        let peer = crowd.serve(admission, 1 << 20);
        crowd.rt.settle();
        crowd.say(&peer, &long);
        peer.reset();
        crowd.rt.settle();
    }
    let all = Reading {
        since: None,
        limit: 9,
        reverse: false,
    };
    let kept = outside.history(&all).expect("a history").messages.len();
    assert_eq!(kept, 1, "the oldest of the client's own rooms went first");
}
