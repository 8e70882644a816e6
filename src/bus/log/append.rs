//! What is appended to a log, and what is evicted for it.

use super::Log;
use crate::bus::cell::Offers;
use crate::bus::message::Message;
use crate::bus::ring::Entry;
use crate::planted::{self, Bug};

impl Log {
    /// Whether a message of this length fits without anybody losing one.
    pub(crate) fn has_room(&self, message_bytes: usize) -> bool {
        self.fits((self.messages(), self.bytes()), message_bytes)
    }

    /// Whether a message of this length fits where so many messages of so many bytes are.
    fn fits(&self, (messages, bytes): (usize, usize), message_bytes: usize) -> bool {
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

    /// Appends what is on offer up to the first that somebody would lose a message by; how many
    /// that are.
    pub(crate) fn append_all(&mut self, offers: &mut impl Offers) -> u64 {
        let count = self.fitting(offers.all());
        self.extend(offers.take_first(count));
        self.settle_appended(count as u64);
        count as u64
    }

    /// Appends these, the oldest first, as [`append`](Self::append) does one after the other.
    pub(crate) fn append_batch(&mut self, messages: &mut Vec<Message>) {
        self.count_appended(messages.len() as u64);
        if self.fitting(messages) == messages.len() {
            self.extend(messages.drain(..));
        }
        for message in messages.drain(..) {
            self.push(message);
            self.evict_overflow();
        }
        self.settle_appended(0);
    }

    /// How many of these fit, the oldest first, without anybody losing a message.
    fn fitting(&self, messages: &[Message]) -> usize {
        let (mut count, mut bytes) = (self.messages(), self.bytes());
        let fits = messages.iter().take_while(|message| {
            let fits = self.fits((count, bytes), message.len());
            count += 1;
            bytes += message.len();
            fits
        });
        fits.count()
    }

    /// Keeps a message, if there is anybody who reads it.
    #[inline(always)]
    fn push(&mut self, message: Message) {
        if self.readers > 0 {
            self.bytes += message.len();
            let readers = std::mem::take(&mut self.caught_up);
            self.entries.push_back(Entry { message, readers });
        }
    }

    /// Keeps several, if there is anybody who reads them.
    #[inline]
    fn extend(&mut self, messages: impl Iterator<Item = Message>) {
        match messages.size_hint() {
            (0, _) => {}
            (1, _) => messages.for_each(|message| self.push(message)),
            (2.., _) => self.extend_several(messages),
        }
    }

    fn extend_several(&mut self, messages: impl Iterator<Item = Message>) {
        if self.readers > 0 {
            let first = self.entries.len();
            let bytes = &mut self.bytes;
            self.entries.extend(messages.map(|message| {
                *bytes += message.len();
                Entry {
                    message,
                    readers: 0,
                }
            }));
            if let Some(first) = self.entries.get_mut(first) {
                first.readers = std::mem::take(&mut self.caught_up);
            }
        }
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
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        let lost = entry.readers as u64;
        self.counts.lost_lagged += planted::none(Bug::LagNotCounted, lost);
        self.counts.pending -= lost;
        self.bytes -= planted::none(Bug::BytesKept, entry.message.len());
        self.head += 1;
        *self.readers_at(self.head) += entry.readers;
    }
}
