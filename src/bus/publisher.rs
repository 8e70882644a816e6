//! The end of a topic that a publisher holds, which may wait for room.

use std::num::NonZeroU64;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::history::{EndError, Maker, Position};
use super::state::{Offer, TopicState};
use super::topic::Topic;
use super::topics::{Published, Topics};
use crate::sync::{Arc, WaiterSlot};

/// A publisher to one topic, which remembers where the topic is and can wait for room so that no
/// subscriber loses a message.
#[derive(Debug)]
pub struct Publisher {
    topics: Arc<Topics>,
    topic: Topic,
    /// The topic found by the last look-up; the bus may have removed it since.
    state: Option<Arc<TopicState>>,
    /// The slot at `state` where the task waits for room, if it waits.
    parked: Option<WaiterSlot>,
    /// The slot at `state` where the task waits until its messages are processed, if it waits.
    processed_waiter: Option<WaiterSlot>,
    /// The offset after the last message that was offered and published at `state`.
    published_end: Option<NonZeroU64>,
}

/// The result of an offer of a [`Publisher`].
#[derive(Debug, PartialEq)]
#[must_use = "messages that were not published are in it"]
pub enum Offered {
    /// A subscriber would lose a message by the first message of this batch, so the batch was not
    /// published. The messages before the batch were published.
    ///
    /// The task is woken once there may be room, or once there is no subscriber left to wait for.
    Full(Batch),
    /// The topic has no subscriber: no message was published.
    NoSubscribers(Batch),
    /// All messages were published, to this many subscribers.
    Published(usize),
}

impl Publisher {
    pub(super) fn new(topics: Arc<Topics>, topic: Topic, state: Option<Arc<TopicState>>) -> Self {
        Self {
            topics,
            topic,
            state,
            parked: None,
            processed_waiter: None,
            published_end: None,
        }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Publishes messages without waiting, even if subscribers lose older messages, and returns the
    /// number of subscribers.
    ///
    /// Does what [`MessageBus::publish`](super::MessageBus::publish) does on the topic, but looks
    /// the topic up only if the bus has removed the one found before.
    pub fn publish(&self, batch: Batch) -> usize {
        self.publish_by(batch, &Maker::default()).subscribers
    }

    /// Publishes as [`publish`](Self::publish) does, and returns also the position that the
    /// messages have in the history of the topic, which `maker` makes if there is none.
    pub fn publish_by(&self, batch: Batch, maker: &Maker) -> Published {
        let found = self.state.as_deref();
        self.topics.publish_on(found, &self.topic, batch, maker)
    }

    /// Publishes the end of the topic, with JSON as its data, and returns its position in the
    /// history; see [`InMemoryMessageBus::end`](super::InMemoryMessageBus::end).
    ///
    /// # Errors
    ///
    /// When the topic has no history or has ended before, or the data are not fit.
    pub fn end(&self, end: Batch) -> Result<Position, EndError> {
        self.topics.end(&self.topic, end, &Maker::default())
    }

    /// Publishes the first messages of a batch, as many as fit without a loss to any subscriber.
    /// For topics without a history: the bounds over all histories are not looked at.
    ///
    /// A publisher that is woken owns a reserved slot until it offers again or
    /// [withdraws](Self::withdraw).
    pub fn offer(&mut self, cx: &mut Context<'_>, batch: Batch) -> Offered {
        let told = self.topics.copy_for_taps(&batch);
        let messages = batch.len();
        let offer = self.offer_there(cx, batch);
        self.note_published(&offer, messages);
        match offer {
            Offer::Published(published) => {
                self.topics.tell_published(&self.topic, told, published);
                Offered::Published(published.subscribers)
            }
            Offer::Full(left, published) => {
                let front = told.and_then(|mut told| {
                    let front = told.len() - left.len();
                    (front > 0).then(|| told.split_front(front))
                });
                if let Some(published) = published {
                    self.topics.tell_published(&self.topic, front, published);
                }
                Offered::Full(left)
            }
            Offer::NoSubscribers(batch) => Offered::NoSubscribers(batch),
        }
    }

    /// Offers at the topic found last; if that topic has no readers, looks up the current topic.
    fn offer_there(&mut self, cx: &mut Context<'_>, batch: Batch) -> Offer {
        let batch = match &self.state {
            Some(state) => {
                let now = self.topics.now_of(state);
                match state.offer(batch, now, &mut self.parked, cx.waker()) {
                    Offer::NoSubscribers(batch) => batch,
                    offer @ (Offer::Full(..) | Offer::Published(_)) => return offer,
                }
            }
            None => batch,
        };
        // A topic that lost its last subscriber was removed for good; a new topic may have its
        // name.
        self.look_up();
        match &self.state {
            Some(state) => {
                let now = self.topics.now_of(state);
                state.offer(batch, now, &mut self.parked, cx.waker())
            }
            None => Offer::NoSubscribers(batch),
        }
    }

    /// Notes the offset after the last published message of `messages` offered ones.
    fn note_published(&mut self, offer: &Offer, messages: usize) {
        let (published, count) = match offer {
            Offer::Published(published) => (published, messages),
            Offer::Full(left, Some(published)) => (published, messages - left.len()),
            Offer::Full(_, None) | Offer::NoSubscribers(_) => return,
        };
        self.published_end = NonZeroU64::new(published.first + count as u64);
    }

    /// Looks the topic up again; gives up every wait at the topic found before.
    fn look_up(&mut self) {
        self.withdraw();
        self.leave_processed();
        self.published_end = None;
        self.state = self.topics.find(&self.topic);
    }

    /// Polls until the messages of this publisher are processed: each reader of the topic has
    /// received the last of them and has asked for more since, or has left.
    ///
    /// The task is woken at that time.
    pub(crate) fn poll_processed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (&self.state, self.published_end) {
            (Some(state), Some(published_end)) => {
                state.poll_processed(published_end, &mut self.processed_waiter, cx.waker())
            }
            (Some(_) | None, _) => Poll::Ready(()),
        }
    }

    /// Whether a message of this publisher was published at the topic found last.
    pub(crate) fn has_published(&self) -> bool {
        self.published_end.is_some()
    }

    /// Treats all messages published so far, by any publisher, as messages of this publisher, for
    /// [`poll_processed`](Self::poll_processed).
    pub(crate) fn adopt(&mut self) {
        self.look_up();
        let next = self.state.as_ref().map_or(0, |state| state.next_offset());
        self.published_end = NonZeroU64::new(next);
    }

    /// The offset of the message that is published next on the topic, which is looked up if the bus
    /// has removed the topic found before; 0 if there is no topic.
    pub(crate) fn tail(&self) -> u64 {
        let found = self.state.clone();
        let found = found.filter(|state| state.lock().readers() > 0);
        let found = found.or_else(|| self.topics.find(&self.topic));
        found.map_or(0, |state| state.next_offset())
    }

    /// The offset of the message that is published next at the topic found last; 0 if there is no
    /// topic.
    pub(crate) fn position(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.next_offset())
    }

    fn leave_processed(&mut self) {
        if let (Some(state), Some(waiter)) = (&self.state, self.processed_waiter.take()) {
            state.leave_processed(waiter);
        }
    }

    /// Stops waiting for room, and wakes another waiting publisher if there is room.
    pub fn withdraw(&mut self) {
        if let (Some(state), Some(waiter)) = (&self.state, self.parked.take()) {
            state.leave(waiter);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.withdraw();
        self.leave_processed();
    }
}
