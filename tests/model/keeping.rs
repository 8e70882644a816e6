//! How long a history is kept, for whom, and when its memory is free.

use std::time::Duration;

use busline::bus::Reading;
use busline::session::{Admission, Asking};
use busline::{Limits, Peer as Who, ServicePolicy};
use serde_json::{Value, json};

use crate::model::crowd::Crowd;
use crate::newsroom::{RETENTION, asked, chronicle, epoch, json, limited, record, told};

#[test]
fn a_history_outlives_its_clients_and_then_its_memory_is_free() {
    let limits = Limits {
        history: busline::limits::HistoryLimits {
            position_ttl: Duration::from_secs(60),
            ..busline::limits::HistoryLimits::default()
        },
        ..Limits::default()
    };
    let crowd = limited(limits);
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
    let crowd = limited(limits);
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
    let crowd = limited(limits);
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
