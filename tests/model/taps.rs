//! A tap on a client answers why it did not get a message.

use std::num::NonZeroUsize;

use busline::Limits;
use busline::bus::{ClientId, Tap, Tapped};
use busline::limits::{SlowConsumer, Window};
use futures::FutureExt;
use serde_json::{Value, json};

use crate::model::crowd::{Crowd, answers, texts};

const ROOM: usize = 1 << 20;
const TO_ALL: &str = "s:from-service-to-ws";

fn crowd(policy: SlowConsumer) -> Crowd {
    let limits = Limits {
        window: Window {
            messages: NonZeroUsize::new(4).expect("4 is not 0"),
            ..Window::default()
        },
        outbox_bytes: 1,
        ..Limits::default()
    };
    Crowd::new(|app| {
        let app = app.limits(limits).slow_consumer(policy);
        app.service("s", answers).expect("a valid name")
    })
}

fn tap(crowd: &Crowd, client: u64) -> Tap {
    let tapped = Tapped::Client(ClientId::new(client));
    crowd.app.bus().tap(tapped).expect("there is room")
}

fn events(tap: &mut Tap) -> Vec<Value> {
    let next = || tap.next().now_or_never();
    let events = std::iter::from_fn(next);
    events
        .map(|event| serde_json::from_str(&event).expect("JSON"))
        .collect()
}

fn queued(first: u64) -> Value {
    json!({ "event": "queued", "topic": TO_ALL, "first": first, "messages": 1 })
}

fn lost(reason: &str, first: u64, messages: u64) -> Value {
    let event = json!({ "event": "lost", "reason": reason, "topic": TO_ALL });
    let Value::Object(mut event) = event else {
        panic!("an object");
    };
    event.insert("first".into(), first.into());
    event.insert("messages".into(), messages.into());
    Value::Object(event)
}

#[test]
fn what_is_no_message_is_not_told_of() {
    let mut crowd = crowd(SlowConsumer::Skip);
    let peer = crowd.join(ROOM);
    let mut tap = tap(&crowd, 1);
    peer.send(true, 9, b"a ping");
    crowd.rt.settle();
    assert_eq!(peer.said().len(), 1, "a pong");
    assert_eq!(events(&mut tap), [] as [Value; 0]);
}

fn written() -> Value {
    json!({ "event": "written", "messages": 1 })
}

#[test]
fn each_message_is_told_as_written_or_as_lost_with_its_reason() {
    let mut crowd = crowd(SlowConsumer::Skip);
    let peer = crowd.join(0);
    let mut tap = tap(&crowd, 1);
    (0..8).for_each(|n| {
        crowd.publish(&n.to_string());
        crowd.rt.settle();
    });
    assert_eq!(events(&mut tap), [queued(0)], "and then the socket is full");
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(texts(&peer), ["0", "4", "5", "6", "7"]);
    let mut expected = vec![written(), lost("lagged", 1, 3)];
    (4..8).for_each(|n| expected.extend([queued(n), written()]));
    assert_eq!(events(&mut tap), expected);
}

#[test]
fn what_a_newer_one_has_overtaken_is_told() {
    let mut crowd = crowd(SlowConsumer::Latest);
    let _peer = crowd.join(ROOM);
    let mut tap = tap(&crowd, 1);
    (0..3).for_each(|n| crowd.publish(&n.to_string()));
    crowd.rt.settle();
    assert_eq!(
        events(&mut tap),
        [lost("superseded", 0, 2), queued(2), written()]
    );
}

#[test]
fn what_is_lost_with_the_connection_is_told() {
    let mut crowd = crowd(SlowConsumer::Skip);
    let peer = crowd.join(0);
    let mut tap = tap(&crowd, 1);
    (0..3).for_each(|n| {
        crowd.publish(&n.to_string());
        crowd.rt.settle();
    });
    peer.reset();
    crowd.rt.settle();
    let closing = json!({ "event": "closing", "reason": "lost" });
    let unsent = json!({ "event": "lost", "reason": "unsent", "messages": 1 });
    assert_eq!(
        events(&mut tap),
        [queued(0), closing, lost("unread", 1, 2), unsent]
    );
}

#[test]
fn one_client_is_told_of_and_no_other() {
    let mut crowd = crowd(SlowConsumer::Skip);
    let (first, second) = (crowd.join(ROOM), crowd.join(ROOM));
    let mut tap = tap(&crowd, 2);
    first.send(true, 1, b"not this");
    second.send(true, 1, b"this");
    crowd.rt.settle();
    let own = "s:from-service-to-ws:2";
    let expected = [
        json!({ "event": "received", "bytes": 4 }),
        json!({ "event": "queued", "topic": own, "first": 0, "messages": 1 }),
        written(),
    ];
    assert_eq!(events(&mut tap), expected);
}
