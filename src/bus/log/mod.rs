//! The bounded log of one topic and the cursors of its subscribers: data without locks or tasks.
//!
//! ```text
//!   head                                       tail
//!    |                                          |
//!    v                                          v
//!   [ 7  8  9 ][ 10 ][ 11  12 ] ..............  13      offsets of messages
//!        2         0       1                     5      readers that stand there
//! ```
//!
//! Each entry is a record batch and counts the readers that stand exactly before it. Three things
//! follow: an eviction knows at once how many messages it loses for how many readers; an entry that
//! every reader has passed is freed at once; no operation depends on the number of subscribers. A
//! reader that stops within a batch splits it: readers stand only before entries.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::batch::Batch;
use crate::bus::burst::{Burst, BurstFilter};
use crate::bus::counts::TopicCounts;
use crate::limits::Window;
use crate::planted::{self, Bug};

/// The largest capacity that an emptied log keeps, in entries.
const KEPT: usize = 16;

/// The messages of one topic that at least one reader has not read, with their readers.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The offset of the next appended message.
    tail: u64,
    /// The payload bytes of all entries.
    bytes: usize,
    /// The number of readers that have read everything.
    caught_up: usize,
    window: Window,
    counts: TopicCounts,
    /// The deliveries out of the window, or before it, of which neither delivery nor loss is
    /// decided; `None` for a topic without a history, whose messages are lost at once.
    deferred: Option<u64>,
    /// The burst made last, kept while a reader stands where it starts.
    burst: Option<Arc<Burst>>,
}

/// A record batch in a log.
#[derive(Debug)]
struct Entry {
    /// The offset of the first message.
    first: u64,
    batch: Batch,
    /// The number of readers that stand exactly before the first message.
    readers: usize,
}

/// The position of one reader in a log: the offset of its next message.
///
/// A cursor cannot be cloned: the log has counted its reader once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cursor(u64);

/// The limit of one read, which takes at least one message if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount {
    /// The messages of one entry, at most.
    Batch,
    /// Messages with at most this many payload bytes together.
    Bytes(usize),
    /// Messages of the entries before an offset, maybe none, with at most so many payload bytes.
    Before {
        /// The offset.
        offset: u64,
        /// The most payload bytes.
        bytes: usize,
    },
    /// A single message, at most.
    Message,
}

impl Amount {
    /// Whether the read takes no message at this offset or after it.
    fn ends_at(self, at: u64) -> bool {
        matches!(self, Self::Before { offset, .. } if at >= offset)
    }

    /// The offset before which the read ends, of the messages up to this one.
    pub(super) fn end(self, offset: u64) -> u64 {
        match self {
            Self::Before { offset: own, .. } => own.min(offset),
            Self::Batch | Self::Bytes(_) | Self::Message => offset,
        }
    }

    /// The number of leading messages that the read takes of the next batch, after so many bytes.
    pub(super) fn of(self, batch: &Batch, bytes: usize, is_first: bool) -> usize {
        let count = match self {
            Self::Batch if is_first => batch.len(),
            Self::Message if is_first => 1,
            Self::Batch | Self::Message => 0,
            Self::Bytes(max) | Self::Before { bytes: max, .. } => {
                let room = max.checked_sub(bytes);
                room.map_or(0, |room| batch.fitting(room))
            }
        };
        count.max(usize::from(is_first))
    }
}

impl Cursor {
    /// The position of a reader that was there before the first message.
    pub(super) const START: Self = Self(0);

    /// The offset of the reader's next message, even if that is lost by now; a topic counts from 0.
    pub(super) fn offset(&self) -> u64 {
        self.0
    }

    /// Moves the cursor to the offset where the log counts its reader by now.
    pub(super) fn seek(&mut self, at: u64) {
        self.0 = at;
    }
}

impl Entry {
    /// Splits the first `count` messages off and returns them; the rest stays in the entry.
    fn split_front(&mut self, count: usize) -> Batch {
        self.first += count as u64;
        self.batch.split_front(count)
    }
}

impl Log {
    /// Makes an empty log, with `readers` that have been there from the beginning.
    pub(super) fn of(window: Window, readers: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            tail: 0,
            bytes: 0,
            caught_up: readers,
            window,
            counts: TopicCounts::default(),
            deferred: None,
            burst: None,
        }
    }

    /// The offset of the next published message.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// The offset of the oldest kept message.
    pub(super) fn head(&self) -> u64 {
        self.entries.front().map_or(self.tail, |entry| entry.first)
    }

    /// The number of messages kept for readers that have not read them.
    pub(super) fn messages(&self) -> usize {
        usize::try_from(self.tail - self.head()).expect("a window fits usize")
    }

    /// The payload bytes kept for readers that have not read them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn counts(&self) -> TopicCounts {
        self.counts
    }

    /// Adds a reader, which receives the messages published from now on.
    pub(super) fn attach(&mut self) -> Cursor {
        self.caught_up += 1;
        Cursor(self.tail)
    }

    /// Removes a reader and counts its unread messages as lost by unsubscribing.
    pub(super) fn detach(&mut self, cursor: &Cursor) {
        let position = self.position(cursor);
        let unread = self.tail - position;
        self.counts.lost_unsubscribed += planted::none(Bug::UnreadNotCounted, unread);
        self.counts.pending -= unread;
        self.remove_readers(position, 1);
        self.free_read();
        self.check();
    }

    /// Whether a read would return a message or a loss.
    pub(super) fn is_ready(&self, cursor: &Cursor) -> bool {
        cursor.0 != self.tail
    }

    /// The number of kept messages between the cursor and the tail.
    pub(super) fn unread(&self, cursor: &Cursor) -> u64 {
        self.tail - self.position(cursor)
    }

    /// Moves the cursor past lost messages, and returns how many there were.
    pub(super) fn skip_lost(&mut self, cursor: &mut Cursor) -> u64 {
        let position = self.position(cursor);
        let lost = position - cursor.0;
        cursor.0 = position;
        if lost > 0 && self.deferred.is_some() {
            self.count_lagged(lost);
        }
        planted::one_less(Bug::LagTooLow, lost)
    }

    /// Moves the cursor over the next messages and hands them to `sink`; returns how many messages
    /// were lost before them.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor,
        amount: Amount,
        mut sink: impl FnMut(Batch),
    ) -> u64 {
        let lost = self.skip_lost(cursor);
        let mut bytes = 0;
        // The reader leaves its entry before the walk, so that an entry without other readers
        // counts none, and `take` moves its messages out instead of cloning them.
        self.remove_readers(cursor.0, 1);
        let start = cursor.0;
        let mut index = self.index(start);
        while let Some(entry) = self.entries.get(index) {
            if amount.ends_at(cursor.0) {
                break;
            }
            let count = amount.of(&entry.batch, bytes, cursor.0 == start);
            if count == 0 {
                break;
            }
            let is_whole = count == entry.batch.len();
            let batch = self.take(&mut index, count);
            bytes += batch.bytes();
            cursor.0 += batch.len() as u64;
            sink(batch);
            if !is_whole {
                break;
            }
        }
        self.add_readers(cursor.0, 1);
        self.count_delivered(cursor.0 - start);
        self.free_burst();
        self.check();
        lost
    }

    /// Takes the first `count` messages of the entry at `index`, and moves `index` to the next
    /// entry.
    ///
    /// Messages that no other reader needs are moved out, not cloned.
    fn take(&mut self, index: &mut usize, count: usize) -> Batch {
        let entry = &mut self.entries[*index];
        // A reader before an older entry still needs this one, so only the front can be freed.
        let is_last_reader = *index == 0 && entry.readers == 0;
        let is_whole = count == entry.batch.len();
        if is_last_reader && is_whole {
            let entry = self.entries.pop_front().expect("it is there");
            self.forget(&entry.batch);
            self.shrink();
            return entry.batch;
        }
        if is_last_reader {
            let batch = entry.split_front(count);
            self.forget(&batch);
            return batch;
        }
        if !is_whole {
            self.split(*index, count);
        }
        let batch = self.entries[*index].batch.clone();
        *index += 1;
        batch
    }

    /// The batch that is read next, if it is still kept.
    pub(super) fn peek(&self, cursor: &Cursor) -> Option<&Batch> {
        let index = self.index(self.position(cursor));
        self.entries.get(index).map(|entry| &entry.batch)
    }

    /// Whether the end of the topic is the only message that the reader has not read.
    pub(super) fn is_at_end(&self, cursor: &Cursor) -> bool {
        let ends = self.entries.back().is_some_and(|last| last.batch.is_end());
        ends && self.unread(cursor) == 1
    }

    /// Returns the newest message as a batch, and how many messages before it were lost or are
    /// skipped now; `None` at the tail. The end of a topic comes after the newest message.
    pub(super) fn latest(&mut self, cursor: &mut Cursor) -> Option<(u64, Batch)> {
        let start = self.position(cursor);
        let newest = self.entries.len().checked_sub(1)?;
        let is_end = self.entries[newest].batch.is_end();
        let newest = if is_end && !self.is_at_end(cursor) {
            newest.saturating_sub(1)
        } else {
            newest
        };
        // The newest message is kept: a log frees only messages before which no reader stands.
        let Entry { first, batch, .. } = &self.entries[newest];
        let (message, next) = (batch.last(), first + batch.len() as u64);
        let newest = next.checked_sub(1).filter(|at| *at >= start)?;
        let missed = newest - cursor.0;
        self.skip_lost(cursor);
        let superseded = newest - start;
        self.counts.lost_superseded += superseded;
        self.counts.pending -= superseded;
        self.remove_readers(start, 1);
        cursor.0 = next;
        self.add_readers(next, 1);
        self.count_delivered(1);
        self.free_read();
        self.check();
        Some((missed, message))
    }

    /// Moves readers that stand at `at` to the tail, and returns the messages in between as one
    /// burst, which is made once for all readers that stand there. Returns `None` if the readers
    /// must read batch by batch: messages were lost, or the burst does not meet `filter`.
    pub(super) fn burst(
        &mut self,
        at: &mut u64,
        readers: usize,
        filter: BurstFilter,
    ) -> Option<Arc<Burst>> {
        let burst = self
            .cached_burst(*at)
            .or_else(|| self.make_burst(*at, filter));
        let burst = burst.filter(|burst| burst.suits(filter))?;
        self.remove_readers(*at, readers);
        self.count_delivered((self.tail - *at) * readers as u64);
        *at = self.tail;
        self.add_readers(self.tail, readers);
        self.free_read();
        self.check();
        Some(burst)
    }

    /// Does what [`burst`](Self::burst) does, for one reader. A reader that stands alone gets
    /// `None` unless the burst is made already: only other readers would make up for its copy.
    pub(super) fn burst_of_one(
        &mut self,
        cursor: &mut Cursor,
        filter: BurstFilter,
    ) -> Option<Arc<Burst>> {
        let is_alone = self.count_readers_at(cursor.0) == 1;
        if is_alone && self.cached_burst(cursor.0).is_none() {
            return None;
        }
        self.burst(&mut cursor.0, 1, filter)
    }

    /// The burst made for another reader, if it reaches from `at` to the tail.
    fn cached_burst(&self, at: u64) -> Option<Arc<Burst>> {
        let burst = self.burst.as_ref()?;
        let is_all = burst.first() == at && burst.end() == self.tail;
        is_all.then(|| Arc::clone(burst))
    }

    fn make_burst(&mut self, at: u64, filter: BurstFilter) -> Option<Arc<Burst>> {
        if at < self.head() {
            return None;
        }
        let entries = self.entries.range(self.index(at)..);
        let batches = entries.map(|entry| &entry.batch);
        let bytes: usize = batches.clone().map(Batch::bytes).sum();
        let is_special = batches.clone().any(|batch| batch.delivery().is_special());
        if bytes > filter.bytes_max || is_special {
            return None;
        }
        let burst = Arc::new(Burst::of(at, batches)?);
        self.burst = Some(Arc::clone(&burst));
        Some(burst)
    }

    fn count_delivered(&mut self, messages: u64) {
        self.counts.delivered += messages;
        self.counts.pending -= messages;
    }

    /// The number of readers that stand at this offset; 0 before the window.
    fn count_readers_at(&self, offset: u64) -> usize {
        if offset < self.head() {
            return 0;
        }
        let entry = self.entries.get(self.index(offset));
        entry.map_or(self.caught_up, |entry| entry.readers)
    }

    /// The offset where the log counts the cursor's reader: evictions move readers, not cursors.
    fn position(&self, cursor: &Cursor) -> u64 {
        assert!(
            cursor.0 <= self.tail,
            "a reader stands at {}, past the tail of the log at {}",
            cursor.0,
            self.tail,
        );
        cursor.0.max(self.head())
    }

    /// The index of the entry that starts at `offset`, which must be in the window.
    fn index(&self, offset: u64) -> usize {
        if offset == self.tail {
            return self.entries.len();
        }
        if offset == self.head() {
            return 0;
        }
        let found = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.first);
        found.expect("readers stand only before entries")
    }

    /// Removes this many readers from an offset.
    fn remove_readers(&mut self, offset: u64, readers: usize) {
        let standing = self.readers_at(offset);
        assert!(
            *standing >= readers,
            "the log counts {standing} readers at {offset}, but {readers} leave"
        );
        *standing -= readers;
    }

    /// Adds this many readers at an offset.
    fn add_readers(&mut self, offset: u64, readers: usize) {
        *self.readers_at(offset) += readers;
    }

    fn readers_at(&mut self, offset: u64) -> &mut usize {
        let index = self.index(offset);
        match self.entries.get_mut(index) {
            Some(entry) => &mut entry.readers,
            None => &mut self.caught_up,
        }
    }

    /// Splits an entry in two: the first `count` messages, and the rest. Its readers stand before
    /// the first part.
    fn split(&mut self, index: usize, count: usize) {
        let entry = &mut self.entries[index];
        let (first, readers) = (entry.first, std::mem::take(&mut entry.readers));
        let batch = entry.split_front(count);
        let front = Entry {
            first,
            batch,
            readers,
        };
        self.entries.insert(index, front);
    }

    /// Frees the oldest entries up to the first that a reader stands before.
    fn free_read(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.readers == 0) {
            self.forget(&entry.batch);
        }
        self.shrink();
        self.free_burst();
    }

    /// Subtracts the bytes of messages that were removed.
    fn forget(&mut self, batch: &Batch) {
        self.bytes -= planted::none(Bug::BytesKept, batch.bytes());
    }

    /// Frees the memory of an emptied log that has a capacity of more than `KEPT` entries.
    fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
    }

    /// Frees the burst if no reader stands where it starts.
    fn free_burst(&mut self) {
        let first = self.burst.as_ref().map(|burst| burst.first());
        if first.is_some_and(|first| self.count_readers_at(first) == 0) {
            self.burst = None;
        }
    }
}

mod append;
mod check;
mod deferred;

#[cfg(test)]
mod tests;
