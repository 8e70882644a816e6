//! Messages that are read at once are handed over at once, as if each had come alone.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::bus::{Batch, ClientId, Message, Tapped, Topic};
use busline::limits::Window;
use busline::{CloseReason, Context, Limits};
use futures::FutureExt;

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;
use crate::regressions::deaf;

const ROOM: usize = 1 << 20;

fn limits(window: usize) -> Limits {
    Limits {
        window: Window {
            messages: NonZeroUsize::new(window).expect("not zero"),
            ..Window::default()
        },
        ..Limits::default()
    }
}

/// A client that has sent these texts with one write, and then so many other bytes.
fn sends(crowd: &mut Crowd, count: usize, after: &[u8]) -> Peer {
    let peer = crowd.join(ROOM);
    for n in 0..count {
        peer.send(true, 1, n.to_string().as_bytes());
    }
    peer.send_raw(after);
    peer
}

/// A masked close frame without a code.
const CLOSE: &[u8] = &[0x88, 0x80, 0, 0, 0, 0];

/// A reserved opcode.
const VIOLATION: &[u8] = &[0x83, 0x80];

/// Answers one message every 40 seconds, and never takes one before that.
async fn slow(mut ctx: Context) {
    while ctx.sleep(Duration::from_secs(40)).await.is_some() {
        if let Some(message) = ctx.recv().await {
            ctx.reply(&message, &message);
        }
    }
}

#[test]
fn they_arrive_in_order_whatever_the_window_and_the_batch_are() {
    for window in [1, 2, 15, 16, 17, 256] {
        for batch in [1, 2, 16, 17, 128] {
            let limits = Limits {
                inbound_batch: NonZeroUsize::new(batch).expect("not zero"),
                ..limits(window)
            };
            let mut crowd = Crowd::limited(limits);
            let peer = sends(&mut crowd, 50, &[]);
            crowd.rt.settle();
            let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
            assert_eq!(texts(&peer), expected, "window {window}, batch {batch}");
            let counts = crowd.app.counts().sessions;
            assert_eq!((counts.messages_in, counts.lost_not_taken), (50, 0));
        }
    }
}

#[test]
fn a_poll_hands_over_no_more_than_its_batch() {
    let batch = |messages| Limits {
        inbound_batch: NonZeroUsize::new(messages).expect("not zero"),
        ..Limits::default()
    };
    for messages in [1, 2, 5, 16, 18] {
        let mut crowd = Crowd::limited(batch(messages));
        let _peer = sends(&mut crowd, 40, &[]);
        let published = || crowd.app.counts().bus.messages.published;
        assert!(crowd.rt.run_one(0), "the session");
        assert_eq!(published(), messages as u64);
    }
}

#[test]
fn what_comes_after_them_waits_until_they_are_taken() {
    for after in [CLOSE, VIOLATION] {
        let mut crowd = Crowd::new(|app| app.limits(limits(1)).service("s", slow).expect("a name"));
        let peer = sends(&mut crowd, 3, after);
        crowd.wait(40_000);
        assert_eq!((texts(&peer).len(), closed(&peer)), (1, None));
        crowd.wait(40_000);
        // The service has its turn before a close is answered.
        crowd.wait(2_500);
        assert_eq!(crowd.app.counts().sessions.lost_not_taken, 0);
        assert!(
            peer.is_closed(),
            "all are in the inbox, or taken: {after:?}"
        );
        assert_eq!(crowd.app.counts().sessions.messages_in, 3);
    }
}

#[test]
fn a_client_waits_for_each_of_them_as_long_as_for_one() {
    // The peer answers no ping.
    let mut limits = limits(1);
    limits.keepalive.interval = Duration::ZERO;
    let mut crowd = Crowd::new(|app| app.limits(limits).service("s", slow).expect("a name"));
    let peer = sends(&mut crowd, 10, &[]);
    // `Limits::accept_timeout` is a minute.
    crowd.wait(400_000);
    assert_eq!((texts(&peer).len(), closed(&peer)), (10, None));
}

#[test]
fn a_service_that_takes_none_holds_the_first_of_them_no_longer_than_a_minute() {
    let mut crowd = Crowd::new(|app| app.limits(limits(1)).service("s", deaf).expect("a name"));
    let peer = sends(&mut crowd, 10, &[]);
    crowd.wait(59_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(1013));
    let counts = || {
        let counts = crowd.app.counts().sessions;
        (counts.messages_in, counts.lost_not_taken)
    };
    assert_eq!(counts(), (10, 9));
    // What comes now is read up to its close, and lost.
    for text in ["a", "b", "c"] {
        peer.send(true, 1, text.as_bytes());
    }
    crowd.rt.settle();
    assert_eq!(counts(), (13, 12));
}

#[test]
fn at_most_sixteen_are_at_hand_and_each_is_counted_when_the_session_ends() {
    let mut crowd = Crowd::new(|app| app.limits(limits(1)).service("s", deaf).expect("a name"));
    let peer = sends(&mut crowd, 40, &[]);
    crowd.rt.settle();
    let counts = crowd.app.counts();
    assert_eq!(counts.sessions.messages_in, 16, "one is in the inbox");
    assert_eq!(counts.bus.messages.published, 1);
    peer.reset();
    crowd.wait(60_000);
    let counts = crowd.app.counts().sessions;
    assert_eq!((counts.messages_in, counts.lost_not_taken), (16, 15));
}

#[test]
fn one_at_a_time_is_handed_over_while_its_client_does_not_read_the_answers() {
    let limits = Limits {
        answers_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(1000),
        ..limits(256)
    };
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(0);
    let questions = |texts: &[&str]| {
        texts
            .iter()
            .for_each(|text| peer.send(true, 1, text.as_bytes()));
        crowd.rt.settle();
    };
    // With each its answer: one at the socket, one in its topic.
    let published = || crowd.app.counts().bus.messages.published / 2;
    questions(&["a"]);
    questions(&["b"]);
    assert_eq!(published(), 2);
    questions(&["c", "d", "e"]);
    for handed_over in 2..5 {
        crowd.wait(9_999);
        assert_eq!(published(), handed_over);
        crowd.wait(1);
        assert_eq!(published(), handed_over + 1);
    }
}

#[test]
fn none_is_lost_for_which_there_is_no_room_while_its_client_does_not_read_the_answers() {
    /// Answers its first message, ten seconds later once more, and takes no other.
    async fn answers_twice_and_sleeps(mut ctx: Context) {
        let first = ctx.recv().await.expect("a message");
        ctx.reply(&first, "x");
        ctx.sleep(Duration::from_secs(10)).await;
        ctx.reply(&first, "y");
        ctx.sleep(Duration::from_secs(1000)).await;
    }

    let mut limits = Limits {
        answers_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(1000),
        ..limits(1)
    };
    limits.keepalive.interval = Duration::ZERO;
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", answers_twice_and_sleeps).expect("a name")
    });
    let peer = crowd.join(0);
    peer.send(true, 1, b"a");
    crowd.rt.settle();
    crowd.wait(10_000);
    for text in [b"b", b"c", b"d"] {
        peer.send(true, 1, text);
    }
    crowd.rt.settle();
    let published = || crowd.app.counts().bus.messages.published;
    assert_eq!(published(), 3, "a question and its answers");
    crowd.wait(10_000);
    assert_eq!(published(), 4, "one question more");
    crowd.wait(10_000);
    assert_eq!(published(), 4, "there is no room");
    peer.reset();
    crowd.rt.settle();
    crowd.wait(1);
    let counts = crowd.app.counts().sessions;
    assert_eq!((counts.messages_in, counts.lost_not_taken), (4, 2));
}

#[test]
fn who_may_not_use_its_turn_for_room_leaves_it_to_the_next() {
    /// Answers its first message, and ten seconds later once more before it takes the next one.
    async fn answers_twice(mut ctx: Context) {
        let first = ctx.recv().await.expect("a message");
        ctx.reply(&first, "x");
        ctx.sleep(Duration::from_secs(10)).await;
        ctx.reply(&first, "y");
        ctx.recv().await;
        ctx.sleep(Duration::from_secs(1000)).await;
    }

    let limits = Limits {
        answers_timeout: Duration::from_secs(100),
        ..limits(1)
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", answers_twice).expect("a name")
    });
    let (deaf, other) = (crowd.join(0), crowd.join(ROOM));
    for peer in [&deaf, &deaf, &deaf, &other] {
        peer.send(true, 1, b"a");
        crowd.rt.settle();
    }
    let published = || crowd.app.counts().bus.messages.published;
    assert_eq!(published(), 3, "two wait for room");
    crowd.wait(10_000);
    assert_eq!(published(), 5, "the answer, and what the other one says");
}

#[test]
fn those_at_hand_count_as_held() {
    let limits = Limits {
        queue_bytes: 3000,
        ..limits(1)
    };
    let mut crowd = Crowd::new(|app| app.limits(limits).service("s", deaf).expect("a name"));
    let peer = crowd.join(ROOM);
    for _ in 0..3 {
        peer.send(true, 1, &[b'x'; 1000]);
    }
    crowd.rt.settle();
    assert_eq!(crowd.app.counts().queued_bytes, 2000, "one is in the inbox");
    assert_eq!(crowd.app.counts().sessions.closed_for(CloseReason::Shed), 0);
}

#[test]
fn a_tap_is_told_of_each() {
    let mut crowd = Crowd::limited(limits(3));
    let name = crowd.app.registry().name("s").expect("registered").clone();
    let tapped = Tapped::Topic(Topic::from_ws_to_service(&name));
    let mut tap = crowd.app.bus().tap(tapped).expect("there is room");
    let peer = sends(&mut crowd, 5, &[]);
    crowd.rt.settle();
    assert_eq!(texts(&peer).len(), 5);
    let told = std::iter::from_fn(|| tap.next().now_or_never());
    assert_eq!(told.count(), 5);
}

#[test]
fn who_taps_a_client_is_told_of_each() {
    let mut crowd = Crowd::limited(limits(3));
    let tapped = Tapped::Client(ClientId::new(1));
    let mut tap = crowd.app.bus().tap(tapped).expect("there is room");
    let peer = sends(&mut crowd, 5, &[]);
    crowd.rt.settle();
    assert_eq!(texts(&peer).len(), 5);
    let told = std::iter::from_fn(|| tap.next().now_or_never());
    let received = told.filter(|event| event.contains("\"received\""));
    assert_eq!(received.count(), 5);
}

/// Answers what a client says in a row with as many messages, and tells everybody how many came
/// with how many reached.
async fn batches(mut ctx: Context) {
    while let Some(batch) = ctx.recv_batch().await {
        let count = batch.len();
        let sender = batch.origin().client().cloned();
        let reached = ctx.send_to(&sender.expect("a client's"), batch);
        let texts = (0..count).map(|n| format!("{n} of {count} to {reached}"));
        let joined = Batch::join(texts.map(Message::text)).expect("one at least");
        assert_eq!(ctx.publish(joined), 2, "both clients");
    }
}

#[test]
fn a_service_takes_what_one_client_says_in_a_row_at_once() {
    for is_tapped in [false, true] {
        let mut crowd = Crowd::new(|app| app.service("s", batches).expect("a name"));
        let name = crowd.app.registry().name("s").expect("registered").clone();
        let tapped = Tapped::Topic(Topic::from_service_to_ws(&name));
        let mut tap = is_tapped.then(|| crowd.app.bus().tap(tapped).expect("there is room"));
        let (one, other) = (crowd.join(ROOM), crowd.join(ROOM));
        for text in ["a", "b", "c"] {
            one.send(true, 1, text.as_bytes());
        }
        other.send(true, 1, b"d");
        crowd.rt.settle();
        let told = [(0, 3), (1, 3), (2, 3), (0, 1)];
        let told = told.map(|(n, count)| format!("{n} of {count} to 1"));
        let own = |own: &[&str]| {
            let own = own.iter().map(|text| (*text).to_owned());
            own.chain(told.clone()).collect::<Vec<_>>()
        };
        assert_eq!(texts(&one), own(&["a", "b", "c"]));
        // What one says to all may be before what the other one is answered.
        assert_eq!(texts(&other).len(), 5);
        assert!(texts(&other).contains(&"d".to_owned()));
        let told = || tap.as_mut().and_then(|tap| tap.next().now_or_never());
        let told = std::iter::from_fn(told).count();
        assert_eq!(told, if is_tapped { 4 } else { 0 });
    }
}

#[test]
fn a_batch_to_a_client_that_has_left_reaches_nobody() {
    /// Answers once it has slept.
    async fn answers_late(mut ctx: Context) {
        while let Some(batch) = ctx.recv_batch().await {
            ctx.sleep(Duration::from_secs(1)).await;
            let sender = batch.origin().client().cloned();
            let reached = ctx.send_to(&sender.expect("a client's"), batch);
            ctx.publish(reached.to_string());
        }
    }

    for messages in [1, 2] {
        let mut crowd = Crowd::new(|app| app.service("s", answers_late).expect("a name"));
        let other = crowd.join(ROOM);
        let peer = sends(&mut crowd, messages, &[]);
        crowd.rt.settle();
        peer.reset();
        crowd.wait(1000);
        assert_eq!(texts(&other), ["0"], "{messages} messages");
        let counts = crowd.app.counts().bus.messages;
        assert_eq!(counts.published, 2 * messages as u64 + 1);
    }
}

#[test]
fn a_wait_for_a_batch_that_is_given_up_loses_nothing() {
    /// Gives up its first wait for a batch.
    async fn impatient(mut ctx: Context) {
        assert!(ctx.recv_batch().now_or_never().is_none());
        while let Some(batch) = ctx.recv_batch().await {
            ctx.publish(batch.len().to_string());
        }
    }

    let mut crowd = Crowd::new(|app| app.service("s", impatient).expect("a name"));
    let peer = sends(&mut crowd, 0, &[]);
    crowd.rt.settle();
    for n in 1..4 {
        for _ in 0..n {
            peer.send(true, 1, b"x");
        }
        crowd.rt.settle();
    }
    assert_eq!(texts(&peer), ["1", "2", "3"], "messages of each");
}
