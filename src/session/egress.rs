//! The messages for a client: the service's topic to all clients and its topic to this client.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;

use super::broadcast::Broadcast;
use super::compression::Compression;
use super::outbox::Outbox;
use super::subprotocol::Encoder;
use super::tap_reporter::TapReporter;
use crate::bus::{Batch, BurstFilter, Generation, Subscription};
use crate::fan_out::{FanOuts, Sink};
use crate::limits::SlowConsumer;
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Runtime;

/// The two subscriptions of one client.
pub(super) struct Egress {
    pub(super) broadcast: Broadcast,
    pub(super) direct: Subscription,
    /// The oldest generation that serves this client.
    pub(super) since: Generation,
    pub(super) encoder: Encoder,
    pub(super) tap_reporter: TapReporter,
    /// The policy for a client that reads too slowly.
    pub(super) slow_consumer: SlowConsumer,
    /// Maximum number of bytes gathered for one write; a `u32` to save memory, as each client has
    /// one.
    pub(super) outbox_bytes: u32,
    pub(super) compression: Compression,
}

/// Batches that are read under one lock.
type Batches = SmallVec<[Batch; 4]>;

/// A subscription of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Broadcast,
    Direct,
}

/// The pending messages that a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    All,
    Newest,
}

impl Pick {
    /// The reason why the other messages are missing.
    fn reason(self) -> &'static str {
        match self {
            Self::All => "lagged",
            Self::Newest => "superseded",
        }
    }
}

impl From<SlowConsumer> for Pick {
    fn from(policy: SlowConsumer) -> Self {
        match policy {
            SlowConsumer::Close | SlowConsumer::Skip => Self::All,
            SlowConsumer::Latest => Self::Newest,
        }
    }
}

impl Egress {
    /// Moves pending messages into the outbox, up to its limit, and returns how many messages were
    /// lost.
    ///
    /// The task is parked on both subscriptions, unless the outbox has something to be sent first.
    pub(super) fn pull(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let lost = if self.is_quiet() {
            0
        } else {
            self.gather(cx, outbox, metrics)
        };
        if outbox.is_empty()
            && let Some(notice) = self.encoder.at_rest()
        {
            outbox.push_notice(&notice);
        }
        lost
    }

    /// Whether a pull would find neither messages nor a notice.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.encoder, Encoder::Plain) && self.is_quiet()
    }

    /// Whether no message is pending and the task is parked.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.direct.is_quiet() && !self.broadcast.is_due()
    }

    fn gather(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, metrics: &Metrics) -> u64 {
        if outbox.is_empty() && self.poll_share(cx, outbox).is_ready() {
            return 0;
        }
        let mut lost = 0;
        for source in [Source::Direct, Source::Broadcast] {
            lost += self.gather_from(source, cx, outbox, metrics);
        }
        lost
    }

    #[inline]
    fn gather_from(
        &mut self,
        source: Source,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let (subscription, pick) = match (source, self.broadcast.own_mut()) {
            (Source::Direct, _) => (&mut self.direct, Pick::All),
            (Source::Broadcast, Some(broadcast)) => (broadcast, Pick::from(self.slow_consumer)),
            (Source::Broadcast, None) => return 0,
        };
        let mut lost = 0;
        let mut batches = Batches::new();
        // The loop must not end at messages that are left out, because they fill nothing: the task
        // would not be parked, and nothing would wake it for the messages behind them.
        let most = self.outbox_bytes as usize;
        while !subscription.is_quiet() && (outbox.is_empty() || outbox.len() < most) {
            let room = most.saturating_sub(outbox.len());
            let first = subscription.next_offset();
            let Poll::Ready(missed) = poll_batches(cx, subscription, pick, room, &mut batches)
            else {
                break;
            };
            lost += missed;
            let topic = subscription.topic();
            self.tap_reporter
                .missed(topic, first, missed, pick.reason());
            let messages = batches.iter().map(Batch::len).sum();
            self.tap_reporter.queued(topic, first + missed, messages);
            if let Some(notice) = self.encoder.lagged(missed) {
                outbox.push_notice(&notice);
            }
            let mut writer = Writing {
                since: self.since,
                encoder: &mut self.encoder,
                compression: &self.compression,
            };
            let stale: u64 = batches
                .drain(..)
                .map(|batch| writer.push(&batch, outbox))
                .sum();
            if stale > 0 {
                metrics.stale.add(stale);
                self.tap_reporter.lost(stale, "stale");
            }
            if pick == Pick::Newest && !outbox.is_empty() {
                // Stop here: after this message is sent, a newer one may be pending.
                break;
            }
        }
        lost
    }

    /// Moves the burst shared by all clients that keep up into an empty outbox, if nothing else is
    /// pending for this client and its settings allow shared bursts; the task is then parked on
    /// both subscriptions.
    ///
    /// `Ready` only if the outbox has got something.
    pub(super) fn poll_share(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<()> {
        if !self.direct.is_quiet() {
            return Poll::Pending;
        }
        let Some(filter) = self.filter() else {
            return Poll::Pending;
        };
        let burst = ready!(self.broadcast.poll_burst(cx, filter));
        if let Some(broadcast) = self.broadcast.own() {
            let messages = burst.messages();
            self.tap_reporter
                .queued(broadcast.topic(), burst.first(), messages);
        }
        outbox.add(&burst);
        Poll::Ready(())
    }

    /// Lends the subscription to a fan-out, if there is one that fits.
    pub(super) fn join_fan_out<R: Runtime>(&mut self, fan_outs: &FanOuts<R>, sink: Arc<dyn Sink>) {
        if let Some(filter) = self.filter()
            && !self.tap_reporter.is_tapped()
        {
            let client = self.tap_reporter.client();
            self.broadcast.join_fan_out(fan_outs, sink, filter, client);
        }
    }

    /// The bursts that suit this client; `None` if it does not receive all messages as they are.
    fn filter(&self) -> Option<BurstFilter> {
        match (
            &self.encoder,
            &self.compression,
            Pick::from(self.slow_consumer),
        ) {
            (Encoder::Plain, Compression::Plain, Pick::All) => Some(BurstFilter {
                bytes_max: self.outbox_bytes as usize,
                since: self.since,
            }),
            (
                Encoder::Json(_) | Encoder::Plain,
                Compression::Deflated(_) | Compression::Plain,
                Pick::All | Pick::Newest,
            ) => None,
        }
    }

    /// Forgets which task is parked, because another task pulls from now on.
    pub(super) fn moved(&mut self) {
        self.direct.moved();
        self.broadcast.moved();
    }

    /// Payload bytes that wait for this client alone; the task is woken when there are more.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) -> usize {
        self.direct.watch(cx)
    }

    /// Reports to the taps the messages that the client misses because the egress is dropped.
    pub(super) fn tell_unread(&self) {
        let broadcast = self.broadcast.own();
        for subscription in broadcast.into_iter().chain([&self.direct]) {
            let (topic, unread) = (subscription.topic(), subscription.pending());
            let first = subscription.next_offset();
            self.tap_reporter.missed(topic, first, unread, "unread");
        }
    }

    /// Whether messages to this client alone wait for its socket.
    pub(super) fn owes_answers(&self) -> bool {
        self.direct.pending() > 0 && !planted::is(Bug::AnswersNotAwaited)
    }
}

fn poll_batches(
    cx: &mut Context<'_>,
    subscription: &mut Subscription,
    pick: Pick,
    room: usize,
    batches: &mut Batches,
) -> Poll<u64> {
    match pick {
        Pick::All => {
            let polled = subscription.poll_batches(cx, room, |batch| batches.push(batch));
            planted::swap(Bug::BatchSwapped, batches);
            if planted::is(Bug::DeliveredTwice)
                && batches.len() > 1
                && let Some(last) = batches.last().cloned()
            {
                batches.push(last);
            }
            polled
        }
        Pick::Newest => {
            let (missed, newest) = ready!(subscription.poll_latest(cx));
            batches.push(newest.into());
            Poll::Ready(missed)
        }
    }
}

/// The writer of messages for one client.
struct Writing<'a> {
    since: Generation,
    encoder: &'a mut Encoder,
    compression: &'a Compression,
}

impl Writing<'_> {
    /// Moves a batch into the outbox, unless an older instance than the one this client joined
    /// published it; returns the number of messages left out.
    fn push(&mut self, batch: &Batch, outbox: &mut Outbox) -> u64 {
        if batch.is_before(self.since) && !planted::is(Bug::StaleDelivered) {
            return batch.len() as u64;
        }
        let published = batch.published_at();
        if let (Encoder::Plain, Compression::Plain) = (&*self.encoder, self.compression) {
            outbox.push(batch.frames(), published);
            return 0;
        }
        let generation = batch.origin().generation();
        if let Some(notice) = generation.and_then(|by| self.encoder.before(by)) {
            outbox.push_notice(&notice);
        }
        let frames = self
            .compression
            .compress(self.encoder.encoded(batch.frames()));
        outbox.push(&frames, published);
        0
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::num::NonZeroUsize;
    use std::task::Waker;

    use super::*;
    use crate::bus::{ClientId, InMemoryMessageBus, Message, MessageBus, Origin, Topic};
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
}
