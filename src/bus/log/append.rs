//! What is appended to a log, and what is evicted for it.

use super::Log;
use crate::bus::batch::Batch;
use crate::bus::message::Message;
use crate::planted::{self, Bug};

impl Log {
    /// Whether a message of this length fits without anybody losing one.
    pub(crate) fn has_room(&self, message_bytes: usize) -> bool {
        let (messages, bytes) = (self.messages(), self.bytes());
        messages == 0
            || planted::is(Bug::RoomInvented)
            || (messages < self.window.messages.get() && bytes + message_bytes <= self.window.bytes)
    }

    /// Messages that fit without anybody losing one, if they are short.
    pub(crate) fn room(&self) -> usize {
        let max = self.window.messages.get();
        if self.has_room(0) {
            max.saturating_sub(self.messages()).max(1)
        } else {
            0
        }
    }

    /// Appends a message and evicts the oldest ones that no longer fit.
    #[inline]
    pub(crate) fn append(&mut self, message: Message) {
        self.push(message);
        self.settle_appended(1);
    }

    /// Appends a message if nobody loses one by it; else it is left.
    #[inline]
    pub(crate) fn append_offered(&mut self, offered: &mut Option<Message>) -> u64 {
        let message = offered.take_if(|message| self.has_room(message.len()));
        let Some(message) = message else {
            return 0;
        };
        self.append(message);
        1
    }

    /// Appends these, the oldest first, up to the first that somebody would lose a message by; how
    /// many that are.
    pub(crate) fn append_fitting(&mut self, batch: &mut Batch) -> u64 {
        let before = batch.len();
        if self.fits_whole(batch) {
            self.push_batch(batch);
            self.settle_appended(before as u64);
            return before as u64;
        }
        let is_next = |log: &Self, batch: &mut Batch| {
            let first = batch.next_len();
            first.is_some_and(|bytes| log.has_room(bytes))
        };
        while is_next(self, batch)
            && let Some(message) = batch.pop()
        {
            self.push(message);
        }
        let count = (before - batch.len()) as u64;
        self.settle_appended(count);
        count
    }

    /// Appends these, the oldest first, as [`append`](Self::append) does one after the other.
    pub(crate) fn append_batch(&mut self, batch: &mut Batch) {
        self.count_appended(batch.len() as u64);
        if self.fits_whole(batch) {
            self.push_batch(batch);
        } else {
            while let Some(message) = batch.pop() {
                self.push(message);
                self.evict_overflow();
            }
        }
        self.free_burst();
    }

    /// Whether somebody reads all of these, and nobody loses a message by them; not if one alone is
    /// too long.
    #[inline]
    fn fits_whole(&self, batch: &Batch) -> bool {
        self.readers > 0
            && self.messages() + batch.len() <= self.window.messages.get()
            && self.bytes() + batch.bytes() <= self.window.bytes
    }

    /// Keeps a message, if there is anybody who reads it.
    #[inline(always)]
    fn push(&mut self, message: Message) {
        if self.readers > 0 {
            self.bytes += message.len();
            let readers = std::mem::take(&mut self.caught_up);
            self.entries.push_back(message, readers);
        }
    }

    /// Keeps all of these, for those who read.
    #[inline]
    fn push_batch(&mut self, batch: &mut Batch) {
        if !self.is_sole() {
            batch.unpack();
        }
        self.bytes += batch.bytes();
        batch.move_into(&mut self.entries, &mut self.caught_up);
    }

    /// Counts so many messages that were appended, and evicts the oldest ones that do not fit.
    #[inline]
    fn settle_appended(&mut self, count: u64) {
        self.count_appended(count);
        self.evict_overflow();
        self.free_burst();
    }

    #[inline]
    fn count_appended(&mut self, count: u64) {
        let owed = count * self.readers as u64;
        self.counts.published += count;
        self.counts.owed += owed;
        self.counts.pending += owed;
    }

    #[inline]
    pub(super) fn evict_overflow(&mut self) {
        while self.overflows() {
            self.evict();
        }
    }

    fn overflows(&self) -> bool {
        let max = planted::one_less(Bug::WindowTooSmall, self.window.messages.get());
        self.entries.len() > planted::one_more(Bug::WindowTooLarge, max)
            || (self.entries.len() > 1 && self.bytes > self.window.bytes)
    }

    /// Drops the oldest entry; its readers lose it and stand before the next one.
    fn evict(&mut self) {
        let Some((message, readers)) = self.entries.pop_front() else {
            return;
        };
        let lost = readers as u64;
        self.counts.lost_lagged += planted::none(Bug::LagNotCounted, lost);
        self.counts.pending -= lost;
        self.bytes -= planted::none(Bug::BytesKept, message.len());
        self.head += 1;
        *self.readers_at(self.head) += readers;
    }
}
