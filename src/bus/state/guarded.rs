//! The data behind the lock of a topic.

use std::num::NonZeroU64;
use std::task::Waker;

use super::{Appended, Slot};
use crate::bus::batch::Batch;
use crate::bus::counts::TopicCounts;
use crate::bus::history::{Kept, Moment};
use crate::bus::log::{Cursor, Log};
use crate::bus::processed::ProcessedWaiters;
use crate::bus::reader::{Joined, Joining, Owed, Past, Reader, Source};
use crate::limits::Window;
use crate::sync::{WaiterSlot, Waiters, Wakers};

/// The data behind the lock of a topic.
#[derive(Debug)]
pub(in crate::bus) struct Guarded {
    log: MaybeLog,
    readers: u32,
    /// Whether a tap is to be told of published messages.
    pub(in crate::bus) is_tapped: bool,
    pub(in crate::bus) subscribers: Waiters,
    /// `None` for most topics, to keep them small.
    rare: Option<Box<Rare>>,
}

/// The log, which is made for the first message: there is a topic for each client, and many of
/// these topics never get a message.
#[derive(Debug)]
enum MaybeLog {
    /// The window of the log.
    Later(Window),
    Made(Box<Log>),
}

/// The parts that few topics have: a history, and publishers that wait.
#[derive(Debug, Default)]
struct Rare {
    /// The history, which leaves with the last subscriber.
    history: Option<Box<Kept>>,
    /// Publishers that wait for room.
    room: Waiters,
    /// Publishers that wait until their messages are processed.
    processed: ProcessedWaiters,
}

impl Guarded {
    pub(super) fn new(window: Window, history: Option<Box<Kept>>) -> Self {
        let rare = history.map(|kept| Rare {
            history: Some(kept),
            ..Rare::default()
        });
        Self {
            log: MaybeLog::Later(window),
            readers: 0,
            is_tapped: false,
            subscribers: Waiters::default(),
            rare: rare.map(Box::new),
        }
    }

    /// The history; `None` for a topic without one.
    pub(in crate::bus) fn history(&self) -> Option<&Kept> {
        self.rare.as_deref()?.history.as_deref()
    }

    /// The history, to change it.
    pub(in crate::bus) fn history_mut(&mut self) -> Option<&mut Kept> {
        self.rare.as_deref_mut()?.history.as_deref_mut()
    }

    /// Takes the history out, once there is no subscriber left.
    pub(in crate::bus) fn take_history(&mut self) -> Option<Box<Kept>> {
        if self.readers > 0 {
            return None;
        }
        self.rare.as_deref_mut()?.history.take()
    }

    /// The number of subscribers.
    pub(in crate::bus) fn readers(&self) -> usize {
        self.readers as usize
    }

    /// The log, if a message was ever published.
    pub(in crate::bus) fn log(&self) -> Option<&Log> {
        match &self.log {
            MaybeLog::Later(_) => None,
            MaybeLog::Made(log) => Some(log),
        }
    }

    pub(in crate::bus) fn counts(&self) -> TopicCounts {
        self.log().map_or_else(TopicCounts::default, Log::counts)
    }

    /// Adds a subscriber, which receives the messages published from now on, and before them the
    /// messages of the history that it asks for.
    pub(in crate::bus) fn enter(
        &mut self,
        joining: &Joining,
        now: Option<Moment>,
    ) -> (Slot, Joined) {
        let owed = self.past(now).map(|past| past.owed(&joining.start));
        let Owed { backlog, joined } = owed.unwrap_or_default();
        // The look at the history and the place in the log are of one moment, under one lock: a
        // message is in the backlog, or comes after the cursor, and never both.
        let cursor = if backlog.is_empty() {
            self.made_log().map_or(Cursor::START, Log::attach)
        } else {
            self.log_mut().attach_behind(backlog.end - backlog.start)
        };
        self.readers += 1;
        let slot = Slot {
            reader: Reader::new(cursor, backlog, joining.recovers),
            waiter: self.subscribers.enter(),
            parked: false,
            is_provisional: joining.is_provisional,
        };
        self.check();
        (slot, joined)
    }

    /// The log, and the history at this moment; `None` until the first message.
    pub(super) fn source(&mut self, now: Option<Moment>) -> Option<Source<'_>> {
        let MaybeLog::Made(log) = &mut self.log else {
            return None;
        };
        let past = now.and_then(|now| {
            let history = self.rare.as_deref()?.history.as_deref()?.history();
            let now = now.at;
            Some(Past { history, now })
        });
        Some(Source { log, past })
    }

    /// The history at this moment.
    fn past(&self, now: Option<Moment>) -> Option<Past<'_>> {
        let history = self.history()?.history();
        let now = now?.at;
        Some(Past { history, now })
    }

    /// Removes a subscriber and returns its waker.
    #[must_use = "a waker is dropped after unlocking"]
    pub(in crate::bus) fn leave(&mut self, slot: Slot) -> Option<Waker> {
        assert!(
            self.readers > 0,
            "a subscriber leaves a topic that counts none"
        );
        self.readers -= 1;
        if let Some(log) = self.made_log() {
            Source { log, past: None }.detach(&slot.reader);
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

    fn made_log(&mut self) -> Option<&mut Log> {
        match &mut self.log {
            MaybeLog::Later(_) => None,
            MaybeLog::Made(log) => Some(log),
        }
    }

    /// The log, which is made if it does not exist yet.
    #[inline]
    pub(super) fn log_mut(&mut self) -> &mut Log {
        if let MaybeLog::Later(window) = self.log {
            let log = Log::of(window, self.readers());
            let is_recorded = self.history().is_some();
            let log = if is_recorded { log.deferring() } else { log };
            self.log = MaybeLog::Made(Box::new(log));
        }
        self.made_log().expect("it is made by now")
    }

    /// Appends to the history, if there is one, and to the log; there must be a reader.
    #[inline]
    pub(super) fn append(&mut self, mut batch: Batch, now: Option<Moment>) -> Appended {
        let readers = self.readers();
        let first = self.log_mut().tail();
        let position = match (self.history_mut(), now) {
            (Some(kept), Some(now)) => kept.append(&mut batch, first, now),
            (Some(_) | None, _) => batch.forget_offset(),
        };
        if readers > 1 {
            batch.share_encodings();
        }
        self.log_mut().append(batch, readers);
        self.check();
        Appended {
            subscribers: readers,
            first,
            is_tapped: self.is_tapped,
            position,
        }
    }

    /// Takes out the wakers of as many waiting publishers as there is room for. Publishers that
    /// were woken and have not offered again own a reserved slot each: their slots count as taken.
    pub(in crate::bus) fn unpark_publishers(&mut self) -> Wakers {
        let Some(publishers) = &mut self.rare else {
            return Wakers::default();
        };
        let waiting = &mut publishers.room;
        if self.readers == 0 {
            return waiting.unpark();
        }
        let room = match &self.log {
            MaybeLog::Later(_) => usize::MAX,
            MaybeLog::Made(log) => log.room(),
        };
        waiting.unpark_some(room.saturating_sub(waiting.awake()))
    }

    /// Takes out the wakers of the publishers that wait until their messages are processed, if
    /// those of the first may be.
    pub(in crate::bus) fn unpark_processed(&mut self) -> Option<Box<Wakers>> {
        let publishers = self.rare.as_deref()?;
        let first = publishers.processed.first()?;
        if !self.has_processed(first) {
            return None;
        }
        let processed = &mut self.rare.as_deref_mut()?.processed;
        Some(Box::new(processed.unpark()))
    }

    /// Whether each reader has received all messages before this offset and has asked for more
    /// since. A reader that has left counts as one that has.
    pub(super) fn has_processed(&self, before: NonZeroU64) -> bool {
        let received = self.log().map_or(0, Log::head);
        // A reader that was woken and has not polled since may still answer the message before
        // `before`.
        let asks_for_more = self.subscribers.awake() == 0;
        self.readers == 0 || received > before.get() || (received == before.get() && asks_for_more)
    }

    /// The number of publishers that wait for room, and of publishers that wait until their
    /// messages are processed.
    #[cfg(all(test, not(feature = "loom")))]
    pub(in crate::bus) fn waiting_publishers(&self) -> (usize, usize) {
        self.rare.as_ref().map_or((0, 0), |waiting| {
            (waiting.room.len(), waiting.processed.len())
        })
    }

    /// Parks a publisher that waits for room.
    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn park_publisher(
        &mut self,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Option<Waker> {
        let waiting = &mut self.rare.get_or_insert_default().room;
        let waiter = waiter.get_or_insert_with(|| waiting.enter());
        waiting.park(waiter, waker)
    }

    /// Parks a publisher that waits until its messages before this offset are processed.
    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn park_processed(
        &mut self,
        before: NonZeroU64,
        waiter: &mut Option<WaiterSlot>,
        waker: &Waker,
    ) -> Option<Waker> {
        let processed = &mut self.rare.get_or_insert_default().processed;
        processed.park(before, waiter, waker)
    }

    /// Removes a publisher that waits for room.
    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn leave_publisher(&mut self, waiter: &mut Option<WaiterSlot>) -> Option<Waker> {
        self.rare.as_mut()?.room.leave(waiter.take()?)
    }

    /// Removes a publisher that waits for its turn.
    #[must_use = "a waker is dropped after unlocking"]
    pub(super) fn leave_processed(&mut self, waiter: &mut Option<WaiterSlot>) -> Option<Waker> {
        self.rare.as_mut()?.processed.leave(waiter.take()?)
    }
}
