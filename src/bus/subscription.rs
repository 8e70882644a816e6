//! One subscriber's end of a topic, and the end of a publisher that waits for room.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::ahead::{Ahead, Refill};
use super::batch::Batch;
use super::burst::{Burst, Terms};
use super::cell::{Cell, Offer, Offers, Read};
use super::group::Group;
use super::log::{Cursor, Log};
use super::memory::Shared;
use super::message::{Message, Origin};
use super::ring::Gathers;
use super::topic::Topic;
use crate::sync::{Arc, Place};

/// A subscription to one topic; dropping it unsubscribes.
///
/// It receives every message published after it was made, in the one order that all subscribers of
/// the topic see, except those it was too slow for: of these it learns the exact number.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    /// `None` only while it is being dropped.
    seat: Option<Seat>,
}

/// What the topic keeps for one subscriber.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) cursor: Cursor,
    pub(super) place: Place,
    /// Whether a task is parked, or was and has been woken since by what is to be received.
    pub(super) parked: bool,
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
    pub(super) fn new(shared: Arc<Shared>, cell: Arc<Cell>, seat: Seat) -> Self {
        Self {
            shared,
            cell,
            seat: Some(seat),
        }
    }

    /// Whether polling it could do nothing: the task that polled it last is parked, and nothing was
    /// published since.
    ///
    /// Only for the very task that polled it last; see [`moved`](Self::moved).
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let seat = self.seat();
        seat.parked && self.cell.is_quiet(seat)
    }

    /// An empty group of subscribers to its topic that stands where it does.
    pub(crate) fn group(&self) -> Group {
        Group::new(Arc::clone(&self.cell), self.next_number())
    }

    pub(super) fn is_of(&self, cell: &Arc<Cell>) -> bool {
        Arc::ptr_eq(&self.cell, cell)
    }

    /// Wakes no task any more, until it is polled.
    pub(super) fn unpark(&mut self) {
        let waker = self.cell.lock().subscribers.unpark_one(&self.seat().place);
        drop(waker);
        self.moved();
    }

    /// Stands where it was moved to as a member of a group.
    pub(super) fn stand_at(&mut self, at: u64) {
        self.seat_mut().cursor.follow(at);
        self.moved();
    }

    /// From now on another task polls it.
    pub(crate) fn moved(&mut self) {
        self.seat_mut().parked = false;
    }

    fn seat(&self) -> &Seat {
        self.seat.as_ref().expect("only drop takes the seat")
    }

    fn seat_mut(&mut self) -> &mut Seat {
        self.seat.as_mut().expect("only drop takes the seat")
    }

    /// Polls for all that is due as one burst for everybody who keeps up; `None` if it is to be
    /// received otherwise.
    ///
    /// The task is parked, unless that is `None`.
    pub(crate) fn poll_burst(
        &mut self,
        cx: &mut Context<'_>,
        terms: Terms,
    ) -> Poll<Option<StdArc<Burst>>> {
        self.read(cx, |log, cursor| log.burst_of_one(cursor, terms))
    }

    /// Takes what `read` does for it, and notes whether the task is parked.
    fn read<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log, &mut Cursor) -> Read<T>,
    ) -> Poll<T> {
        let seat = self.seat.as_mut().expect("only drop takes the seat");
        let read = self
            .cell
            .read(&seat.place, cx, |log| read(log, &mut seat.cursor));
        seat.parked = read.is_parked();
        read.into_poll()
    }

    /// The topic it is subscribed to.
    pub fn topic(&self) -> &Topic {
        self.cell.topic()
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
        self.read(cx, |log, cursor| {
            log.next(cursor).map_or(Read::None, Read::Part)
        })
    }

    /// Nothing of its topic yet, for [`poll_ahead`](Self::poll_ahead).
    pub(crate) fn ahead(&self) -> Ahead {
        Ahead::new(Arc::clone(&self.cell))
    }

    /// The next message of those that were taken ahead of this topic.
    #[inline]
    pub(crate) fn next_ahead(&mut self, ahead: &mut Ahead) -> Option<Message> {
        if !ahead.is_of(&self.cell) {
            return None;
        }
        let message = ahead.next()?;
        self.seat_mut().cursor.step(1);
        Some(message)
    }

    /// What one origin has said together, or in a row, of those that were taken ahead of this
    /// topic: that origin, which none of them names, and the messages.
    #[inline]
    pub(crate) fn next_batch_ahead(&mut self, ahead: &mut Ahead) -> Option<(Origin, Batch)> {
        if !ahead.is_of(&self.cell) {
            return None;
        }
        let (origin, batch) = ahead.next_batch()?;
        self.seat_mut().cursor.step(batch.len() as u64);
        Some((origin, batch))
    }

    /// Takes ahead what there is, once there is [nothing ahead](Self::next_ahead); or the same as
    /// [`poll_recv`](Self::poll_recv), where that cannot be.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>, ahead: &mut Ahead) -> Poll<Refill> {
        if !ahead.is_of(&self.cell) {
            return self.poll_recv(cx).map(Refill::Received);
        }
        self.read(cx, |log, cursor| ahead.refill(log, cursor))
    }

    /// Polls for everything that is due, up to `bytes_max` payload bytes but at least one message:
    /// appends it to `into` and returns how many messages were lost before the first of them.
    ///
    /// If that was all there was, the task is woken by the next publish, though this is ready.
    pub fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        into: &mut Vec<Message>,
    ) -> Poll<u64> {
        self.poll_gather(cx, bytes_max, into)
    }

    /// The same into what is gathered, which costs nothing where this is the one subscriber.
    pub(crate) fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        into: &mut Batch,
    ) -> Poll<u64> {
        self.poll_gather(cx, bytes_max, into)
    }

    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        into: &mut impl Gathers,
    ) -> Poll<u64> {
        self.read(cx, |log, cursor| {
            if !log.is_ready(cursor) {
                return Read::None;
            }
            let lost = log.read(cursor, bytes_max, into);
            if log.is_ready(cursor) {
                Read::Part(lost)
            } else {
                Read::All(lost)
            }
        })
    }

    /// The number of the message it would receive next, had none been lost; a topic counts its
    /// messages from 0, from its first subscriber on.
    pub fn next_number(&self) -> u64 {
        self.seat().cursor.number()
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
        self.cell.watch(self.seat(), cx)
    }

    /// Messages that wait to be received.
    pub fn pending(&self) -> u64 {
        let seat = self.seat();
        if self.cell.is_quiet(seat) {
            return 0;
        }
        self.cell.unread(seat)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.shared.unsubscribe(&self.cell, seat);
        }
    }
}

/// A publisher to one topic that waits, rather than make its subscribers lose a message.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    at: At,
    /// Where it is parked there for room, if it is.
    parked: Option<Place>,
    /// Where it is parked there until it is its turn, if it is.
    turn: Option<Place>,
    /// The number after its last message there.
    said: Option<NonZeroU64>,
}

/// Where a publisher publishes.
#[derive(Debug)]
enum At {
    /// The topic as it was found last; it may be gone since.
    Found(Arc<Cell>),
    /// The topic was not there.
    Named(Topic),
}

impl At {
    fn topic(&self) -> &Topic {
        match self {
            Self::Found(cell) => cell.topic(),
            Self::Named(topic) => topic,
        }
    }

    fn cell(&self) -> Option<&Cell> {
        match self {
            Self::Found(cell) => Some(cell),
            Self::Named(_) => None,
        }
    }
}

/// What came of a message that a [`Publisher`] offered.
#[derive(Debug, PartialEq)]
#[must_use = "a message that was not published is in it"]
pub enum Offered {
    /// Not published: a subscriber would lose another one by it.
    ///
    /// The task is woken when there may be room, or nobody to wait for.
    Full(Message),
    /// Not published: nobody is subscribed.
    Nobody(Message),
    /// Published to so many subscribers.
    Published(usize),
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic, cell: Option<Arc<Cell>>) -> Self {
        Self {
            shared,
            at: cell.map_or(At::Named(topic), At::Found),
            parked: None,
            turn: None,
            said: None,
        }
    }

    /// Publishes the message whoever loses another one by it, and returns how many are subscribed.
    ///
    /// The same as [`MessageBus::publish`](super::MessageBus::publish) on its topic, without a
    /// look-up where that is the one which was found before.
    pub fn publish(&self, message: Message) -> usize {
        let found = self.at.cell();
        self.shared.publish_on(found, self.at.topic(), message)
    }

    /// Publishes these, the oldest first, as [`publish`](Self::publish) does one after the other.
    ///
    /// Returns how many are subscribed, 0 for no messages.
    pub fn publish_batch(&self, batch: Batch) -> usize {
        let found = self.at.cell();
        self.shared.publish_batch_on(found, self.at.topic(), batch)
    }

    /// Publishes the message if no subscriber loses another one by it.
    ///
    /// Who is woken because of one that was not finds room: it is kept for it until it offers again
    /// or [withdraws](Self::withdraw).
    pub fn offer(&mut self, cx: &mut Context<'_>, message: Message) -> Offered {
        let told = self.shared.copy_for_taps(&message);
        let mut offers = Some(message);
        match (self.offer_there(cx, &mut offers), offers) {
            (Offer::Published(published), _) => {
                let topic = self.at.topic();
                self.shared.tell_published(topic, told, published);
                Offered::Published(published.subscribers)
            }
            (Offer::Full(_), Some(message)) => Offered::Full(message),
            (Offer::Nobody, Some(message)) => Offered::Nobody(message),
            (Offer::Full(_) | Offer::Nobody, None) => {
                unreachable!("what is not published is left")
            }
        }
    }

    /// Publishes these, the oldest first, as far as no subscriber loses another one by it.
    ///
    /// What is left was not published, as with [`offer`](Self::offer).
    pub fn offer_all(&mut self, cx: &mut Context<'_>, batch: &mut Batch) {
        if !self.shared.is_tapped() {
            if !batch.is_empty() {
                let _left = self.offer_there(cx, batch);
            }
            return;
        }
        let mut left = std::mem::take(batch);
        while let Some(message) = left.pop() {
            match self.offer(cx, message) {
                Offered::Full(message) | Offered::Nobody(message) => {
                    batch.push(message);
                    batch.extend(std::iter::from_fn(|| left.pop()));
                }
                Offered::Published(_) => {}
            }
        }
    }

    /// Publishes where the topic was found last, or where it is now.
    fn offer_there(&mut self, cx: &mut Context<'_>, offers: &mut impl Offers) -> Offer {
        let offer = match self.offer_found(cx, offers) {
            // A topic that lost its last subscriber never gets another one: there may be a new one.
            Offer::Nobody => {
                self.look_up();
                self.offer_found(cx, offers)
            }
            offer @ (Offer::Full(_) | Offer::Published(_)) => offer,
        };
        match &offer {
            Offer::Full(Some(last)) | Offer::Published(last) => {
                self.said = NonZeroU64::new(last.number + 1);
            }
            Offer::Full(None) | Offer::Nobody => {}
        }
        offer
    }

    fn offer_found(&mut self, cx: &mut Context<'_>, offers: &mut impl Offers) -> Offer {
        let found = self.at.cell();
        found.map_or(Offer::Nobody, |cell| {
            cell.offer(offers, &mut self.parked, cx.waker())
        })
    }

    /// From now on it publishes where the topic is now, if it is there, and waits nowhere else.
    fn look_up(&mut self) {
        self.withdraw();
        self.leave_turns();
        self.said = None;
        if let Some(cell) = self.shared.cell(self.at.topic()) {
            self.at = At::Found(cell);
        }
    }

    /// Ready once its messages are dealt with: those who read the topic have received the last of
    /// them and have asked for more since, or are gone.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (self.at.cell(), self.said) {
            (Some(cell), Some(said)) => cell.poll_turn(said, &mut self.turn, cx.waker()),
            (Some(_) | None, _) => Poll::Ready(()),
        }
    }

    /// Whether it has published anything there.
    pub(crate) fn has_said(&self) -> bool {
        self.said.is_some()
    }

    /// Counts what anybody has published until now among its own messages, for
    /// [`poll_turn`](Self::poll_turn).
    pub(crate) fn adopt(&mut self) {
        self.look_up();
        self.said = NonZeroU64::new(self.at.cell().map_or(0, Cell::next_number));
    }

    fn leave_turns(&mut self) {
        if let (Some(cell), Some(place)) = (self.at.cell(), self.turn.take()) {
            cell.leave_turns(place);
        }
    }

    /// Waits no more, and leaves the room that there may be to others.
    pub fn withdraw(&mut self) {
        if let (Some(cell), Some(place)) = (self.at.cell(), self.parked.take()) {
            cell.leave(place);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.withdraw();
        self.leave_turns();
    }
}
