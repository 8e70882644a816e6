//! The egress by itself: what a pull gathers, in which order, and what it leaves out.

use std::num::NonZeroUsize;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::bus::{ClientId, InMemoryMessageBus, Message, MessageBus, Origin, Topic, question};
use crate::limits::Window;
use crate::rt::Instant;
use crate::session::subprotocol::Subprotocol;
use crate::sync::Mutex;
use crate::wakes::Wakes;
use crate::wire::{Deflate, Deflater};

struct World {
    bus: InMemoryMessageBus,
    egress: Egress,
    outbox: Outbox,
    metrics: Metrics,
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a valid name")
}

impl World {
    fn new(outbox_bytes: u32) -> Self {
        Self::with(Window::default(), outbox_bytes)
    }

    fn with(window: Window, outbox_bytes: u32) -> Self {
        let bus = InMemoryMessageBus::new(window, 2);
        let subscribe = |name| bus.subscribe(&topic(name)).expect("there is room");
        let egress = Egress {
            tap_reporter: TapReporter::new(bus.clone(), ClientId::new(1)),
            broadcast: Broadcast::new(subscribe("all")),
            direct: subscribe("one"),
            since: Generation::new(1),
            encoder: Encoder::Plain,
            slow_consumer: SlowConsumer::Skip,
            outbox_bytes,
            compression: Compression::Plain,
            is_ordered: false,
            names_senders: false,
            close: None,
            stream: Stream::default(),
        };
        Self {
            bus,
            egress,
            outbox: Outbox::default(),
            metrics: Metrics::default(),
        }
    }

    /// Publishes `count` messages, each a frame of six bytes.
    fn publish(&self, name: &str, count: usize) {
        for _ in 0..count {
            self.bus.publish(&topic(name), "four".into());
        }
    }

    /// Bytes in the outbox after a pull.
    fn pull(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let lost = self.egress.pull(&mut cx, &mut self.outbox, &self.metrics);
        assert_eq!(lost, 0);
        self.outbox.len()
    }
}

#[test]
fn a_pull_gathers_up_to_the_limit_and_takes_at_least_one() {
    // The limit counts payload bytes while it reads, and whole frames where it stops.
    for (limit, frames) in [(0, 1), (6, 1), (7, 2), (10, 2), (12, 3)] {
        let mut world = World::new(limit);
        world.publish("one", 5);
        assert_eq!(world.pull(), frames * 6, "a limit of {limit}");
        assert_eq!(world.egress.owes_answers(), frames < 5);
    }
}

/// Publishes two messages in one batch, by this instance.
fn publish_together(bus: &InMemoryMessageBus, generation: u64) {
    let batch = Batch::join(["a", "b"].map(Message::text)).expect("two");
    let origin = Origin::Service(Generation::new(generation));
    let batch = batch.stamped(origin, Instant::ZERO);
    assert_eq!(bus.publish(&topic("one"), batch), 1);
}

#[test]
fn what_came_together_is_for_each_client_as_it_would_be_one_by_one() {
    const PLAIN: &[u8] = b"\x81\x01a\x81\x01b";
    const JSON: &[u8] = b"\x81\x0c{\"text\":\"a\"}\x81\x0c{\"text\":\"b\"}";
    for (subprotocol, generation, written) in [
        (Subprotocol::Plain, 1, PLAIN),
        (Subprotocol::Plain, 0, b""),
        (Subprotocol::Json, 1, JSON),
        (Subprotocol::Json, 0, b""),
    ] {
        let mut world = World::new(1000);
        world.egress.encoder = Encoder::of(subprotocol);
        publish_together(&world.bus, generation);
        assert_eq!(world.pull(), written.len());
        let stale = if generation == 0 { 2 } else { 0 };
        assert_eq!(world.metrics.counts().stale, stale, "{subprotocol:?}");
        let mut sent = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let done = world
            .outbox
            .poll_send(&mut cx, &mut sent, &world.metrics, Instant::ZERO);
        assert!(done.is_ready());
        assert_eq!(sent, written, "{subprotocol:?}");
    }
}

#[test]
fn what_an_older_instance_said_is_compressed_for_nobody_who_joined_later() {
    for subprotocol in [Subprotocol::Plain, Subprotocol::Json] {
        let mut world = World::new(1000);
        world.egress.encoder = Encoder::of(subprotocol);
        let deflate = Deflate::negotiate(["permessage-deflate"]).expect("it is spoken");
        let deflater = Arc::new(Mutex::new(Deflater::default()));
        world.egress.compression = Compression::new(deflate, NonZeroUsize::MIN, &deflater);
        let said = |generation, text: &str| {
            let by = Origin::Service(Generation::new(generation));
            Message::text(text.repeat(100)).from_origin(by)
        };
        publish_together(&world.bus, 0);
        for name in ["all", "one"] {
            world.bus.publish(&topic(name), said(0, "old").into());
        }
        assert_eq!(world.pull(), 0, "{subprotocol:?}");
        assert_eq!(world.metrics.counts().stale, 4, "{subprotocol:?}");
        world.bus.publish(&topic("one"), said(1, "new").into());
        let sent = world.pull();
        assert!((1..100).contains(&sent), "{subprotocol:?}: {sent} bytes");
        assert_eq!(world.outbox.messages(), 1, "{subprotocol:?}");
        assert_eq!(world.metrics.counts().stale, 4, "{subprotocol:?}");
    }
}

#[test]
fn tags_are_told_without_a_history_and_by_no_plain_frame() {
    const JSON: &[u8] = b"\x81\x1d{\"text\":\"a\",\"tags\":{\"k\":\"v\"}}";
    for (subprotocol, written) in [
        (Subprotocol::Plain, &b"\x81\x01a"[..]),
        (Subprotocol::Json, JSON),
        (Subprotocol::Events, b"\x81\x09data: a\n\n"),
    ] {
        let mut world = World::new(1000);
        world.egress.encoder = Encoder::of(subprotocol);
        let tags = [("k", "v")].into_iter().collect();
        world
            .bus
            .publish(&topic("all"), Batch::from("a").tagged(tags));
        assert_eq!(world.pull(), written.len(), "{subprotocol:?}");
        let mut sent = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let done = world
            .outbox
            .poll_send(&mut cx, &mut sent, &world.metrics, Instant::ZERO);
        assert!(done.is_ready());
        assert_eq!(sent, written, "{subprotocol:?}");
    }
}

#[test]
fn who_is_sent_nothing_waits_for_more_whatever_was_left_out() {
    for slow_consumer in [SlowConsumer::Skip, SlowConsumer::Latest] {
        let mut world = World::new(100);
        world.egress.slow_consumer = slow_consumer;
        let older = Origin::Service(Generation::new(0));
        let stale = Message::text("stale").from_origin(older);
        world.bus.publish(&topic("all"), stale.into());
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let lost = world
            .egress
            .pull(&mut cx, &mut world.outbox, &world.metrics);
        assert_eq!((lost, world.outbox.len()), (0, 0));
        world.publish("all", 1);
        assert_eq!(wakes.count(), 1, "{slow_consumer:?}");
    }
}

#[test]
fn answers_come_before_what_everybody_gets_and_both_in_one_write() {
    let mut world = World::new(1000);
    world.publish("all", 1);
    world.bus.publish(&topic("one"), "an answer".into());
    assert_eq!(world.pull(), 11 + 6);
    assert!(!world.egress.owes_answers());
    let mut written = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut stream = futures::io::Cursor::new(&mut written);
    let sent = world
        .outbox
        .poll_send(&mut cx, &mut stream, &world.metrics, Instant::ZERO);
    assert!(matches!(sent, Poll::Ready(Ok(()))));
    assert_eq!(written, b"\x81\x09an answer\x81\x04four");
}

#[test]
fn the_newest_message_is_left_out_if_it_is_for_all_but_this_client() {
    for (except, bytes) in [(1, 0), (2, 6)] {
        let mut world = World::new(100);
        world.egress.slow_consumer = SlowConsumer::Latest;
        let delivery = Delivery::Except(ClientId::new(except));
        let batch = Batch::from("four").delivered(delivery);
        world.bus.publish(&topic("all"), batch);
        assert_eq!(world.pull(), bytes, "for all but client {except}");
    }
}

#[test]
fn a_reply_waits_for_what_was_said_before_its_answer() {
    // The service runs on another thread: it speaks and answers after this client's messages were
    // gathered.
    for said in ["all", "one"] {
        let mut world = World::new(1_000);
        world.egress.encoder = Encoder::of(Subprotocol::Json);
        let mut cx = Context::from_waker(Waker::noop());
        let (question, answer) = question("move", None);
        let until = Instant::from_start(Duration::from_secs(10));
        let replies = world.egress.encoder.replies().expect("JSON has replies");
        replies.ask(7, answer, until);
        assert_eq!(world.pull(), 0);
        world.publish(said, 1);
        let request = question.take(Message::text("1")).expect("it is there");
        assert!(request.responder.answer(&1).expect("JSON"));
        let gather = |world: &mut World, cx: &mut Context<'_>| {
            let World {
                egress,
                outbox,
                metrics,
                ..
            } = world;
            egress.gather_replies(cx, outbox, metrics);
            outbox.len()
        };
        assert_eq!(gather(&mut world, &mut cx), 0, "to {said}");
        assert!(world.pull() > 0);
        let replies = world.egress.encoder.replies().expect("JSON has replies");
        assert!(replies.is_empty(), "it follows the message");
    }
}
