//! What a client receives: the service's topic to everybody and its topic to this client.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::dialect::Voice;
use super::encoding::Encoding;
use super::outbox::Outbox;
use super::teller::Teller;
use super::to_all::ToAll;
use crate::bus::{Batch, Generation, Parcel, Subscription, Terms};
use crate::fan::{Fans, Follower};
use crate::limits::SlowConsumer;
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Runtime;

/// The two subscriptions of one client.
pub(super) struct Feed {
    pub(super) to_all: ToAll,
    pub(super) to_one: Subscription,
    /// The oldest generation that serves this client.
    pub(super) since: Generation,
    pub(super) voice: Voice,
    pub(super) teller: Teller,
    /// What becomes of it where it reads too slowly.
    pub(super) slow_consumer: SlowConsumer,
    /// Bytes gathered for one write; in half a word, as each client has one.
    pub(super) outbox_bytes: u32,
    pub(super) encoding: Encoding,
}

/// Where what is due is moved to, and by what way.
struct Gathering<'a> {
    outbox: &'a mut Outbox,
    metrics: &'a Metrics,
    batch: &'a mut Batch,
}

/// One of the two subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    All,
    One,
}

/// Which messages are taken of those that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    All,
    Newest,
}

impl Pick {
    /// Why the others are missing.
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

impl Feed {
    /// Moves what is due into the outbox, up to its limit, and returns how many messages were lost.
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
            && let Some(notice) = self.voice.at_rest()
        {
            outbox.push_notice(&notice);
        }
        lost
    }

    /// Whether a pull would find nothing, and say nothing about what it does not find.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.voice, Voice::Plain) && self.is_quiet()
    }

    /// Whether there is nothing due, and the task is parked.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.to_one.is_quiet() && !self.to_all.is_due()
    }

    fn gather(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, metrics: &Metrics) -> u64 {
        if outbox.is_empty() && self.poll_share(cx, outbox).is_ready() {
            return 0;
        }
        let mut batch = Batch::new();
        let mut gathering = Gathering {
            outbox,
            metrics,
            batch: &mut batch,
        };
        let lost = self.gather_from(Source::One, cx, &mut gathering);
        lost + self.gather_from(Source::All, cx, &mut gathering)
    }

    #[inline]
    fn gather_from(
        &mut self,
        source: Source,
        cx: &mut Context<'_>,
        gathering: &mut Gathering<'_>,
    ) -> u64 {
        let (subscription, pick) = match (source, self.to_all.alone_mut()) {
            (Source::One, _) => (&mut self.to_one, Pick::All),
            (Source::All, Some(to_all)) => (to_all, Pick::from(self.slow_consumer)),
            (Source::All, None) => return 0,
        };
        let Gathering {
            outbox,
            metrics,
            batch,
        } = gathering;
        let mut lost = 0;
        // Until there is no more: what is left out fills nothing, and must not end the reading.
        let most = self.outbox_bytes as usize;
        while !subscription.is_quiet() && (outbox.is_empty() || outbox.len() < most) {
            let room = most.saturating_sub(outbox.len());
            let first = subscription.next_number();
            let Poll::Ready(missed) = poll_batch(subscription, pick, (cx, room), batch) else {
                break;
            };
            lost += missed;
            let topic = subscription.topic();
            self.teller.missed(topic, first, missed, pick.reason());
            self.teller.queued(topic, first + missed, batch.len());
            if let Some(notice) = self.voice.lagged(missed) {
                outbox.push_notice(&notice);
            }
            let terms = (self.since, &mut self.voice, &self.encoding);
            let stale = push(batch, terms, outbox);
            if stale > 0 {
                metrics.stale.add(stale);
                self.teller.lost(stale, "stale");
            }
            if pick == Pick::Newest && !outbox.is_empty() {
                // The next one may be newer still once this is sent.
                break;
            }
        }
        lost
    }

    /// Moves into an empty outbox what everybody gets who keeps up, if there is nothing else for
    /// this client and nothing about it is special; the task is parked on both subscriptions then.
    ///
    /// `Ready` only if there is something in the outbox.
    pub(super) fn poll_share(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<()> {
        if !self.to_one.is_quiet() {
            return Poll::Pending;
        }
        let Some(terms) = self.terms() else {
            return Poll::Pending;
        };
        let burst = ready!(self.to_all.poll_burst(cx, terms));
        if let Some(to_all) = self.to_all.alone() {
            let messages = burst.marks().len();
            self.teller.queued(to_all.topic(), burst.first(), messages);
        }
        outbox.add(&burst);
        Poll::Ready(())
    }

    /// Lets a fan write what everybody gets, if there is one.
    pub(super) fn follow<R: Runtime>(&mut self, fans: &Fans<R>, follower: Arc<dyn Follower>) {
        if let Some(terms) = self.terms() {
            self.to_all.follow(fans, follower, terms);
        }
    }

    /// Which bursts suit it; none if it is not given the messages as they are.
    fn terms(&self) -> Option<Terms> {
        match (&self.voice, &self.encoding, Pick::from(self.slow_consumer)) {
            (Voice::Plain, Encoding::Plain, Pick::All) => Some(Terms {
                bytes_max: self.outbox_bytes as usize,
                since: self.since,
            }),
            (
                Voice::Json(_) | Voice::Plain,
                Encoding::Deflated(_) | Encoding::Plain,
                Pick::All | Pick::Newest,
            ) => None,
        }
    }

    /// From now on another task pulls.
    pub(super) fn moved(&mut self) {
        self.to_one.moved();
        self.to_all.moved();
    }

    /// Payload bytes that wait for this client alone; the task is woken when there are more.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) -> usize {
        self.to_one.watch(cx)
    }

    /// Tells what the client will not get because it is dropped.
    pub(super) fn tell_unread(&self) {
        let to_all = self.to_all.alone();
        for subscription in to_all.into_iter().chain([&self.to_one]) {
            let (topic, unread) = (subscription.topic(), subscription.pending());
            let first = subscription.next_number();
            self.teller.missed(topic, first, unread, "unread");
        }
    }

    /// Whether messages to this client alone wait for its socket.
    pub(super) fn owes_answers(&self) -> bool {
        self.to_one.pending() > 0 && !planted::is(Bug::AnswersNotAwaited)
    }
}

fn poll_batch(
    subscription: &mut Subscription,
    pick: Pick,
    (cx, room): (&mut Context<'_>, usize),
    batch: &mut Batch,
) -> Poll<u64> {
    match pick {
        Pick::All => subscription.poll_all(cx, room, batch),
        Pick::Newest => {
            let (missed, newest) = ready!(subscription.poll_latest(cx));
            batch.push(newest);
            Poll::Ready(missed)
        }
    }
}

/// Moves the batch into the outbox, without what an instance said that this client has not joined;
/// how many those are.
fn push(
    batch: &mut Batch,
    (since, voice, encoding): (Generation, &mut Voice, &Encoding),
    outbox: &mut Outbox,
) -> u64 {
    match (&mut *voice, encoding) {
        (Voice::Plain, Encoding::Plain) => push_plain(batch, since, outbox),
        (Voice::Json(_) | Voice::Plain, Encoding::Deflated(_) | Encoding::Plain) => {
            push_encoded(batch, (since, voice, encoding), outbox)
        }
    }
}

/// The same for a client that gets the messages as they are.
fn push_plain(batch: &mut Batch, since: Generation, outbox: &mut Outbox) -> u64 {
    let mut stale = 0;
    while let Some(parcel) = batch.pop_parcel() {
        match parcel {
            Parcel::One(message) if is_stale(message.is_before(since)) => stale += 1,
            Parcel::One(message) => {
                outbox.push(message.frame().as_bytes(), message.published_at());
            }
            Parcel::Train(train) if is_stale(train.is_before(since)) => stale += train.len() as u64,
            Parcel::Train(train) => outbox.push_train(train),
        }
    }
    stale
}

/// The same for a client that gets each of them encoded for it.
fn push_encoded(
    batch: &mut Batch,
    (since, voice, encoding): (Generation, &mut Voice, &Encoding),
    outbox: &mut Outbox,
) -> u64 {
    let mut stale = 0;
    while let Some(message) = batch.pop() {
        if is_stale(message.is_before(since)) {
            stale += 1;
            continue;
        }
        if let Some(notice) = message.generation().and_then(|by| voice.before(by)) {
            outbox.push_notice(&notice);
        }
        let frame = encoding.encode(voice.encoded(&message));
        outbox.push(frame, message.published_at());
    }
    stale
}

/// Whether what an instance said that the client may not have joined is not for it.
fn is_stale(is_before: bool) -> bool {
    is_before && !planted::is(Bug::StaleDelivered)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::num::NonZeroUsize;
    use std::task::Waker;

    use super::*;
    use crate::bus::{
        Batch, ClientId, InMemoryMessageBus, Message, MessageBus, Origin, Topic, Train,
    };
    use crate::limits::Window;
    use crate::rt::Instant;
    use crate::session::dialect::Dialect;
    use crate::sync::Mutex;
    use crate::wakes::Wakes;
    use crate::wire::{Deflate, Deflater};

    struct World {
        bus: InMemoryMessageBus,
        feed: Feed,
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
            let feed = Feed {
                teller: Teller::new(bus.clone(), ClientId::new(1)),
                to_all: ToAll::new(subscribe("all")),
                to_one: subscribe("one"),
                since: Generation::new(1),
                voice: Voice::Plain,
                slow_consumer: SlowConsumer::Skip,
                outbox_bytes,
                encoding: Encoding::Plain,
            };
            Self {
                bus,
                feed,
                outbox: Outbox::default(),
                metrics: Metrics::default(),
            }
        }

        /// Publishes so many messages, of which each is a frame of six bytes.
        fn publish(&self, name: &str, count: usize) {
            for _ in 0..count {
                self.bus.publish(&topic(name), "four".into());
            }
        }

        /// Bytes in the outbox after a pull.
        fn pull(&mut self) -> usize {
            let mut cx = Context::from_waker(Waker::noop());
            let lost = self.feed.pull(&mut cx, &mut self.outbox, &self.metrics);
            assert_eq!(lost, 0);
            self.outbox.len()
        }
    }

    #[test]
    fn a_pull_gathers_up_to_the_limit_and_takes_at_least_one() {
        // The limit counts payloads while it reads, and frames where it stops.
        for (limit, frames) in [(0, 1), (6, 1), (7, 2), (10, 2), (12, 3)] {
            let mut world = World::new(limit);
            world.publish("one", 5);
            assert_eq!(world.pull(), frames * 6, "a limit of {limit}");
            assert_eq!(world.feed.owes_answers(), frames < 5);
        }
    }

    /// Two messages that came together, published by this instance.
    fn publish_together(bus: &InMemoryMessageBus, generation: u64) {
        let mut batch = Batch::from(Train::of_texts(&["a", "b"]));
        batch.publish(&Origin::Service(Generation::new(generation)), Instant::ZERO);
        assert_eq!(bus.publisher(&topic("one")).publish_batch(batch), 1);
    }

    #[test]
    fn what_came_together_is_for_each_client_as_it_would_be_one_by_one() {
        const PLAIN: &[u8] = b"\x81\x01a\x81\x01b";
        const JSON: &[u8] = b"\x81\x0c{\"text\":\"a\"}\x81\x0c{\"text\":\"b\"}";
        for (dialect, generation, written) in [
            (Dialect::Plain, 1, PLAIN),
            (Dialect::Plain, 0, b""),
            (Dialect::Json, 1, JSON),
            (Dialect::Json, 0, b""),
        ] {
            let mut world = World::new(1000);
            world.feed.voice = Voice::of(dialect);
            publish_together(&world.bus, generation);
            assert_eq!(world.pull(), written.len());
            let stale = if generation == 0 { 2 } else { 0 };
            assert_eq!(world.metrics.counts().stale, stale, "{dialect:?}");
            let mut sent = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            let done = world
                .outbox
                .poll_send(&mut cx, &mut sent, &world.metrics, Instant::ZERO);
            assert!(done.is_ready());
            assert_eq!(sent, written, "{dialect:?}");
        }
    }

    #[test]
    fn what_an_older_instance_said_is_compressed_for_nobody_who_joined_later() {
        for dialect in [Dialect::Plain, Dialect::Json] {
            let mut world = World::new(1000);
            world.feed.voice = Voice::of(dialect);
            let deflate = Deflate::negotiate(["permessage-deflate"]).expect("it is spoken");
            let deflater = Arc::new(Mutex::new(Deflater::default()));
            world.feed.encoding = Encoding::new(deflate, NonZeroUsize::MIN, &deflater);
            let said = |generation, text: &str| {
                let by = Origin::Service(Generation::new(generation));
                Message::text(text.repeat(100)).from_origin(by)
            };
            publish_together(&world.bus, 0);
            for name in ["all", "one"] {
                world.bus.publish(&topic(name), said(0, "old"));
            }
            assert_eq!(world.pull(), 0, "{dialect:?}");
            assert_eq!(world.metrics.counts().stale, 4, "{dialect:?}");
            world.bus.publish(&topic("one"), said(1, "new"));
            let sent = world.pull();
            assert!((1..100).contains(&sent), "{dialect:?}: {sent} bytes");
            assert_eq!(world.outbox.messages(), 1, "{dialect:?}");
            assert_eq!(world.metrics.counts().stale, 4, "{dialect:?}");
        }
    }

    #[test]
    fn who_is_sent_nothing_waits_for_more_whatever_was_left_out() {
        for slow_consumer in [SlowConsumer::Skip, SlowConsumer::Latest] {
            let mut world = World::new(100);
            world.feed.slow_consumer = slow_consumer;
            let older = Origin::Service(Generation::new(0));
            let stale = Message::text("stale").from_origin(older);
            world.bus.publish(&topic("all"), stale);
            let (wakes, waker) = Wakes::new();
            let mut cx = Context::from_waker(&waker);
            let lost = world.feed.pull(&mut cx, &mut world.outbox, &world.metrics);
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
        assert!(!world.feed.owes_answers());
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
