//! The messages for a client: the service's topic to all clients and its topic to this client, and
//! the notices of joins and leaves.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use self::pick::{Batches, Pick};
use crate::bus::{Batch, BurstFilter, Delivery, Due, Generation, Subscription, next_in_order};
use crate::fan_out::{FanOuts, Sink};
use crate::limits::SlowConsumer;
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Runtime;
use crate::session::broadcast::Broadcast;
use crate::session::cause::Cause;
use crate::session::compression::Compression;
use crate::session::encoder::Encoder;
use crate::session::envelope::About;
use crate::session::outbox::Outbox;
use crate::session::tap_reporter::TapReporter;
use crate::wire::{CloseFrame, DataKind, Encodings, Part};

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
    /// Whether messages to this client and to all are sent in the order in which they were said.
    pub(super) is_ordered: bool,
    /// Whether the envelope of a message says which client sent it: in a relay.
    pub(super) names_senders: bool,
    /// The service's close of this session, once everything said before it is in the outbox.
    pub(super) close: Option<Arc<CloseFrame>>,
    pub(super) stream: Stream,
}

/// The stream of the room, as far as the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stream {
    /// The stream goes on.
    #[default]
    Open,
    /// The stream has ended, and the client is told.
    Ended,
    /// The stream has ended, and the session closes: nothing follows.
    Over,
}

/// Messages that were read together.
struct Read {
    source: Source,
    pick: Pick,
    /// The offset at which the read began.
    first: u64,
    /// The number of messages that are missing from there.
    missed: u64,
    batches: Batches,
}

/// A subscription of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Broadcast,
    Direct,
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
        if self.is_over() {
            return 0;
        }
        if let Some(greeting) = self.encoder.greeting() {
            outbox.push_notice(&greeting);
        }
        let lost = if self.is_quiet() {
            0
        } else {
            self.gather(cx, outbox, metrics)
        };
        if self.is_over() {
            return lost;
        }
        self.gather_replies(cx, outbox, metrics);
        // An answer who is there comes before the joins and leaves that it does not know.
        if self
            .encoder
            .replies()
            .is_none_or(|replies| replies.is_empty())
        {
            self.gather_notices(cx, outbox);
        }
        if outbox.is_empty()
            && let Some(notice) = self.encoder.at_rest()
        {
            outbox.push_notice(&notice);
        }
        lost
    }

    /// Whether the client is told of the end of its stream, after which it is told nothing more.
    fn is_over(&self) -> bool {
        self.stream != Stream::Open
    }

    /// Returns the cause to close the session once, if its service or room ends it.
    pub(super) fn take_close(&mut self) -> Option<Cause> {
        if self.stream == Stream::Ended {
            self.stream = Stream::Over;
            return Some(Cause::Ended);
        }
        self.close.take().map(Cause::Closed)
    }

    /// Whether a pull would find neither messages nor a notice.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.encoder, Encoder::Plain) && self.is_quiet()
    }

    /// Whether no message is pending and the task is parked.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.direct.is_quiet() && !self.broadcast.is_due() && !self.has_notices()
    }

    fn gather(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, metrics: &Metrics) -> u64 {
        if self.is_in_order() {
            return self.gather_in_order(cx, outbox, metrics);
        }
        if outbox.is_empty() && self.poll_share(cx, outbox).is_ready() {
            return 0;
        }
        let mut lost = 0;
        for source in [Source::Direct, Source::Broadcast] {
            lost += self.gather_from(source, cx, outbox, metrics);
        }
        lost
    }

    /// Whether messages are sent in the order in which the service said them. A client that gets
    /// the newest message alone gets it at once.
    fn is_in_order(&self) -> bool {
        self.is_ordered && Pick::from(self.slow_consumer) == Pick::All
    }

    /// Moves pending messages into the outbox in the order in which they were said: a message to
    /// this client says how many messages to all came before it.
    ///
    /// Parks the task on both subscriptions, unless the outbox is full.
    fn gather_in_order(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let mut lost = 0;
        while outbox.is_empty() || outbox.len() < self.most() {
            let Some(broadcast) = self.broadcast.own() else {
                return lost;
            };
            let (source, pick) = match next_in_order(broadcast, &self.direct) {
                Due::Broadcast { before } => (Source::Broadcast, Pick::Before(before)),
                Due::Direct => (Source::Direct, Pick::Batch),
                Due::Neither if self.poll_ready(cx).is_pending() => return lost,
                Due::Neither => continue,
            };
            if let Some(read) = self.read(source, pick, cx, outbox.len()) {
                lost += read.missed;
                self.deliver(read, outbox, metrics);
            }
        }
        lost
    }

    /// Polls until one of the subscriptions has something; parks the task on both meanwhile.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let direct = self.direct.poll_ready(cx);
        let broadcast = self.broadcast.own_mut();
        let broadcast = broadcast.map_or(Poll::Pending, |own| own.poll_ready(cx));
        if direct.is_ready() { direct } else { broadcast }
    }

    /// The bytes of the outbox at which no further message is gathered.
    fn most(&self) -> usize {
        self.outbox_bytes as usize
    }

    /// Moves messages of one subscription into the outbox, and returns how many were lost.
    #[inline]
    fn gather_from(
        &mut self,
        source: Source,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let pick = match source {
            Source::Broadcast => Pick::from(self.slow_consumer),
            Source::Direct => Pick::All,
        };
        let mut lost = 0;
        // The loop must not end at messages that are left out, because they fill nothing: the task
        // would not be parked, and nothing would wake it for the messages behind them.
        while (outbox.is_empty() || outbox.len() < self.most())
            && let Some(read) = self.read(source, pick, cx, outbox.len())
        {
            lost += read.missed;
            self.deliver(read, outbox, metrics);
            if pick == Pick::Newest && !outbox.is_empty() {
                // Stop here: after this message is sent, a newer one may be pending.
                break;
            }
        }
        lost
    }

    /// Reads the next messages, as many as fit into the outbox beside `filled` bytes; `None` once
    /// the task is parked, and while a fan-out has the subscription.
    #[inline]
    fn read(
        &mut self,
        source: Source,
        pick: Pick,
        cx: &mut Context<'_>,
        filled: usize,
    ) -> Option<Read> {
        let room = self.most().saturating_sub(filled);
        let subscription = match source {
            Source::Broadcast => self.broadcast.own_mut()?,
            Source::Direct => &mut self.direct,
        };
        if subscription.is_quiet() {
            return None;
        }
        let first = subscription.next_offset();
        let mut batches = Batches::new();
        let Poll::Ready(missed) = pick.poll(cx, subscription, room, &mut batches) else {
            return None;
        };
        Some(Read {
            source,
            pick,
            first,
            missed,
            batches,
        })
    }

    /// Moves read messages into the outbox, with the notices that come before them.
    #[inline]
    fn deliver(&mut self, read: Read, outbox: &mut Outbox, metrics: &Metrics) {
        let topic = match (read.source, self.broadcast.own()) {
            (Source::Broadcast, Some(broadcast)) => broadcast.topic(),
            (Source::Broadcast, None) | (Source::Direct, _) => self.direct.topic(),
        };
        let reporter = &self.tap_reporter;
        reporter.missed(topic, read.first, read.missed, read.pick.reason());
        let messages = read.batches.iter().map(Batch::len).sum();
        reporter.queued(topic, read.first + read.missed, messages);
        if let Some(notice) = self.encoder.lagged(read.missed) {
            outbox.push_notice(&notice);
        }
        let (mut stale, mut excluded) = (0, 0);
        for batch in read.batches {
            let count = batch.len() as u64;
            if batch.is_before(self.since) && !planted::is(Bug::StaleDelivered) {
                stale += count;
            } else if self.leaves_out(&batch) {
                if batch.is_end() {
                    self.tell_end(&batch, outbox);
                } else {
                    excluded += count;
                    self.tell_passed(&batch, outbox);
                }
            } else {
                self.write(&batch, outbox);
            }
        }
        if stale > 0 {
            metrics.stale.add(stale);
            self.tap_reporter.lost(stale, "stale");
        }
        if excluded > 0 {
            metrics.excluded.add(excluded);
        }
    }

    /// Whether a batch is not to be sent to this client; notes a close by the service.
    #[inline]
    fn leaves_out(&mut self, batch: &Batch) -> bool {
        match batch.delivery() {
            Delivery::After(_) | Delivery::Everyone | Delivery::Request(_) => false,
            Delivery::Except(client) => {
                *client == self.tap_reporter.client() && !planted::is(Bug::ExceptReached)
            }
            Delivery::Close(_, frame) => {
                self.close.get_or_insert_with(|| Arc::clone(frame));
                true
            }
            Delivery::End => {
                self.stream = Stream::Ended;
                true
            }
        }
    }

    /// Tells the client that its position rises over messages that it is not sent.
    fn tell_passed(&self, batch: &Batch, outbox: &mut Outbox) {
        if let Some(first) = batch.offset()
            && let Some(notice) = self.encoder.passed_over(first + batch.len() as u64 - 1)
        {
            outbox.push_notice(&notice);
        }
    }

    /// Tells the client of the end of its stream, after all replies: the client has the messages
    /// that they speak of.
    fn tell_end(&mut self, batch: &Batch, outbox: &mut Outbox) {
        if let Some(replies) = self.encoder.replies()
            && let Some(broadcast) = self.broadcast.own()
        {
            replies.pull(broadcast, &self.direct, outbox, usize::MAX);
        }
        if let Some(frames) = self.encoder.end(batch.frames(), batch.offset()) {
            outbox.push_notice(&frames);
        }
    }

    /// Moves a batch into the outbox as this client reads it.
    #[inline]
    fn write(&mut self, batch: &Batch, outbox: &mut Outbox) {
        let published = batch.published_at();
        if let (Encoder::Plain, Compression::Plain) = (&self.encoder, &self.compression) {
            outbox.push(batch.frames(), published);
            return;
        }
        let generation = batch.origin().generation();
        if let Some(notice) = generation.and_then(|by| self.encoder.before(by)) {
            outbox.push_notice(&notice);
        }
        if matches!(self.encoder, Encoder::Plain) {
            let frames = self.compression.compress(batch.frames().clone());
            return outbox.push(&frames, published);
        }
        let about = About {
            from: batch.origin().client().filter(|_| self.names_senders),
            offset: batch.offset(),
            tags: batch.tags(),
        };
        if about.is_empty() {
            let frames = self.encoder.encoded(batch.frames());
            let frames = self.compression.compress(frames);
            return outbox.push(&frames, published);
        }
        let is_binary = |part: Part<'_>| part.kind == DataKind::Binary;
        if batch.frames().parts().any(is_binary) {
            return self.write_each(batch, about, outbox);
        }
        let frames = self
            .encoder
            .encoded_with(batch.frames(), about, batch.encodings());
        let frames = self.compression.compress(frames);
        outbox.push(&frames, published);
    }

    /// Moves messages into the outbox one by one: a notice comes before each binary message.
    fn write_each(&self, batch: &Batch, about: About<'_>, outbox: &mut Outbox) {
        for (index, frame) in batch.frames().iter().enumerate() {
            let offset = about.offset.map(|first| first + index as u64);
            let about = About { offset, ..about };
            if frame.kind() == DataKind::Binary
                && let Some(notice) = self.encoder.before_binary(about)
            {
                outbox.push_notice(&notice);
            }
            let alone = Encodings::default();
            let encoded = self.encoder.encoded_with(&frame.into(), about, &alone);
            outbox.push(&self.compression.compress(encoded), batch.published_at());
        }
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
        // A client that recovers reads messages that fell out of the window, which no fan-out does,
        // and a burst goes into an empty outbox, which another room may have filled.
        if !self.broadcast.is_alone
            || self.is_in_order()
            || self.slow_consumer == SlowConsumer::Recover
        {
            return None;
        }
        match (
            &self.encoder,
            &self.compression,
            Pick::from(self.slow_consumer),
        ) {
            (Encoder::Plain, Compression::Plain, Pick::All) => Some(BurstFilter {
                bytes_max: self.most(),
                since: self.since,
            }),
            (
                Encoder::Plain | Encoder::Wrapped(_),
                Compression::Deflated(_) | Compression::Plain,
                Pick::All | Pick::Batch | Pick::Before(_) | Pick::Newest,
            ) => None,
        }
    }

    /// Forgets which task is parked, because another task pulls from now on.
    pub(super) fn moved(&mut self) {
        self.direct.moved();
        self.broadcast.moved();
        if let Some(notices) = self.encoder.notices_mut() {
            notices.moved();
        }
    }

    /// Bytes that wait for this client alone; the task is woken when there are more.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) -> usize {
        let replies = self.encoder.replies().map_or(0, |replies| replies.held());
        self.direct.watch(cx) + replies
    }

    /// Reports to the taps the messages that the client misses because the egress is dropped.
    pub(super) fn tell_unread(&self) {
        let broadcast = self.broadcast.own();
        let notices = self.encoder.notices();
        for subscription in broadcast.into_iter().chain(notices).chain([&self.direct]) {
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

mod notices;
mod pick;
mod replies;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
