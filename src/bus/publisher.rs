//! The end of a publisher that may wait for room.

use std::num::NonZeroU64;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::state::{Offer, TopicState};
use super::topic::Topic;
use super::topics::Topics;
use crate::sync::{Arc, Place};

/// A publisher to one topic, which knows where that is, and can wait rather than make its
/// subscribers lose a message.
#[derive(Debug)]
pub struct Publisher {
    topics: Arc<Topics>,
    topic: Topic,
    /// Where the topic was found last; it may have been removed since.
    state: Option<Arc<TopicState>>,
    /// Where its task is parked there for room, if it is.
    parked: Option<Place>,
    /// Where its task is parked there until its messages are dealt with, if it is.
    turn: Option<Place>,
    /// The offset after its last offered message there.
    said: Option<NonZeroU64>,
}

/// What came of messages that a [`Publisher`] offered.
#[derive(Debug, PartialEq)]
#[must_use = "messages that were not published are in it"]
pub enum Offered {
    /// These were not published: a subscriber would lose a message by the first of them. The
    /// messages before them were.
    ///
    /// The task is woken when there may be room, or no subscriber to wait for.
    Full(Batch),
    /// None was published: the topic has no subscriber.
    Nobody(Batch),
    /// All were published to so many subscribers.
    Published(usize),
}

impl Publisher {
    pub(super) fn new(topics: Arc<Topics>, topic: Topic, state: Option<Arc<TopicState>>) -> Self {
        Self {
            topics,
            topic,
            state,
            parked: None,
            turn: None,
            said: None,
        }
    }

    /// Publishes messages whatever their subscribers lose by them, and returns how many subscribers
    /// there are.
    ///
    /// The same as [`MessageBus::publish`](super::MessageBus::publish) on its topic, without a
    /// look-up as long as the topic is the one that was found before.
    pub fn publish(&self, batch: Batch) -> usize {
        let found = self.state.as_deref();
        self.topics.publish_on(found, &self.topic, batch)
    }

    /// Publishes the first messages of a batch, as many as lose no subscriber a message.
    ///
    /// A publisher that is woken owns a reserved slot until it offers again or
    /// [withdraws](Self::withdraw).
    pub fn offer(&mut self, cx: &mut Context<'_>, batch: Batch) -> Offered {
        let told = self.topics.copy_for_taps(&batch);
        let messages = batch.len();
        let offer = self.offer_there(cx, batch);
        self.note_said(&offer, messages);
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
            Offer::Nobody(batch) => Offered::Nobody(batch),
        }
    }

    /// Offers where the topic was found last, or where it is now.
    fn offer_there(&mut self, cx: &mut Context<'_>, batch: Batch) -> Offer {
        let batch = match &self.state {
            Some(state) => match state.offer(batch, &mut self.parked, cx.waker()) {
                Offer::Nobody(batch) => batch,
                offer @ (Offer::Full(..) | Offer::Published(_)) => return offer,
            },
            None => batch,
        };
        // A topic that lost its last subscriber never gets another one: there may be a new one.
        self.look_up();
        match &self.state {
            Some(state) => state.offer(batch, &mut self.parked, cx.waker()),
            None => Offer::Nobody(batch),
        }
    }

    /// Notes the offset after the last message that was published of this many offered ones.
    fn note_said(&mut self, offer: &Offer, messages: usize) {
        let (published, count) = match offer {
            Offer::Published(published) => (published, messages),
            Offer::Full(left, Some(published)) => (published, messages - left.len()),
            Offer::Full(_, None) | Offer::Nobody(_) => return,
        };
        self.said = NonZeroU64::new(published.first + count as u64);
    }

    /// From now on it publishes where the topic is now, if it is there, and waits nowhere else.
    fn look_up(&mut self) {
        self.withdraw();
        self.leave_turns();
        self.said = None;
        self.state = self.topics.find(&self.topic);
    }

    /// Ready once its messages are dealt with: the readers of the topic have received the last of
    /// them and have asked for more since, or are gone.
    ///
    /// The task is woken then.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (&self.state, self.said) {
            (Some(state), Some(said)) => state.poll_turn(said, &mut self.turn, cx.waker()),
            (Some(_) | None, _) => Poll::Ready(()),
        }
    }

    /// Whether it has offered any message that was published there.
    pub(crate) fn has_said(&self) -> bool {
        self.said.is_some()
    }

    /// Counts all messages that were published until now, by any publisher, as its own, for
    /// [`poll_turn`](Self::poll_turn).
    pub(crate) fn adopt(&mut self) {
        self.look_up();
        let next = self.state.as_ref().map_or(0, |state| state.next_offset());
        self.said = NonZeroU64::new(next);
    }

    fn leave_turns(&mut self) {
        if let (Some(state), Some(place)) = (&self.state, self.turn.take()) {
            state.leave_turns(place);
        }
    }

    /// Waits no longer, and leaves the room that there may be to others.
    pub fn withdraw(&mut self) {
        if let (Some(state), Some(place)) = (&self.state, self.parked.take()) {
            state.leave(place);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.withdraw();
        self.leave_turns();
    }
}
