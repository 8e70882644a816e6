//! One topic: its log behind a lock, and the tasks that wait for it.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};

use super::batch::Batch;
use super::counts::TopicCounts;
use super::log::{Cursor, Log};
use super::topic::Topic;
use super::turns::Turns;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Place, Waiters, Wakers};

/// Messages that were published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// The subscribers there were: one at least.
    pub(super) subscribers: usize,
    /// The offset of the first message.
    pub(super) first: u64,
    /// Whether a tap is to be told of them.
    pub(super) is_tapped: bool,
}

/// What came of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// A subscriber would lose a message by these, which were not published; the task is parked.
    ///
    /// Messages before them may have been published.
    Full(Batch, Option<Published>),
    /// There are no subscribers: the topic was removed from the bus meanwhile.
    Nobody(Batch),
    /// All are published.
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

/// One topic of a bus.
#[derive(Debug)]
pub(super) struct TopicState {
    topic: Topic,
    guarded: Mutex<Guarded>,
    /// The offset of the next message, for readers that only look whether there is something new.
    ///
    /// It is written under the lock, before any reader is woken.
    tail: AtomicU64,
}

/// What the lock of a topic guards.
#[derive(Debug)]
pub(super) struct Guarded {
    /// `None` until the first message: each client has a topic, and many never get a message there.
    log: Option<Box<Log>>,
    readers: u32,
    /// Whether a tap is to be told of what is published.
    pub(super) is_tapped: bool,
    window: Window,
    pub(super) subscribers: Waiters,
    /// Few topics ever have any.
    publishers: Option<Box<Publishers>>,
}

/// Publishers that wait.
#[derive(Debug, Default)]
struct Publishers {
    /// For room.
    room: Waiters,
    /// Until the messages that they have published are dealt with.
    turns: Turns,
}

/// What a topic keeps for one subscriber.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cursor: Cursor,
    pub(super) place: Place,
    /// Whether a task is parked, or was and has been woken since by messages that it has not read.
    pub(super) parked: bool,
}

impl Guarded {
    /// Subscribers there are.
    pub(super) fn readers(&self) -> usize {
        self.readers as usize
    }

    /// The log, if anything was ever published.
    pub(super) fn log(&self) -> Option<&Log> {
        self.log.as_deref()
    }

    pub(super) fn counts(&self) -> TopicCounts {
        self.log().map_or_else(TopicCounts::default, Log::counts)
    }

    pub(super) fn enter(&mut self) -> Slot {
        self.readers += 1;
        let log = self.log.as_deref_mut();
        Slot {
            cursor: log.map_or(Cursor::START, Log::attach),
            place: self.subscribers.enter(),
            parked: false,
        }
    }

    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn leave(&mut self, slot: Slot) -> Option<Waker> {
        self.readers -= 1;
        if let Some(log) = &mut self.log {
            log.detach(&slot.cursor);
        }
        self.subscribers.leave(slot.place)
    }

    /// The log, from now on in any case.
    #[inline]
    fn log_mut(&mut self) -> &mut Log {
        let (window, readers) = (self.window, self.readers());
        self.log
            .get_or_insert_with(|| Box::new(Log::of(window, readers)))
    }

    /// Appends to the log, which has a reader.
    #[inline]
    fn append(&mut self, batch: Batch) -> Published {
        let readers = self.readers();
        let log = self.log_mut();
        let first = log.tail();
        log.append(batch, readers);
        Published {
            subscribers: readers,
            first,
            is_tapped: self.is_tapped,
        }
    }

    /// Takes out as many of the waiting publishers as there is room for, beside those that have
    /// been woken and have not come back.
    pub(super) fn unpark_publishers(&mut self) -> Wakers {
        let Some(publishers) = &mut self.publishers else {
            return Wakers::default();
        };
        let waiting = &mut publishers.room;
        if self.readers == 0 {
            return waiting.unpark();
        }
        let room = self.log.as_ref().map_or(usize::MAX, |log| log.room());
        waiting.unpark_some(room.saturating_sub(waiting.awake()))
    }

    /// Takes out the publishers whose messages may be dealt with, if there are any.
    pub(super) fn unpark_turns(&mut self) -> Option<Box<Wakers>> {
        let publishers = self.publishers.as_deref()?;
        let first = publishers.turns.first()?;
        if !self.has_dealt_with(first) {
            return None;
        }
        let turns = &mut self.publishers.as_deref_mut()?.turns;
        Some(Box::new(turns.unpark()))
    }

    /// Whether all readers have received the messages before this offset, and have asked for more
    /// since; a reader that has left deals with nothing any more.
    fn has_dealt_with(&self, before: NonZeroU64) -> bool {
        let received = self.log().map_or(0, Log::head);
        let asks_for_more = self.subscribers.awake() == 0;
        self.readers == 0 || received > before.get() || (received == before.get() && asks_for_more)
    }

    /// Publishers that wait for room, and publishers that wait for their turn.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn waiting_publishers(&self) -> (usize, usize) {
        self.publishers
            .as_ref()
            .map_or((0, 0), |waiting| (waiting.room.len(), waiting.turns.len()))
    }

    /// A publisher waits.
    #[must_use = "a waker is dropped after unlocking"]
    fn park_publisher(&mut self, place: &mut Option<Place>, waker: &Waker) -> Option<Waker> {
        let waiting = &mut self.publishers.get_or_insert_default().room;
        let place = place.get_or_insert_with(|| waiting.enter());
        waiting.park(place, waker)
    }

    /// A publisher waits no longer.
    #[must_use = "a waker is dropped after unlocking"]
    fn leave_publisher(&mut self, place: &mut Option<Place>) -> Option<Waker> {
        self.publishers.as_mut()?.room.leave(place.take()?)
    }

    /// A publisher waits for its turn no longer.
    #[must_use = "a waker is dropped after unlocking"]
    fn leave_turns(&mut self, place: &mut Option<Place>) -> Option<Waker> {
        self.publishers.as_mut()?.turns.leave(place.take()?)
    }
}

impl TopicState {
    pub(super) fn new(topic: Topic, window: Window, is_tapped: bool) -> Self {
        Self {
            topic,
            guarded: Mutex::new(Guarded {
                log: None,
                readers: 0,
                is_tapped,
                window,
                subscribers: Waiters::default(),
                publishers: None,
            }),
            tail: AtomicU64::new(0),
        }
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Whether a subscriber that was parked here has nothing to be woken for.
    #[inline]
    pub(super) fn is_quiet(&self, slot: &Slot) -> bool {
        // A wake happens before the poll that it causes: a task sees what it was woken for.
        self.tail.load(Ordering::Acquire) == slot.cursor.offset()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock()
    }

    /// Publishes to the subscribers there are.
    ///
    /// # Errors
    ///
    /// The batch, if the topic was removed from the bus meanwhile: it has no subscribers then, and
    /// counts nothing.
    pub(super) fn publish(&self, batch: Batch) -> Result<Published, Batch> {
        let mut guarded = self.guarded.lock();
        if guarded.readers == 0 {
            return Err(batch);
        }
        let published = guarded.append(batch);
        let wakers = self.announce(&mut guarded);
        drop(guarded);
        wakers.wake();
        Ok(published)
    }

    /// Publishes the first messages of a batch, as many as lose no subscriber a message; parks the
    /// task at this place, or a new one if it has none, if some are left.
    pub(super) fn offer(
        &self,
        mut batch: Batch,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Offer {
        let mut guarded = self.guarded.lock();
        if guarded.readers == 0 {
            let left = guarded.leave_publisher(place);
            drop(guarded);
            drop(left);
            return Offer::Nobody(batch);
        }
        let fitting = guarded.log_mut().fitting(&batch);
        let (offer, replaced) = if fitting == batch.len() {
            let published = guarded.append(batch);
            (Offer::Published(published), guarded.leave_publisher(place))
        } else {
            let front = (fitting > 0).then(|| batch.split_front(fitting));
            let published = front.map(|front| guarded.append(front));
            let replaced = guarded.park_publisher(place, waker);
            (Offer::Full(batch, published), replaced)
        };
        let wakers = (fitting > 0).then(|| self.announce(&mut guarded));
        drop(guarded);
        drop(replaced);
        wakers.unwrap_or_default().wake();
        offer
    }

    /// Tells of appended messages; the wakers are to be woken after unlocking.
    fn announce(&self, guarded: &mut Guarded) -> Wakers {
        let tail = guarded.log().map_or(0, Log::tail);
        self.tail.store(tail, Ordering::Release);
        guarded.subscribers.unpark()
    }

    /// A publisher stops waiting.
    pub(super) fn leave(&self, place: Place) {
        let mut guarded = self.guarded.lock();
        let left = guarded.leave_publisher(&mut Some(place));
        // The room that it was woken for is another publisher's.
        let publishers = guarded.unpark_publishers();
        drop(guarded);
        drop(left);
        publishers.wake();
    }

    /// The offset of the next message.
    pub(super) fn next_offset(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Ready once the messages before this offset are dealt with; parks the task until then, at
    /// this place, or a new one if it has none.
    pub(super) fn poll_turn(
        &self,
        before: NonZeroU64,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<()> {
        let mut guarded = self.guarded.lock();
        let (poll, replaced) = if guarded.has_dealt_with(before) {
            (Poll::Ready(()), guarded.leave_turns(place))
        } else {
            let turns = &mut guarded.publishers.get_or_insert_default().turns;
            (Poll::Pending, turns.park(before, place, waker))
        };
        drop(guarded);
        drop(replaced);
        poll
    }

    /// A publisher waits for its turn no longer.
    pub(super) fn leave_turns(&self, place: Place) {
        let left = self.guarded.lock().leave_turns(&mut Some(place));
        drop(left);
    }

    /// Runs `read` on the log, and parks the task at `place` if that tells so.
    pub(super) fn read<T>(
        &self,
        place: &Place,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log) -> Read<T>,
    ) -> Read<T> {
        let mut guarded = self.guarded.lock();
        let read = guarded.log.as_deref_mut().map_or(Read::None, read);
        let park = read.is_parked();
        let replaced = park.then(|| guarded.subscribers.park(place, cx.waker()));
        let publishers = guarded.unpark_publishers();
        let turns = guarded.unpark_turns();
        drop(guarded);
        drop(replaced);
        if !planted::is(Bug::RoomWakesNobody) {
            publishers.wake();
        }
        if let Some(turns) = turns {
            turns.wake();
        }
        read
    }

    /// Parks the task whatever there is, and returns the payload bytes kept.
    pub(super) fn watch(&self, slot: &Slot, cx: &mut Context<'_>) -> usize {
        let mut guarded = self.guarded.lock();
        let replaced = guarded.subscribers.park(&slot.place, cx.waker());
        let bytes = guarded.log().map_or(0, Log::bytes);
        drop(guarded);
        drop(replaced);
        bytes
    }

    /// Messages that wait for this subscriber.
    pub(super) fn unread(&self, slot: &Slot) -> u64 {
        let guarded = self.guarded.lock();
        guarded.log().map_or(0, |log| log.unread(&slot.cursor))
    }
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;

    /// Each client has a topic, on which nothing may ever be published.
    #[test]
    fn a_topic_stays_small() {
        let bytes = size_of::<TopicState>();
        assert!(bytes <= 96, "{bytes} bytes");
    }
}
