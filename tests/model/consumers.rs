//! What slow clients get, by policy, and what clients that want to know are told.

use std::num::NonZeroUsize;

use busline::bus::{MessageBus, Received};
use busline::limits::{ServicePolicy, SlowConsumer, Window};
use busline::session::Subprotocol;
use busline::{CloseReason, Context, Limits};
use futures::FutureExt;

use crate::model::crowd::{Crowd, answers, closed, texts};
use crate::model::peer::Said;

const ROOM: usize = 1 << 20;

/// A window of four messages, and an outbox of one.
fn narrow(policy: SlowConsumer) -> Crowd {
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

fn publish(crowd: &Crowd, range: std::ops::Range<u32>) {
    range.for_each(|n| crowd.publish(&n.to_string()));
    crowd.rt.settle();
}

#[test]
fn a_client_that_wants_the_newest_never_gets_an_older_one() {
    let mut crowd = narrow(SlowConsumer::Latest);
    let (slow, quick) = (crowd.join(0), crowd.join(ROOM));
    for n in 0..10 {
        publish(&crowd, n..n + 1);
    }
    slow.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(
        texts(&slow),
        ["0", "9"],
        "the one being written, and the newest"
    );
    assert_eq!(texts(&quick).len(), 10);
    // Eight are missing: some had left the window of four before.
    let messages = crowd.app.counts().bus.messages;
    assert_eq!((messages.lost_superseded, messages.lost_lagged), (3, 5));
    publish(&crowd, 10..13);
    assert_eq!(
        texts(&slow),
        ["0", "9", "12"],
        "of what comes at once as well"
    );
}

#[test]
fn a_client_that_is_closed_for_its_losses_gets_nothing_after_them() {
    let mut crowd = narrow(SlowConsumer::Close);
    let peer = crowd.join(0);
    publish(&crowd, 0..1);
    publish(&crowd, 1..10);
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(
        (texts(&peer), closed(&peer)),
        (vec!["0".to_owned()], Some(1013))
    );
    let counts = crowd.app.counts();
    let (bus, sessions) = (counts.bus.messages, counts.sessions);
    let lost = (bus.lost_lagged, bus.lost_unsubscribed, sessions.lost_unsent);
    assert_eq!(lost, (5, 3, 1), "all ten are accounted for");
}

#[test]
fn answers_are_never_superseded() {
    let mut crowd = narrow(SlowConsumer::Latest);
    let peer = crowd.join(0);
    for n in 0..4 {
        peer.send(true, 1, n.to_string().as_bytes());
    }
    crowd.rt.settle();
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(texts(&peer), ["0", "1", "2", "3"]);
}

#[test]
fn a_client_that_asks_is_told_exactly_how_many_it_lost_and_where() {
    let mut crowd = narrow(SlowConsumer::Skip);
    let (told, plain) = (crowd.join_speaking(Subprotocol::Json, 0), crowd.join(0));
    publish(&crowd, 0..1);
    publish(&crowd, 1..10);
    for peer in [&told, &plain] {
        peer.make_room(ROOM);
    }
    crowd.rt.settle();
    let text = |n: u32| format!("{{\"text\":\"{n}\"}}");
    let expected = [
        text(0),
        "{\"lagged\":5}".to_owned(),
        text(6),
        text(7),
        text(8),
        text(9),
    ];
    assert_eq!(texts(&told), expected);
    assert_eq!(texts(&plain), ["0", "6", "7", "8", "9"]);
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.messages_out, 10, "a notice is no message");
}

#[test]
fn the_newest_comes_with_the_number_of_those_it_stands_for() {
    let mut crowd = narrow(SlowConsumer::Latest);
    let told = crowd.join_speaking(Subprotocol::Json, ROOM);
    publish(&crowd, 0..3);
    assert_eq!(texts(&told), ["{\"lagged\":2}", "{\"text\":\"2\"}"]);
}

#[test]
fn a_client_of_the_json_dialect_speaks_it_too_and_bytes_are_bytes() {
    let mut crowd = narrow(SlowConsumer::Skip);
    let peer = crowd.join_speaking(Subprotocol::Json, ROOM);
    peer.send(true, 1, br#"{"text":"say \"hello\""}"#);
    peer.send(true, 2, &[1, 2, 3]);
    crowd.rt.settle();
    let text = Said::Text(r#"{"text":"say \"hello\""}"#.to_owned());
    assert_eq!(peer.said(), [text, Said::Binary(vec![1, 2, 3])]);
    peer.send(true, 1, b"hello");
    crowd.rt.settle();
    assert_eq!(closed(&peer), Some(1007));
    peer.end();
    crowd.rt.settle();
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.closed_for(CloseReason::BadEnvelope), 1);
    assert_eq!((sessions.messages_in, sessions.lost_not_taken), (3, 1));
    assert_eq!(sessions.bytes_in, 11 + 3, "the bytes of what was said");
}

/// Publishes its generation, and fails when a client says anything.
async fn fragile(mut ctx: Context) -> Result<(), &'static str> {
    ctx.publish(ctx.generation().to_string());
    let Some(_) = ctx.recv().await else {
        return Ok(());
    };
    ctx.publish("last words");
    Err("as told")
}

#[test]
fn a_restart_is_told_before_the_first_word_of_the_new_instance_and_after_the_last_of_the_old() {
    let mut crowd = Crowd::new(|app| app.service("s", fragile).expect("a valid name"));
    let told = crowd.join_speaking(Subprotocol::Json, 0);
    let plain = crowd.join(ROOM);
    plain.send(true, 1, b"last");
    crowd.wait(1000);
    told.make_room(ROOM);
    crowd.rt.settle();
    let notice = "{\"service\":\"restarted\",\"generation\":2}";
    let words = [
        "{\"text\":\"1\"}",
        "{\"text\":\"last words\"}",
        notice,
        "{\"text\":\"2\"}",
    ];
    assert_eq!(texts(&told), words);
    assert_eq!(
        texts(&plain),
        ["last words", "2"],
        "it joined after the first word"
    );
}

#[test]
fn a_restart_is_told_even_if_the_new_instance_says_nothing() {
    async fn silent(mut ctx: Context) -> Result<(), &'static str> {
        ctx.recv().await.map_or(Ok(()), |_| Err("as told"))
    }
    let mut crowd = Crowd::new(|app| app.service("s", silent).expect("a valid name"));
    let told = crowd.join_speaking(Subprotocol::Json, ROOM);
    for _ in 0..2 {
        told.send(true, 1, br#"{"text":"fail"}"#);
        crowd.wait(1000);
    }
    let notice = |n: u32| format!("{{\"service\":\"restarted\",\"generation\":{n}}}");
    assert_eq!(texts(&told), [notice(2), notice(3)]);
}

#[test]
fn a_service_has_a_window_of_its_own() {
    let policy = ServicePolicy {
        window: Some(Window {
            messages: NonZeroUsize::new(2).expect("2 is not 0"),
            ..Window::default()
        }),
        ..ServicePolicy::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app
            .service_with("s", answers, policy)
            .expect("a valid name");
        app.service("other", answers).expect("a valid name")
    });
    let peer = crowd.join(0);
    publish(&crowd, 0..1);
    publish(&crowd, 1..10);
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(
        texts(&peer),
        ["0", "8", "9"],
        "the one being written, and its window"
    );
    let other: busline::bus::Topic = "other:from-service-to-ws".parse().expect("a valid name");
    let mut reader = crowd.app.bus().subscribe(&other).expect("there is room");
    for n in 0..10 {
        crowd.app.bus().publish(&other, n.to_string().into());
    }
    assert_eq!(
        reader.recv().now_or_never(),
        Some(Received::Message("0".into()))
    );
}

#[test]
fn a_service_has_a_policy_of_its_own() {
    let policy = ServicePolicy {
        slow_consumer: SlowConsumer::Latest,
        ..ServicePolicy::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.slow_consumer(SlowConsumer::Close);
        let app = app.service("other", answers).expect("a valid name");
        app.service_with("s", answers, policy)
            .expect("a valid name")
    });
    let peer = crowd.join(ROOM);
    publish(&crowd, 0..3);
    assert_eq!((texts(&peer), closed(&peer)), (vec!["2".to_owned()], None));
}
