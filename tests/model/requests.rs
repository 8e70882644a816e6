//! Requests of clients that speak JSON, their replies, and the order of both with messages.

use busline::limits::{HistoryPolicy, Publish, Readers, SlowConsumer};
use busline::session::{AdmitError, Asking, Subprotocol, Wish};
use busline::{CloseReason, ServicePolicy};
use serde_json::json;

use crate::model::crowd::closed;
use crate::newsroom::{
    RETENTION, admit, asked, crowd, enter, epoch, json, narrow_room, policy, record, told,
};

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
