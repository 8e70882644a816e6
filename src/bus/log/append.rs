//! Appending to a log, and evicting its oldest messages.

use super::{Entry, Log};
use crate::bus::batch::Batch;
use crate::planted::{self, Bug};

impl Log {
    /// Whether a message of this length fits without a loss to any reader.
    pub(in crate::bus) fn has_room(&self, message_bytes: usize) -> bool {
        self.has_room_beside(self.messages(), self.bytes, message_bytes)
    }

    /// Whether a message fits beside this many kept messages with this many bytes. A message longer
    /// than the window fits into an empty log.
    fn has_room_beside(&self, messages: usize, bytes: usize, message_bytes: usize) -> bool {
        messages == 0
            || planted::is(Bug::RoomInvented)
            || (messages < self.window.messages.get() && bytes + message_bytes <= self.window.bytes)
    }

    /// The number of empty messages that fit without a loss to any reader.
    pub(in crate::bus) fn room(&self) -> usize {
        let max = self.window.messages.get();
        if self.has_room(0) {
            max.saturating_sub(self.messages()).max(1)
        } else {
            0
        }
    }

    /// The number of leading messages of a batch that fit without a loss to any reader.
    pub(in crate::bus) fn fitting(&self, batch: &Batch) -> usize {
        let (mut messages, mut bytes) = (self.messages(), self.bytes);
        let fits_whole = messages + batch.len() <= self.window.messages.get()
            && bytes + batch.bytes() <= self.window.bytes;
        if fits_whole {
            return batch.len();
        }
        let fits = batch.each_bytes().take_while(|len| {
            let fits = self.has_room_beside(messages, bytes, *len);
            (messages, bytes) = (messages + 1, bytes + len);
            fits
        });
        fits.count()
    }

    /// Appends messages for `readers`, at least one, and evicts the oldest messages that no longer
    /// fit.
    pub(in crate::bus) fn append(&mut self, batch: Batch, readers: usize) {
        assert!(
            readers > 0,
            "the topic has no subscriber, but its log gets a message"
        );
        let count = batch.len() as u64;
        debug_assert!(count > 0, "the log gets a batch without a message");
        let owed = count * readers as u64;
        self.counts.published += count;
        self.counts.owed += owed;
        self.counts.pending += owed;
        self.bytes += batch.bytes();
        // All readers at the tail stand before the new entry from now on.
        self.entries.push_back(Entry {
            first: self.tail,
            batch,
            readers: std::mem::take(&mut self.caught_up),
        });
        self.tail += count;
        while self.overflows() {
            self.evict();
        }
        self.free_burst();
        self.check();
    }

    fn overflows(&self) -> bool {
        let max = planted::one_less(Bug::WindowTooSmall, self.window.messages.get());
        let messages = self.messages();
        messages > planted::one_more(Bug::WindowTooLarge, max)
            || (messages > 1 && self.bytes > self.window.bytes)
    }

    /// Evicts the oldest message; readers that stood before it lose it and stand before the next
    /// one.
    fn evict(&mut self) {
        let Some(entry) = self.entries.front_mut() else {
            return;
        };
        let lost = entry.readers as u64;
        let evicted = if entry.batch.len() > 1 && !planted::is(Bug::BatchEvictedWhole) {
            entry.split_front(1)
        } else {
            let Entry { batch, readers, .. } = self.entries.pop_front().expect("it is there");
            match self.entries.front_mut() {
                Some(next) => next.readers += readers,
                None => self.caught_up += readers,
            }
            batch
        };
        match &mut self.deferred {
            // The readers may still read the message from the history.
            Some(deferred) => *deferred += lost,
            None => {
                self.counts.lost_lagged += planted::none(Bug::LagNotCounted, lost);
                self.counts.pending -= lost;
            }
        }
        self.forget(&evicted);
    }
}
