//! Recovery as the clients of a relay see it: positions, what was missed, and its order.

use std::num::NonZeroUsize;

use busline::ServicePolicy;
use busline::limits::{HistoryPolicy, Readers, Recovery, Retention, Window};
use busline::session::{Subprotocol, Wish};
use serde_json::json;

use crate::model::crowd::texts;
use crate::newsroom::{
    RETENTION, asked, crowd, enter, epoch, json, narrow_room, policy, record, told,
};

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
