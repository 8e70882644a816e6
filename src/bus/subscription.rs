//! The end of a topic that one subscriber holds.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::burst::{Burst, BurstFilter};
use super::log::Amount;
use super::message::Message;
use super::reader::{Reader, Source};
use super::state::{Read, Slot, TopicState};
use super::topic::Topic;
use super::topics::Topics;
use crate::sync::Arc;

/// A subscription to one topic; dropping it unsubscribes.
///
/// A subscription receives every message published after it was made, in the order that all
/// subscribers of the topic see. A subscriber that is too slow loses the oldest unread messages and
/// learns how many.
#[derive(Debug)]
pub struct Subscription {
    topics: Arc<Topics>,
    state: Arc<TopicState>,
    /// `None` only while the subscription is being dropped.
    slot: Option<Slot>,
}

/// An item of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The subscriber fell out of the window and lost this many messages at this position.
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

    /// Whether a poll would do nothing: the task that polled last is parked, and no message was
    /// published since.
    ///
    /// Only the task that polled last may ask; see [`moved`](Self::moved).
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let slot = self.slot();
        slot.parked && self.state.is_quiet(slot)
    }

    pub(super) fn state(&self) -> &Arc<TopicState> {
        &self.state
    }

    /// Removes the waker of the parked task, so that no message wakes the task until the next poll.
    pub(super) fn unpark(&mut self) {
        let waiter = &self.slot().waiter;
        let waker = self.state.lock().subscribers.unpark_one(waiter);
        drop(waker);
        self.moved();
    }

    /// Sets the cursor to the offset to which a shared cursor has moved this reader.
    pub(super) fn seek(&mut self, at: u64) {
        self.slot_mut().reader.cursor.seek(at);
        self.moved();
    }

    /// Notes that another task polls the subscription from now on.
    pub(crate) fn moved(&mut self) {
        self.slot_mut().parked = false;
    }

    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("only drop takes the slot")
    }

    fn slot_mut(&mut self) -> &mut Slot {
        self.slot.as_mut().expect("only drop takes the slot")
    }

    /// Polls for all unread messages as one burst, which readers at the same offset share; returns
    /// `None` if the messages are to be read batch by batch.
    ///
    /// The task is parked unless the result is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        filter: BurstFilter,
    ) -> Poll<Option<StdArc<Burst>>> {
        self.read(cx, |source, reader| {
            if !source.is_ready(reader) {
                return Read::None;
            }
            if reader.catches_up() {
                return Read::Part(None);
            }
            match source.log.burst_of_one(&mut reader.cursor, filter) {
                Some(burst) => Read::All(Some(burst)),
                None => Read::Part(None),
            }
        })
    }

    /// Runs `read` on the log of the topic, and notes whether the task is parked.
    fn read<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Source<'_>, &mut Reader) -> Read<T>,
    ) -> Poll<T> {
        let now = self.topics.now_of(&self.state);
        let slot = self.slot.as_mut().expect("only drop takes the slot");
        let read = self.state.read(&slot.waiter, cx, now, |source| {
            read(source, &mut slot.reader)
        });
        slot.parked = read.is_parked();
        read.into_poll()
    }

    /// Whether the subscription still reads messages from the history that were published before
    /// it, or while it read such messages.
    ///
    /// Meanwhile there is no burst for it, and it joins no shared cursor.
    pub fn catches_up(&self) -> bool {
        self.slot().reader.catches_up()
    }

    /// Whether messages from before the subscription are left to be read.
    pub(super) fn has_backlog(&self) -> bool {
        self.slot().reader.backlog() > 0
    }

    /// Ends the provisional part of the subscription: its end counts as a use of the room.
    pub fn confirm(&mut self) {
        self.slot_mut().is_provisional = false;
    }

    /// The subscribed topic.
    pub fn topic(&self) -> &Topic {
        self.state.topic()
    }

    /// Waits for the next message, or for the number of messages lost before it.
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

    /// Polls for the messages of the next batch, or for the number of messages lost before it.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, u64>> {
        self.poll_one(cx, Amount::Batch)
    }

    /// Polls for the next message as a batch, which tells whether it is a request, or for the
    /// number of messages lost before it.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, u64>> {
        self.poll_one(cx, Amount::Message)
    }

    fn poll_one(&mut self, cx: &mut Context<'_>, amount: Amount) -> Poll<Result<Batch, u64>> {
        self.read(cx, |source, reader| {
            let lost = source.skip_lost(reader, amount);
            if lost > 0 {
                return Read::Part(Err(lost));
            }
            let mut next = None;
            source.read(reader, amount, |batch| next = Some(batch));
            next.map_or(Read::None, |batch| Read::Part(Ok(batch)))
        })
    }

    /// Polls for all unread messages, up to `bytes_max` payload bytes but at least one message.
    /// Hands each batch to `sink` and returns how many messages were lost before the first of them.
    ///
    /// `sink` runs under the topic's lock and must not block. If the poll read everything, it also
    /// parks the task although it returns `Ready`: the next publish wakes the task.
    pub fn poll_batches(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        sink: impl FnMut(Batch),
    ) -> Poll<u64> {
        self.read(cx, |source, reader| {
            if !source.is_ready(reader) {
                return Read::None;
            }
            let lost = source.read(reader, Amount::Bytes(bytes_max), sink);
            if source.is_ready(reader) {
                Read::Part(lost)
            } else {
                Read::All(lost)
            }
        })
    }

    /// Polls as [`poll_batches`](Self::poll_batches) does, for the batches before `offset`; at once
    /// ready if there are none.
    pub(crate) fn poll_batches_before(
        &mut self,
        cx: &mut Context<'_>,
        offset: u64,
        bytes: usize,
        sink: impl FnMut(Batch),
    ) -> Poll<u64> {
        self.read(cx, |source, reader| {
            let amount = Amount::Before { offset, bytes };
            Read::Part(source.read(reader, amount, sink))
        })
    }

    /// Polls until there is a message to receive, or a loss to be told of; parks the task
    /// meanwhile.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.read(cx, |source, reader| match source.is_ready(reader) {
            true => Read::Part(()),
            false => Read::None,
        })
    }

    /// The offset of the next message to be published on the topic.
    pub(crate) fn tail(&self) -> u64 {
        self.state.next_offset()
    }

    /// The offset of messages to all clients before which the next message is not due; `None`
    /// without a next message.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let slot = self.slot();
        let guarded = self.state.lock();
        let next = guarded.log()?.peek(&slot.reader.cursor)?;
        Some(next.delivery().after())
    }

    /// The offset of the next message to receive if no message is lost; a topic counts its messages
    /// from 0, beginning with its first subscriber. Messages of the history that are still to be
    /// read come before it.
    pub fn next_offset(&self) -> u64 {
        self.slot().reader.cursor.offset()
    }

    /// Polls for the newest message; returns it with the number of messages before it that were
    /// lost or are skipped.
    pub fn poll_latest(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Message)> {
        let newest = self.poll_newest(cx);
        newest.map(|(missed, newest)| (missed, newest.into_message()))
    }

    /// Polls for the newest message as a batch, which tells the clients that it is for; else like
    /// [`poll_latest`](Self::poll_latest).
    pub(crate) fn poll_newest(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Batch)> {
        self.read(cx, |source, reader| {
            source.latest(reader).map_or(Read::None, Read::Part)
        })
    }

    /// Returns the payload bytes that the topic keeps for all its subscribers, and parks the task:
    /// the next publish wakes it even while older messages are unread.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> usize {
        self.state.watch(self.slot(), cx)
    }

    /// The number of messages that wait to be received.
    pub fn pending(&self) -> u64 {
        let slot = self.slot();
        if !slot.reader.catches_up() && self.state.is_quiet(slot) {
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
