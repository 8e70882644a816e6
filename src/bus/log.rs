//! The bounded log of one topic and the cursors of its subscribers: a pure machine.
//!
//! ```text
//!   head                                       tail
//!    |                                          |
//!    v                                          v
//!   [ 7  8  9 ][ 10 ][ 11  12 ] ..............  13      offsets of messages
//!        2         0       1                     5      readers that stand there
//! ```
//!
//! Each entry is a record batch and counts the readers that stand exactly before it. So an eviction
//! knows at once how many messages it loses and for how many readers, an entry that every reader
//! has passed is freed at once, and no operation depends on the number of subscribers. A reader
//! that stops within a batch splits it: readers stand only before entries.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Batch;
use super::burst::{Burst, Terms};
use super::counts::TopicCounts;
use super::message::Message;
use crate::limits::Window;
use crate::planted::{self, Bug};

/// Entries for which an emptied log keeps its memory.
const KEPT: usize = 16;

#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The offset of the next message that is appended.
    tail: u64,
    /// Payload bytes of all entries.
    bytes: usize,
    /// Readers that have read everything.
    caught_up: usize,
    window: Window,
    counts: TopicCounts,
    /// The burst that was made last, kept while a reader stands where it starts.
    burst: Option<Arc<Burst>>,
}

/// A record batch in a log.
#[derive(Debug)]
struct Entry {
    /// The offset of its first message.
    first: u64,
    batch: Batch,
    /// Readers whose next message is the first one.
    readers: usize,
}

/// The position of one reader in a log: the offset of its next message.
///
/// Not `Clone`: the log has counted it once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cursor(u64);

/// How much a read takes at most; it takes at least one message if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount {
    /// The messages of one entry.
    Batch,
    /// As many messages as have no more than so many payload bytes.
    Bytes(usize),
    /// One message.
    Message,
}

impl Cursor {
    /// The position of a reader from before the first message.
    pub(super) const START: Self = Self(0);

    /// The offset of its next message, lost or not; a topic counts from 0.
    pub(super) fn offset(&self) -> u64 {
        self.0
    }

    /// Moves to where the log has counted its reader meanwhile.
    pub(super) fn seek(&mut self, at: u64) {
        self.0 = at;
    }
}

impl Entry {
    /// Takes the first messages off, of which more than `count` are left.
    fn split_front(&mut self, count: usize) -> Batch {
        self.first += count as u64;
        self.batch.split_front(count)
    }
}

impl Log {
    /// A log without messages, with readers that have been there from the beginning.
    pub(super) fn of(window: Window, readers: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            tail: 0,
            bytes: 0,
            caught_up: readers,
            window,
            counts: TopicCounts::default(),
            burst: None,
        }
    }

    /// The offset of the next message that is published.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// The offset of the oldest message that is kept.
    pub(super) fn head(&self) -> u64 {
        self.entries.front().map_or(self.tail, |entry| entry.first)
    }

    /// Messages kept for readers that have not read them.
    pub(super) fn messages(&self) -> usize {
        usize::try_from(self.tail - self.head()).expect("a window fits usize")
    }

    /// Payload bytes kept for readers that have not read them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn counts(&self) -> TopicCounts {
        self.counts
    }

    /// Adds a reader that gets what is published from now on.
    pub(super) fn attach(&mut self) -> Cursor {
        self.caught_up += 1;
        Cursor(self.tail)
    }

    /// Removes a reader; messages that it has not read count as unsubscribed.
    pub(super) fn detach(&mut self, cursor: &Cursor) {
        let position = self.position(cursor);
        let unread = self.tail - position;
        self.counts.lost_unsubscribed += planted::none(Bug::UnreadNotCounted, unread);
        self.counts.pending -= unread;
        self.leave(position, 1);
        self.free_read();
    }

    /// Whether a read would return anything: a message or a loss.
    pub(super) fn is_ready(&self, cursor: &Cursor) -> bool {
        cursor.0 != self.tail
    }

    /// Messages between the cursor and the tail that are still kept.
    pub(super) fn unread(&self, cursor: &Cursor) -> u64 {
        self.tail - self.position(cursor)
    }

    /// Moves the cursor past the messages it has lost, and returns how many those are.
    pub(super) fn skip_lost(&mut self, cursor: &mut Cursor) -> u64 {
        let position = self.position(cursor);
        let lost = position - cursor.0;
        cursor.0 = position;
        planted::one_less(Bug::LagTooLow, lost)
    }

    /// Moves the cursor over the next messages and hands them to `sink`; returns how many had been
    /// lost before them.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor,
        amount: Amount,
        mut sink: impl FnMut(Batch),
    ) -> u64 {
        let lost = self.skip_lost(cursor);
        let mut bytes = 0;
        self.leave(cursor.0, 1);
        let start = cursor.0;
        let mut index = self.index(start);
        while let Some(entry) = self.entries.get(index) {
            let count = match amount {
                Amount::Batch if cursor.0 == start => entry.batch.len(),
                Amount::Message if cursor.0 == start => 1,
                Amount::Batch | Amount::Message => 0,
                Amount::Bytes(max) => {
                    let room = max.checked_sub(bytes);
                    room.map_or(0, |room| entry.batch.fitting(room))
                }
            };
            let count = if cursor.0 == start {
                count.max(1)
            } else {
                count
            };
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
        self.stand(cursor.0, 1);
        self.count_delivered(cursor.0 - start);
        self.free_burst();
        lost
    }

    /// Takes the first messages of the entry at `index`, which moves to the entry after them.
    ///
    /// Messages that no reader needs any more are moved out, and not copied.
    fn take(&mut self, index: &mut usize, count: usize) -> Batch {
        let entry = &mut self.entries[*index];
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

    /// The newest message, and how many before it were lost or are now left out; `None` at the
    /// tail.
    pub(super) fn latest(&mut self, cursor: &mut Cursor) -> Option<(u64, Message)> {
        let start = self.position(cursor);
        // A message before which no reader stands is freed: something unread has a newest.
        let newest = self.tail.checked_sub(1).filter(|at| *at >= start)?;
        let message = self.entries.back()?.batch.last().into_message();
        let missed = newest - cursor.0;
        let superseded = newest - start;
        self.counts.lost_superseded += superseded;
        self.counts.pending -= superseded;
        self.leave(start, 1);
        cursor.0 = self.tail;
        self.stand(self.tail, 1);
        self.count_delivered(1);
        self.free_read();
        Some((missed, message))
    }

    /// Moves several readers, whose next message is `at`, over everything up to the tail, as one
    /// burst that is made once for all readers that stand there; `None` if that is better read
    /// batch by batch, because some of it is lost or does not suit the readers.
    pub(super) fn burst(
        &mut self,
        at: &mut u64,
        readers: usize,
        terms: Terms,
    ) -> Option<Arc<Burst>> {
        let burst = self.made(*at).or_else(|| self.make(*at, terms));
        let burst = burst.filter(|burst| burst.suits(terms))?;
        self.leave(*at, readers);
        self.count_delivered((self.tail - *at) * readers as u64);
        *at = self.tail;
        self.stand(self.tail, readers);
        self.free_read();
        Some(burst)
    }

    /// The same for one reader; nothing for one that stands alone, which a copy would not help.
    pub(super) fn burst_of_one(&mut self, cursor: &mut Cursor, terms: Terms) -> Option<Arc<Burst>> {
        let is_alone = self.standing_at(cursor.0) == 1;
        if is_alone && self.made(cursor.0).is_none() {
            return None;
        }
        self.burst(&mut cursor.0, 1, terms)
    }

    /// The burst made for another reader, if that is all there is from here on.
    fn made(&self, at: u64) -> Option<Arc<Burst>> {
        let made = self.burst.as_ref()?;
        let is_all = made.first() == at && made.end() == self.tail;
        is_all.then(|| Arc::clone(made))
    }

    fn make(&mut self, at: u64, terms: Terms) -> Option<Arc<Burst>> {
        if at < self.head() {
            return None;
        }
        let entries = self.entries.range(self.index(at)..);
        let batches = entries.map(|entry| &entry.batch);
        let bytes: usize = batches.clone().map(Batch::bytes).sum();
        if bytes > terms.bytes_max {
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

    /// Readers whose next message is this one, if it is in the window.
    fn standing_at(&self, offset: u64) -> usize {
        if offset < self.head() {
            return 0;
        }
        let entry = self.entries.get(self.index(offset));
        entry.map_or(self.caught_up, |entry| entry.readers)
    }

    /// Where the cursor's reader is counted: evictions have moved it along.
    fn position(&self, cursor: &Cursor) -> u64 {
        assert!(cursor.0 <= self.tail, "a cursor is never past the tail");
        cursor.0.max(self.head())
    }

    /// The index of the entry that starts at this offset, which is in the window.
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

    /// So many readers stand at this offset no longer.
    fn leave(&mut self, offset: u64, readers: usize) {
        let standing = self.readers_at(offset);
        assert!(
            *standing >= readers,
            "each reader is counted where it stands"
        );
        *standing -= readers;
    }

    /// So many readers stand at this offset from now on.
    fn stand(&mut self, offset: u64, readers: usize) {
        *self.readers_at(offset) += readers;
    }

    fn readers_at(&mut self, offset: u64) -> &mut usize {
        let index = self.index(offset);
        match self.entries.get_mut(index) {
            Some(entry) => &mut entry.readers,
            None => &mut self.caught_up,
        }
    }

    /// Makes two entries of one: the first `count` messages, and the others.
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

    /// Frees the entries that every reader has passed.
    fn free_read(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.readers == 0) {
            self.forget(&entry.batch);
        }
        self.shrink();
        self.free_burst();
    }

    /// Counts the bytes of messages that are kept no longer.
    fn forget(&mut self, batch: &Batch) {
        self.bytes -= planted::none(Bug::BytesKept, batch.bytes());
    }

    /// Gives back the memory of a log that has become empty, but for a few entries.
    fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
    }

    /// Frees the burst if no reader stands where it starts.
    fn free_burst(&mut self) {
        let first = self.burst.as_ref().map(|burst| burst.first());
        if first.is_some_and(|first| self.standing_at(first) == 0) {
            self.burst = None;
        }
    }
}

mod append;

#[cfg(test)]
mod tests;
