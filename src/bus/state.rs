//! The state of a topic: its log behind a lock, and the tasks that wait for it.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};

use super::batch::Batch;
use super::counts::TopicCounts;
use super::log::{Cursor, Log};
use super::processed::ProcessedWaiters;
use super::topic::Topic;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, WaiterSlot, Waiters, Wakers};

/// The result of a publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// The number of subscribers: at least one.
    pub(super) subscribers: usize,
    /// The offset of the first message.
    pub(super) first: u64,
    /// Whether a tap is to be told of the messages.
    pub(super) is_tapped: bool,
}

/// The result of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// A subscriber would lose a message by this batch, so it was not published; the task is
    /// parked.
    ///
    /// The messages before the batch were published if there is a second field.
    Full(Batch, Option<Published>),
    /// The topic has no subscribers: the bus has removed it.
    NoSubscribers(Batch),
    /// All messages were published.
    Published(Published),
}

/// The result of a read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read<T> {
    /// The read took all messages; the task is parked.
    All(T),
    /// The log had no unread message; the task is parked.
    None,
    /// There may be more messages; the task is not parked.
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

/// The state of one topic of a bus.
#[derive(Debug)]
pub(super) struct TopicState {
    topic: Topic,
    guarded: Mutex<Guarded>,
    /// The offset of the next message, which a reader loads without the lock to see whether there
    /// is a new message.
    ///
    /// Stored under the lock, before any reader is woken.
    tail: AtomicU64,
}

/// The data behind the lock of a topic.
#[derive(Debug)]
pub(super) struct Guarded {
    /// `None` until the first message: there is a topic for each client, and many of these topics
    /// never get a message.
    log: Option<Box<Log>>,
    readers: u32,
    /// Whether a tap is to be told of published messages.
    pub(super) is_tapped: bool,
    window: Window,
    pub(super) subscribers: Waiters,
    /// Publishers that wait; `None` for most topics, to keep them small.
    publishers: Option<Box<Publishers>>,
}

/// The publishers that wait at one topic.
#[derive(Debug, Default)]
struct Publishers {
    /// Publishers that wait for room.
    room: Waiters,
    /// Publishers that wait until their messages are processed.
    processed: ProcessedWaiters,
}

/// The position and the waiter slot of one subscriber.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cursor: Cursor,
    pub(super) waiter: WaiterSlot,
    /// Whether the last read parked the task, even if a publish has woken the task since.
    pub(super) parked: bool,
}

impl Guarded {
    /// The number of subscribers.
    pub(super) fn readers(&self) -> usize {
        self.readers as usize
    }

    /// The log, if a message was ever published.
    pub(super) fn log(&self) -> Option<&Log> {
        self.log.as_deref()
    }

    pub(super) fn counts(&self) -> TopicCounts {
        self.log().map_or_else(TopicCounts::default, Log::counts)
    }

    /// Adds a subscriber, which receives the messages published from now on.
    pub(super) fn enter(&mut self) -> Slot {
        self.readers += 1;
        let log = self.log.as_deref_mut();
        let slot = Slot {
            cursor: log.map_or(Cursor::START, Log::attach),
            waiter: self.subscribers.enter(),
            parked: false,
        };
        self.check();
        slot
    }

    /// Removes a subscriber and returns its waker.
    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn leave(&mut self, slot: Slot) -> Option<Waker> {
        assert!(
            self.readers > 0,
            "a subscriber leaves a topic that counts none"
        );
        self.readers -= 1;
        if let Some(log) = &mut self.log {
            log.detach(&slot.cursor);
        }
        let waker = self.subscribers.leave(slot.waiter);
        self.check();
        waker
    }

    /// Checks the subscribers against the log and the waiters, in builds with debug assertions.
    fn check(&self) {
        debug_assert!(
            self.subscribers.len() >= self.readers(),
            "the topic has {} subscribers, but waiter slots for only {} tasks of theirs",
            self.readers,
            self.subscribers.len(),
        );
        if let Some(log) = self.log() {
            log.check_readers(self.readers());
        }
    }

    /// The log, which is made if it does not exist yet.
    #[inline]
    fn log_mut(&mut self) -> &mut Log {
        let (window, readers) = (self.window, self.readers());
        self.log
            .get_or_insert_with(|| Box::new(Log::of(window, readers)))
    }

    /// Appends to the log; there must be a reader.
    #[inline]
    fn append(&mut self, batch: Batch) -> Published {
        let readers = self.readers();
        let log = self.log_mut();
        let first = log.tail();
        log.append(batch, readers);
        self.check();
        Published {
            subscribers: readers,
            first,
            is_tapped: self.is_tapped,
        }
    }

    /// Takes out the wakers of as many waiting publishers as there is room for. Publishers that
    /// were woken and have not offered again own a reserved slot each: their slots count as taken.
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

    /// Takes out the wakers of the publishers that wait until their messages are processed, if
    /// those of the first may be.
    pub(super) fn unpark_processed(&mut self) -> Option<Box<Wakers>> {
        let publishers = self.publishers.as_deref()?;
        let first = publishers.processed.first()?;
        if !self.has_processed(first) {
            return None;
        }
        let processed = &mut self.publishers.as_deref_mut()?.processed;
        Some(Box::new(processed.unpark()))
    }

    /// Whether each reader has received all messages before this offset and has asked for more
    /// since. A reader that has left counts as one that has.
    fn has_processed(&self, before: NonZeroU64) -> bool {
        let received = self.log().map_or(0, Log::head);
        // A reader that was woken and has not polled since may still answer the message before
        // `before`.
        let asks_for_more = self.subscribers.awake() == 0;
        self.readers == 0 || received > before.get() || (received == before.get() && asks_for_more)
    }

    /// The number of publishers that wait for room, and of publishers that wait until their
    /// messages are processed.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn waiting_publishers(&self) -> (usize, usize) {
        self.publishers.as_ref().map_or((0, 0), |waiting| {
            (waiting.room.len(), waiting.processed.len())
        })
    }

    /// Parks a publisher that waits for room.
    #[must_use = "a waker is dropped after unlocking"]
    fn park_publisher(&mut self, waiter: &mut Option<WaiterSlot>, waker: &Waker) -> Option<Waker> {
        let waiting = &mut self.publishers.get_or_insert_default().room;
        let waiter = waiter.get_or_insert_with(|| waiting.enter());
        waiting.park(waiter, waker)
    }

    /// Removes a publisher that waits for room.
    #[must_use = "a waker is dropped after unlocking"]
    fn leave_publisher(&mut self, waiter: &mut Option<WaiterSlot>) -> Option<Waker> {
        self.publishers.as_mut()?.room.leave(waiter.take()?)
    }

    /// Removes a publisher that waits for its turn.
    #[must_use = "a waker is dropped after unlocking"]
    fn leave_processed(&mut self, waiter: &mut Option<WaiterSlot>) -> Option<Waker> {
        self.publishers.as_mut()?.processed.leave(waiter.take()?)
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

    /// Whether a subscriber that was parked has no new message.
    #[inline]
    pub(super) fn is_quiet(&self, slot: &Slot) -> bool {
        // Acquire pairs with the Release in `announce`, which comes before the wakes: a task that
        // was woken for a message sees a tail past it.
        let tail = self.tail.load(Ordering::Acquire);
        let offset = slot.cursor.offset();
        debug_assert!(
            offset <= tail,
            "a subscriber stands at {offset}, past the tail of its topic at {tail}"
        );
        tail == offset
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock()
    }

    /// Publishes to the current subscribers.
    ///
    /// # Errors
    ///
    /// The batch, if the bus has removed the topic: it has no subscribers any more and counts
    /// nothing.
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

    /// Publishes the first messages of a batch, as many as fit without a loss to any subscriber. If
    /// some are left, parks the task at `waiter`, or at a new slot if that is `None`.
    pub(super) fn offer(
        &self,
        mut batch: Batch,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Offer {
        let mut guarded = self.guarded.lock();
        if guarded.readers == 0 {
            let left = guarded.leave_publisher(waiter);
            drop(guarded);
            drop(left);
            return Offer::NoSubscribers(batch);
        }
        // Look and park happen under one lock: room that comes after the look wakes this publisher.
        let fitting = guarded.log_mut().fitting(&batch);
        let (offer, replaced) = if fitting == batch.len() {
            let published = guarded.append(batch);
            (Offer::Published(published), guarded.leave_publisher(waiter))
        } else {
            let front = (fitting > 0).then(|| batch.split_front(fitting));
            let published = front.map(|front| guarded.append(front));
            let replaced = guarded.park_publisher(waiter, waker);
            (Offer::Full(batch, published), replaced)
        };
        let wakers = (fitting > 0).then(|| self.announce(&mut guarded));
        drop(guarded);
        drop(replaced);
        wakers.unwrap_or_default().wake();
        offer
    }

    /// Publishes the new tail and takes out the wakers of the readers, to wake after unlocking.
    fn announce(&self, guarded: &mut Guarded) -> Wakers {
        // Release, and before the wakes: see `is_quiet`.
        let tail = guarded.log().map_or(0, Log::tail);
        self.tail.store(tail, Ordering::Release);
        guarded.subscribers.unpark()
    }

    /// Removes a publisher that waits for room.
    pub(super) fn leave(&self, waiter: WaiterSlot) {
        let mut guarded = self.guarded.lock();
        let left = guarded.leave_publisher(&mut Some(waiter));
        // A woken publisher owns a reserved slot: the slot goes to the next waiting publisher.
        let publishers = guarded.unpark_publishers();
        drop(guarded);
        drop(left);
        publishers.wake();
    }

    /// The offset of the next message.
    pub(super) fn next_offset(&self) -> u64 {
        // Acquire pairs with the Release in `announce`.
        self.tail.load(Ordering::Acquire)
    }

    /// Polls until the messages before this offset are processed. Until then the task is parked at
    /// `waiter`, or at a new slot if that is `None`.
    pub(super) fn poll_processed(
        &self,
        before: NonZeroU64,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Poll<()> {
        let mut guarded = self.guarded.lock();
        let (poll, replaced) = if guarded.has_processed(before) {
            (Poll::Ready(()), guarded.leave_processed(waiter))
        } else {
            let processed = &mut guarded.publishers.get_or_insert_default().processed;
            (Poll::Pending, processed.park(before, waiter, waker))
        };
        drop(guarded);
        drop(replaced);
        poll
    }

    /// Removes a publisher that waits for its turn.
    pub(super) fn leave_processed(&self, waiter: WaiterSlot) {
        let left = self.guarded.lock().leave_processed(&mut Some(waiter));
        drop(left);
    }

    /// Runs `read` on the log, and parks the task at `waiter` if the result says so.
    pub(super) fn read<T>(
        &self,
        waiter: &WaiterSlot,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Log) -> Read<T>,
    ) -> Read<T> {
        let mut guarded = self.guarded.lock();
        // Read and park happen under one lock: a publish comes before both or wakes the task.
        let read = guarded.log.as_deref_mut().map_or(Read::None, read);
        let park = read.is_parked();
        let replaced = park.then(|| guarded.subscribers.park(waiter, cx.waker()));
        let publishers = guarded.unpark_publishers();
        let processed = guarded.unpark_processed();
        drop(guarded);
        drop(replaced);
        if !planted::is(Bug::RoomWakesNobody) {
            publishers.wake();
        }
        if let Some(processed) = processed {
            processed.wake();
        }
        read
    }

    /// Parks the task even if there are unread messages, and returns the kept payload bytes.
    pub(super) fn watch(&self, slot: &Slot, cx: &mut Context<'_>) -> usize {
        let mut guarded = self.guarded.lock();
        let replaced = guarded.subscribers.park(&slot.waiter, cx.waker());
        let bytes = guarded.log().map_or(0, Log::bytes);
        drop(guarded);
        drop(replaced);
        bytes
    }

    /// The number of messages that this subscriber has not received.
    pub(super) fn unread(&self, slot: &Slot) -> u64 {
        let guarded = self.guarded.lock();
        guarded.log().map_or(0, |log| log.unread(&slot.cursor))
    }
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;

    /// Each client has a topic, even if no message is ever published on it.
    #[test]
    fn a_topic_stays_small() {
        let bytes = size_of::<TopicState>();
        assert!(bytes <= 96, "{bytes} bytes");
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "the topic has 2 subscribers, but its log counts 3")]
    fn a_subscriber_that_its_log_counts_twice_trips_the_topic() {
        let topic = "t".parse().expect("valid");
        let state = TopicState::new(topic, Window::default(), false);
        let mut guarded = state.lock();
        let _slot = guarded.enter();
        let _cursor = guarded.log_mut().attach();
        let _other = guarded.enter();
    }
}
