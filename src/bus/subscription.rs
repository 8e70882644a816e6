//! One subscriber's end of a topic.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::burst::{Burst, Terms};
use super::log::{Amount, Cursor, Log};
use super::message::Message;
use super::state::{Read, Slot, TopicState};
use super::topic::Topic;
use super::topics::Topics;
use crate::sync::Arc;

/// A subscription to one topic; dropping it unsubscribes.
///
/// It receives every message published after it was made, in the one order that all subscribers of
/// the topic see, except those it was too slow for: of these it learns the exact number.
#[derive(Debug)]
pub struct Subscription {
    topics: Arc<Topics>,
    state: Arc<TopicState>,
    /// `None` only while it is being dropped.
    slot: Option<Slot>,
}

/// One item of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// This many messages were lost here, because the subscriber fell out of the window.
    Lagged(u64),
    /// The next message.
    Message(Message),
}

impl Subscription {
    pub(super) fn new(topics: Arc<Topics>, state: Arc<TopicState>, slot: Slot) -> Self {
        Self {
            topics,
            state,
            slot: Some(slot),
        }
    }

    /// Whether polling it could do nothing: the task that polled it last is parked, and nothing was
    /// published since.
    ///
    /// Only for the very task that polled it last; see [`moved`](Self::moved).
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let slot = self.slot();
        slot.parked && self.state.is_quiet(slot)
    }

    pub(super) fn state(&self) -> &Arc<TopicState> {
        &self.state
    }

    /// Wakes no task any more, until it is polled.
    pub(super) fn unpark(&mut self) {
        let place = &self.slot().place;
        let waker = self.state.lock().subscribers.unpark_one(place);
        drop(waker);
        self.moved();
    }

    /// Stands where a shared cursor has moved it.
    pub(super) fn seek(&mut self, at: u64) {
        self.slot_mut().cursor.seek(at);
        self.moved();
    }

    /// From now on another task polls it.
    pub(crate) fn moved(&mut self) {
        self.slot_mut().parked = false;
    }

    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("only drop takes the slot")
    }

    fn slot_mut(&mut self) -> &mut Slot {
        self.slot.as_mut().expect("only drop takes the slot")
    }

    /// Polls for all that is due as one burst for all readers that keep up; `None` if it is to be
    /// read batch by batch.
    ///
    /// The task is parked, unless that is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        terms: Terms,
    ) -> Poll<Option<StdArc<Burst>>> {
        self.read(cx, |log, cursor| {
            if !log.is_ready(cursor) {
                return Read::None;
            }
            match log.burst_of_one(cursor, terms) {
                Some(burst) => Read::All(Some(burst)),
                None => Read::Part(None),
            }
        })
    }

    /// Runs `read` on its log, and notes whether the task is parked.
    fn read<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log, &mut Cursor) -> Read<T>,
    ) -> Poll<T> {
        let slot = self.slot.as_mut().expect("only drop takes the slot");
        let read = self
            .state
            .read(&slot.place, cx, |log| read(log, &mut slot.cursor));
        slot.parked = read.is_parked();
        read.into_poll()
    }

    /// The topic it is subscribed to.
    pub fn topic(&self) -> &Topic {
        self.state.topic()
    }

    /// The next message, or the number of messages lost before it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Received {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message, or the number of messages lost before it.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        self.poll_one(cx, Amount::Message).map(|next| match next {
            Ok(batch) => Received::Message(batch.into_message()),
            Err(lost) => Received::Lagged(lost),
        })
    }

    /// Polls for the messages of the next batch, as they were published together; or for the number
    /// of messages lost before them.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, u64>> {
        self.poll_one(cx, Amount::Batch)
    }

    fn poll_one(&mut self, cx: &mut Context<'_>, amount: Amount) -> Poll<Result<Batch, u64>> {
        self.read(cx, |log, cursor| {
            let lost = log.skip_lost(cursor);
            if lost > 0 {
                return Read::Part(Err(lost));
            }
            let mut next = None;
            log.read(cursor, amount, |batch| next = Some(batch));
            next.map_or(Read::None, |batch| Read::Part(Ok(batch)))
        })
    }

    /// Polls for everything that is due, up to `bytes_max` payload bytes but at least one message:
    /// hands it to `sink` and returns how many messages were lost before the first of them.
    ///
    /// `sink` runs under the topic's lock and must not block. If that was all there was, the task
    /// is woken by the next publish, though this is ready.
    pub fn poll_batches(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        sink: impl FnMut(Batch),
    ) -> Poll<u64> {
        self.read(cx, |log, cursor| {
            if !log.is_ready(cursor) {
                return Read::None;
            }
            let lost = log.read(cursor, Amount::Bytes(bytes_max), sink);
            if log.is_ready(cursor) {
                Read::Part(lost)
            } else {
                Read::All(lost)
            }
        })
    }

    /// The offset of the message it would receive next, had none been lost; a topic counts its
    /// messages from 0, from its first subscriber on.
    pub fn next_offset(&self) -> u64 {
        self.slot().cursor.offset()
    }

    /// Polls for the newest message: how many before it were lost, or are left out for it, and it.
    pub fn poll_latest(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Message)> {
        self.read(cx, |log, cursor| {
            log.latest(cursor).map_or(Read::None, Read::Part)
        })
    }

    /// Payload bytes that the topic keeps, for all its subscribers; the task is woken by the next
    /// publish even though what is there was not received.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> usize {
        self.state.watch(self.slot(), cx)
    }

    /// Messages that wait to be received.
    pub fn pending(&self) -> u64 {
        let slot = self.slot();
        if self.state.is_quiet(slot) {
            return 0;
        }
        self.state.unread(slot)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.topics.unsubscribe(&self.state, slot);
        }
    }
}
