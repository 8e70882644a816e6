//! One topic of the bus: its log behind a lock, and the tasks that wait on it.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};

use super::batch::Batch;
use super::lazy::LazyLog;
use super::log::Log;
use super::message::Message;
use super::ring::Ring;
use super::subscription::Seat;
use super::topic::Topic;
use super::turns::Turns;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Place, Waiters, Wakers};

/// A message that was published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// Those who were subscribed: one at least.
    pub(super) subscribers: usize,
    /// The message's number.
    pub(super) number: u64,
}

/// What is on offer.
pub(super) trait Offers {
    fn is_empty(&self) -> bool;

    /// Appends as much as loses nobody a message, and leaves the rest; how many messages that is.
    fn append_to(&mut self, log: &mut Log) -> u64;
}

impl Offers for Option<Message> {
    fn is_empty(&self) -> bool {
        self.is_none()
    }

    fn append_to(&mut self, log: &mut Log) -> u64 {
        log.append_offered(self)
    }
}

impl Offers for Batch {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn append_to(&mut self, log: &mut Log) -> u64 {
        log.append_fitting(self)
    }
}

/// What came of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// Somebody would lose a message by the first that is left; the task is parked. Of those before
    /// it this is the last, if there are any.
    Full(Option<Published>),
    /// There are no subscribers: the topic was taken out of the map meanwhile.
    Nobody,
    /// All are published, of which this is the last.
    Published(Published),
}

/// What came of a read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read<T> {
    /// Everything there was; the task is parked.
    All(T),
    /// There was nothing; the task is parked.
    None,
    /// There may be more.
    Part(T),
}

impl<T> Read<T> {
    /// Whether the task is parked.
    pub(super) fn is_parked(&self) -> bool {
        match self {
            Self::All(_) | Self::None => true,
            Self::Part(_) => false,
        }
    }

    pub(super) fn into_poll(self) -> Poll<T> {
        match self {
            Self::All(read) | Self::Part(read) => Poll::Ready(read),
            Self::None => Poll::Pending,
        }
    }
}

/// One topic: its log and who waits on it.
#[derive(Debug)]
pub(super) struct Cell {
    topic: Topic,
    state: Mutex<State>,
    /// The number of the next message, for those who only look whether there is something new.
    ///
    /// Written under the lock, before anybody is woken.
    tail: AtomicU64,
}

/// What the lock of a topic guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) log: LazyLog,
    pub(super) subscribers: Waiters,
    /// Few topics ever have any.
    pub(super) publishers: Option<Box<Publishers>>,
}

/// Publishers that wait.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    /// For room.
    pub(super) room: Waiters,
    /// Until what they have published is dealt with.
    pub(super) turns: Turns,
}

impl State {
    pub(super) fn enter(&mut self) -> Seat {
        Seat {
            cursor: self.log.attach(),
            place: self.subscribers.enter(),
            parked: false,
        }
    }

    /// Appends to the log, which somebody reads.
    #[inline]
    fn append(&mut self, message: Message) -> Published {
        let log = self.log.keep();
        let published = Published {
            subscribers: log.readers(),
            number: log.next_number(),
        };
        log.append(message);
        published
    }

    /// The same for several, of which there is one at least.
    fn append_batch(&mut self, batch: &mut Batch) -> Published {
        let log = self.log.keep();
        log.append_batch(batch);
        Published {
            subscribers: log.readers(),
            number: log.next_number() - 1,
        }
    }

    /// Appends what is on offer up to the first that somebody would lose a message by.
    fn append_all(&mut self, offers: &mut impl Offers) -> Option<Published> {
        let log = self.log.keep();
        let count = offers.append_to(log);
        (count > 0).then(|| Published {
            subscribers: log.readers(),
            number: log.next_number() - 1,
        })
    }

    /// Takes out as many of the publishers that wait as there is room for, beside those who have
    /// been woken and have not come back.
    pub(super) fn unpark_publishers(&mut self) -> Wakers {
        let Some(publishers) = &mut self.publishers else {
            return Wakers::default();
        };
        let waiting = &mut publishers.room;
        if self.log.readers() == 0 {
            return waiting.unpark();
        }
        let room = self.log.room().saturating_sub(waiting.awake());
        waiting.unpark_some(room)
    }

    /// Takes out those whose messages may be dealt with, if there are any.
    pub(super) fn unpark_turns(&mut self) -> Option<Box<Wakers>> {
        let publishers = self.publishers.as_mut()?;
        let first = publishers.turns.first()?;
        if is_dealt_with(&self.log, &self.subscribers, first) {
            return Some(Box::new(publishers.turns.unpark()));
        }
        None
    }

    /// A publisher waits; the waker it had is to be dropped after unlocking.
    #[must_use]
    fn park_publisher(&mut self, place: &mut Option<Place>, waker: &Waker) -> Option<Waker> {
        let waiting = &mut self.publishers.get_or_insert_default().room;
        let place = place.get_or_insert_with(|| waiting.enter());
        waiting.park(place, waker)
    }

    /// A publisher does not wait any more; its waker is to be dropped after unlocking.
    #[must_use]
    fn leave_publisher(&mut self, place: &mut Option<Place>) -> Option<Waker> {
        self.publishers.as_mut()?.room.leave(place.take()?)
    }

    /// Whether what was published before this number is dealt with; parks the task otherwise. The
    /// waker it had is to be dropped after unlocking.
    fn poll_turn(
        &mut self,
        before: NonZeroU64,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> (Poll<()>, Option<Waker>) {
        if is_dealt_with(&self.log, &self.subscribers, before) {
            return (Poll::Ready(()), self.leave_turns(place));
        }
        let turns = &mut self.publishers.get_or_insert_default().turns;
        (Poll::Pending, turns.park(before, place, waker))
    }

    /// A publisher waits for no turn any more; its waker is to be dropped after unlocking.
    #[must_use]
    fn leave_turns(&mut self, place: &mut Option<Place>) -> Option<Waker> {
        self.publishers.as_mut()?.turns.leave(place.take()?)
    }

    #[must_use]
    pub(super) fn leave(&mut self, seat: Seat) -> Option<Waker> {
        self.log.detach(seat.cursor);
        self.subscribers.leave(seat.place)
    }
}

/// Whether all readers have received what was published before this number, and have asked for more
/// since; one that has left deals with nothing any more.
fn is_dealt_with(log: &LazyLog, readers: &Waiters, before: NonZeroU64) -> bool {
    let received = log.received();
    let asks_for_more = readers.awake() == 0;
    log.readers() == 0 || received > before.get() || (received == before.get() && asks_for_more)
}

impl Cell {
    pub(super) fn new(topic: Topic, window: Window) -> Self {
        let state = State {
            log: LazyLog::new(window),
            subscribers: Waiters::default(),
            publishers: None,
        };
        Self {
            topic,
            state: Mutex::new(state),
            tail: AtomicU64::new(0),
        }
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Whether a subscriber that was parked here has nothing to be woken for.
    #[inline]
    pub(super) fn is_quiet(&self, seat: &Seat) -> bool {
        // A wake happens before the poll that it causes: who was woken sees what it was woken for.
        self.tail.load(Ordering::Acquire) == seat.cursor.number()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Publishes to the subscribers there are.
    ///
    /// Gives the message back if the topic was taken out of the map meanwhile, as none are left
    /// then, and counts nothing.
    pub(super) fn publish(&self, message: Message) -> Result<Published, Message> {
        let mut state = self.state.lock();
        if state.log.readers() == 0 {
            return Err(message);
        }
        let published = state.append(message);
        let wakers = self.announce(&mut state);
        drop(state);
        wakers.wake();
        Ok(published)
    }

    /// The same for several, the oldest first; they are left if nobody is subscribed any more.
    pub(super) fn publish_batch(&self, batch: &mut Batch) -> Option<Published> {
        let mut state = self.state.lock();
        if state.log.readers() == 0 {
            return None;
        }
        let published = state.append_batch(batch);
        let wakers = self.announce(&mut state);
        drop(state);
        wakers.wake();
        Some(published)
    }

    /// Publishes what is on offer as far as that loses nobody a message; parks the task if
    /// something is left, at this place, or at a new one if it has none.
    pub(super) fn offer(
        &self,
        offers: &mut impl Offers,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Offer {
        let mut state = self.state.lock();
        let has_readers = state.log.readers() > 0;
        let last = has_readers.then(|| state.append_all(offers)).flatten();
        let wakers = last.map(|_| self.announce(&mut state));
        let (offer, replaced) = match last {
            Some(published) if offers.is_empty() => {
                (Offer::Published(published), state.leave_publisher(place))
            }
            None if !has_readers => (Offer::Nobody, state.leave_publisher(place)),
            Some(_) | None => (Offer::Full(last), state.park_publisher(place, waker)),
        };
        drop(state);
        drop(replaced);
        wakers.unwrap_or_default().wake();
        offer
    }

    /// Tells of what was appended; the wakers are to be woken after unlocking.
    fn announce(&self, state: &mut State) -> Wakers {
        self.tail.store(state.log.next_number(), Ordering::Release);
        state.subscribers.unpark()
    }

    /// A publisher stops waiting.
    pub(super) fn leave(&self, place: Place) {
        let mut state = self.state.lock();
        let left = state.leave_publisher(&mut Some(place));
        // Its room is another one's.
        let publishers = state.unpark_publishers();
        drop(state);
        drop(left);
        publishers.wake();
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Ready once what was published before this number is dealt with; parks the task until then,
    /// at this place, or at a new one if it has none.
    pub(super) fn poll_turn(
        &self,
        before: NonZeroU64,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<()> {
        let mut state = self.state.lock();
        let (poll, replaced) = state.poll_turn(before, place, waker);
        drop(state);
        drop(replaced);
        poll
    }

    /// A publisher waits for no turn any more.
    pub(super) fn leave_turns(&self, place: Place) {
        let left = self.state.lock().leave_turns(&mut Some(place));
        drop(left);
    }

    /// Takes what `read` does, which tells whether the task at `place` is to be parked.
    pub(super) fn read<T>(
        &self,
        place: &Place,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log) -> Read<T>,
    ) -> Read<T> {
        let mut state = self.state.lock();
        let read = state.log.kept_mut().map_or(Read::None, read);
        let park = read.is_parked();
        let replaced = park.then(|| state.subscribers.park(place, cx.waker()));
        let publishers = state.unpark_publishers();
        let turns = state.unpark_turns();
        drop(state);
        drop(replaced);
        if !planted::is(Bug::RoomWakesNobody) {
            publishers.wake();
        }
        if let Some(turns) = turns {
            turns.wake();
        }
        read
    }

    /// Settles what a reader has taken ahead; see [`Log::settle`].
    pub(super) fn settle(&self, end: u64, rest: &mut Ring) {
        let mut state = self.state.lock();
        let is_left = state
            .log
            .kept_mut()
            .is_some_and(|log| log.settle(end, rest));
        let subscribers = is_left.then(|| state.subscribers.unpark());
        let publishers = state.unpark_publishers();
        let turns = state.unpark_turns();
        drop(state);
        subscribers.unwrap_or_default().wake();
        if !planted::is(Bug::RoomWakesNobody) {
            publishers.wake();
        }
        if let Some(turns) = turns {
            turns.wake();
        }
    }

    /// Parks the task whatever there is, and returns the payload bytes kept.
    pub(super) fn watch(&self, seat: &Seat, cx: &mut Context<'_>) -> usize {
        let mut state = self.state.lock();
        let replaced = state.subscribers.park(&seat.place, cx.waker());
        let bytes = state.log.bytes();
        drop(state);
        drop(replaced);
        bytes
    }

    pub(super) fn unread(&self, seat: &Seat) -> u64 {
        self.state.lock().log.unread(&seat.cursor)
    }
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;

    /// Each client has a topic, on which nothing may ever be said.
    #[test]
    fn a_topic_stays_small() {
        let bytes = size_of::<Cell>();
        assert!(bytes <= 88, "{bytes} bytes");
    }
}
