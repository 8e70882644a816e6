//! The invariants of a log, checked after every change in builds with debug assertions.

use super::{Entry, KEPT, Log};
use crate::planted::{self, Bug};

impl Log {
    /// Checks the whole log at the end of a change.
    #[inline]
    pub(super) fn check(&self) {
        let counts = &self.counts;
        debug_assert!(
            planted::is(Bug::LagNotCounted)
                || planted::is(Bug::UnreadNotCounted)
                || counts.owed == counts.accounted(),
            "the log owes its readers {} messages, but it accounts for {}",
            counts.owed,
            counts.accounted(),
        );
        debug_assert!(
            self.entries.front().is_none_or(|entry| entry.readers > 0),
            "the log keeps its oldest entry at {}, but no reader stands before it",
            self.head(),
        );
        debug_assert!(
            planted::is(Bug::BytesKept) || self.is_long() || self.bytes == self.entry_bytes(),
            "the log counts {} payload bytes, but its entries keep {}",
            self.bytes,
            self.entry_bytes(),
        );
        debug_assert!(
            planted::is(Bug::BatchEvictedWhole)
                || self.is_long()
                || counts.pending == self.unread_of_all() + self.deferred.unwrap_or(0),
            "the log counts {} unread messages, but its readers still have {} to read",
            counts.pending,
            self.unread_of_all() + self.deferred.unwrap_or(0),
        );
        debug_assert!(
            self.is_long() || self.is_gapless(),
            "each entry of the log starts where the one before it ends: {:?}",
            self.entries,
        );
    }

    /// Checks that the log counts each subscriber of its topic once.
    #[inline]
    pub(in crate::bus) fn check_readers(&self, subscribers: usize) {
        debug_assert!(
            self.is_long() || self.readers() == subscribers,
            "the topic has {subscribers} subscribers, but its log counts {}",
            self.readers(),
        );
    }

    /// Whether a walk over all entries takes too long for a check after each change.
    fn is_long(&self) -> bool {
        self.entries.len() > KEPT
    }

    fn entry_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.batch.bytes()).sum()
    }

    fn readers(&self) -> usize {
        let standing = self.entries.iter().map(|entry| entry.readers);
        self.caught_up + standing.sum::<usize>()
    }

    /// The messages that each reader has not read, summed over the readers.
    fn unread_of_all(&self) -> u64 {
        let unread = |entry: &Entry| (self.tail - entry.first) * entry.readers as u64;
        self.entries.iter().map(unread).sum()
    }

    fn is_gapless(&self) -> bool {
        let ends = self.entries.iter();
        let ends = ends.map(|entry| entry.first + entry.batch.len() as u64);
        let starts = self.entries.iter().map(|entry| entry.first);
        starts.skip(1).chain([self.tail]).eq(ends) || self.entries.is_empty()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::super::Cursor;
    use super::*;
    use crate::bus::message::Message;
    use crate::limits::Window;

    /// Makes a log with one message, and two readers that have not read it.
    fn log() -> (Log, Cursor) {
        let mut log = Log::of(Window::default(), 1);
        let reader = log.attach();
        log.append(Message::text("one").into(), 2);
        (log, reader)
    }

    #[test]
    #[should_panic(expected = "the log owes its readers 2 messages, but it accounts for 3")]
    fn a_delivery_that_is_counted_twice_trips_the_log() {
        let (mut log, reader) = log();
        log.counts.delivered += 1;
        log.detach(&reader);
    }

    #[test]
    #[should_panic(expected = "the log counts 4 payload bytes, but its entries keep 3")]
    fn a_byte_too_many_trips_the_log() {
        let (mut log, reader) = log();
        log.bytes += 1;
        log.detach(&reader);
    }

    #[test]
    #[should_panic(expected = "the log counts 1 unread messages, but its readers still have 2")]
    fn a_reader_that_is_counted_twice_trips_the_log() {
        let (mut log, reader) = log();
        log.entries[0].readers += 1;
        log.detach(&reader);
    }
}
