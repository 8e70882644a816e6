//! The state of a topic: its log and its history behind a lock, and the tasks that wait for it.

use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};

use crate::bus::batch::Batch;
use crate::bus::history::{Kept, Moment, Position};
use crate::bus::log::Log;
use crate::bus::reader::{Reader, Source};
use crate::bus::topic::Topic;
use crate::limits::Window;
use crate::planted::{self, Bug};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, WaiterSlot, Wakers};

mod guarded;

use self::guarded::Guarded;

/// The result of a publish to subscribers.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) struct Appended {
    /// The number of subscribers: at least one.
    pub(in crate::bus) subscribers: usize,
    /// The offset of the first message.
    pub(in crate::bus) first: u64,
    /// Whether a tap is to be told of the messages.
    pub(in crate::bus) is_tapped: bool,
    /// The position of the last message, if a history took the messages.
    pub(in crate::bus) position: Option<Position>,
}

/// The reason why a batch was not published.
#[derive(Debug)]
pub(in crate::bus) enum Unpublished {
    /// The topic has ended.
    Ended,
    /// The bus has removed the topic: it has no subscribers any more and counts nothing.
    NoReaders(Batch),
}

/// The result of an offer.
#[derive(Debug)]
pub(in crate::bus) enum Offer {
    /// A subscriber would lose a message by this batch, so it was not published; the task is
    /// parked.
    ///
    /// The messages before the batch were published if there is a second field.
    Full(Batch, Option<Appended>),
    /// The topic has no subscribers: the bus has removed it.
    NoSubscribers(Batch),
    /// All messages were published.
    Published(Appended),
}

/// The result of a read.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) enum Read<T> {
    /// The read took all messages; the task is parked.
    All(T),
    /// The log had no unread message; the task is parked.
    None,
    /// There may be more messages; the task is not parked.
    Part(T),
}

impl<T> Read<T> {
    /// Whether the task is parked.
    pub(in crate::bus) fn is_parked(&self) -> bool {
        match self {
            Self::All(_) | Self::None => true,
            Self::Part(_) => false,
        }
    }

    pub(in crate::bus) fn into_poll(self) -> Poll<T> {
        match self {
            Self::All(read) | Self::Part(read) => Poll::Ready(read),
            Self::None => Poll::Pending,
        }
    }
}

/// The state of one topic of a bus.
#[derive(Debug)]
pub(in crate::bus) struct TopicState {
    topic: Topic,
    /// Whether the topic has a history, until its last subscriber leaves.
    is_recorded: bool,
    guarded: Mutex<Guarded>,
    /// The offset of the next message, which a reader loads without the lock to see whether there
    /// is a new message.
    ///
    /// Stored under the lock, before any reader is woken.
    tail: AtomicU64,
}

/// The position and the waiter slot of one subscriber.
#[derive(Debug)]
pub(in crate::bus) struct Slot {
    pub(in crate::bus) reader: Reader,
    pub(in crate::bus) waiter: WaiterSlot,
    /// Whether the last read parked the task, even if a publish has woken the task since.
    pub(in crate::bus) parked: bool,
    /// Whether the end of the subscription is no use of the room; see
    /// [`Joining::is_provisional`](super::reader::Joining).
    pub(super) is_provisional: bool,
}

impl TopicState {
    pub(in crate::bus) fn new(topic: Topic, window: Window, history: Option<Box<Kept>>) -> Self {
        Self {
            topic,
            is_recorded: history.is_some(),
            guarded: Mutex::new(Guarded::new(window, history)),
            tail: AtomicU64::new(0),
        }
    }

    pub(in crate::bus) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Whether the topic has a history: its operations need the present moment.
    #[inline]
    pub(in crate::bus) fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Whether a subscriber that was parked has no new message.
    #[inline]
    pub(in crate::bus) fn is_quiet(&self, slot: &Slot) -> bool {
        // Acquire pairs with the Release in `announce`, which comes before the wakes: a task that
        // was woken for a message sees a tail past it.
        let tail = self.tail.load(Ordering::Acquire);
        let offset = slot.reader.cursor.offset();
        debug_assert!(
            offset <= tail,
            "a subscriber stands at {offset}, past the tail of its topic at {tail}"
        );
        tail == offset
    }

    pub(in crate::bus) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock()
    }

    /// Publishes to the current subscribers.
    ///
    /// # Errors
    ///
    /// When the bus has removed the topic, or the topic has ended.
    pub(in crate::bus) fn publish(
        &self,
        batch: Batch,
        now: Option<Moment>,
    ) -> Result<Appended, Unpublished> {
        let mut guarded = self.guarded.lock();
        if guarded.readers() == 0 {
            return Err(Unpublished::NoReaders(batch));
        }
        let history = guarded.history();
        if history.is_some_and(|kept| kept.history().has_ended()) {
            return Err(Unpublished::Ended);
        }
        let published = guarded.append(batch, now);
        let wakers = self.announce(&mut guarded);
        drop(guarded);
        wakers.wake();
        Ok(published)
    }

    /// Publishes the first messages of a batch, as many as fit without a loss to any subscriber. If
    /// some are left, parks the task at `waiter`, or at a new slot if that is `None`.
    pub(in crate::bus) fn offer(
        &self,
        mut batch: Batch,
        now: Option<Moment>,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Offer {
        let mut guarded = self.guarded.lock();
        if guarded.readers() == 0 {
            let left = guarded.leave_publisher(waiter);
            drop(guarded);
            drop(left);
            return Offer::NoSubscribers(batch);
        }
        // Look and park happen under one lock: room that comes after the look wakes this publisher.
        let fitting = guarded.log_mut().fitting(&batch);
        let (offer, replaced) = if fitting == batch.len() {
            let published = guarded.append(batch, now);
            (Offer::Published(published), guarded.leave_publisher(waiter))
        } else {
            let front = (fitting > 0).then(|| batch.split_front(fitting));
            let published = front.map(|front| guarded.append(front, now));
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
    pub(in crate::bus) fn leave(&self, waiter: WaiterSlot) {
        let mut guarded = self.guarded.lock();
        let left = guarded.leave_publisher(&mut Some(waiter));
        // A woken publisher owns a reserved slot: the slot goes to the next waiting publisher.
        let publishers = guarded.unpark_publishers();
        drop(guarded);
        drop(left);
        publishers.wake();
    }

    /// The offset of the next message.
    pub(in crate::bus) fn next_offset(&self) -> u64 {
        // Acquire pairs with the Release in `announce`.
        self.tail.load(Ordering::Acquire)
    }

    /// Polls until the messages before this offset are processed. Until then the task is parked at
    /// `waiter`, or at a new slot if that is `None`.
    pub(in crate::bus) fn poll_processed(
        &self,
        before: NonZeroU64,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Poll<()> {
        let mut guarded = self.guarded.lock();
        let (poll, replaced) = if guarded.has_processed(before) {
            (Poll::Ready(()), guarded.leave_processed(waiter))
        } else {
            let replaced = guarded.park_processed(before, waiter, waker);
            (Poll::Pending, replaced)
        };
        drop(guarded);
        drop(replaced);
        poll
    }

    /// Removes a publisher that waits for its turn.
    pub(in crate::bus) fn leave_processed(&self, waiter: WaiterSlot) {
        let left = self.guarded.lock().leave_processed(&mut Some(waiter));
        drop(left);
    }

    /// Runs `read` on the log and the history, and parks the task at `waiter` if the result says
    /// so.
    pub(in crate::bus) fn read<T>(
        &self,
        waiter: &WaiterSlot,
        cx: &mut Context<'_>,
        now: Option<Moment>,
        read: impl FnOnce(&mut Source<'_>) -> Read<T>,
    ) -> Read<T> {
        let mut guarded = self.guarded.lock();
        // Read and park happen under one lock: a publish comes before both or wakes the task.
        let read = guarded
            .source(now)
            .map_or(Read::None, |mut source| read(&mut source));
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
    pub(in crate::bus) fn watch(&self, slot: &Slot, cx: &mut Context<'_>) -> usize {
        let mut guarded = self.guarded.lock();
        let replaced = guarded.subscribers.park(&slot.waiter, cx.waker());
        let bytes = guarded.log().map_or(0, Log::bytes);
        drop(guarded);
        drop(replaced);
        bytes
    }

    /// The number of messages that this subscriber has not received.
    pub(in crate::bus) fn unread(&self, slot: &Slot) -> u64 {
        let guarded = self.guarded.lock();
        guarded.log().map_or(0, |log| slot.reader.unread(log))
    }
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::bus::reader::Joining;

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
        let state = TopicState::new(topic, Window::default(), None);
        let mut guarded = state.lock();
        let _slot = guarded.enter(&Joining::default(), None);
        let _cursor = guarded.log_mut().attach();
        let _other = guarded.enter(&Joining::default(), None);
    }
}
