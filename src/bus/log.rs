//! The bounded log of one topic and the cursors of its subscribers: a pure machine.
//!
//! ```text
//!   head                                tail
//!    |                                   |
//!    v                                   v
//!   [ 7 | 8 | 9 | 10 | 11 | 12 ] ......  13      offsets
//!     2   0   1    0    0    0           5       readers whose next message is this one
//! ```
//!
//! Each entry counts the readers that stand exactly before it. So an eviction knows at once how
//! many messages it loses and for how many readers, an entry that everybody has read is freed at
//! once, and no operation depends on how many subscribers there are.

use std::sync::Arc;

use self::ahead::TakenAhead;
use super::burst::{Burst, Terms};
use super::cell::Read;
use super::counts::TopicCounts;
use super::memory::TopicStatus;
use super::message::Message;
use super::ring::{Gathers, Ring};
use super::subscription::Received;
use super::topic::Topic;
use crate::limits::Window;
use crate::planted::{self, Bug};

#[derive(Debug)]
pub(crate) struct Log {
    entries: Ring,
    /// Offset of the first entry.
    head: u64,
    /// Payload bytes of all entries.
    bytes: usize,
    /// Readers that have read everything.
    caught_up: usize,
    readers: usize,
    window: Window,
    counts: TopicCounts,
    /// What the one reader has taken out and not settled.
    ahead: TakenAhead,
    /// What readers were given who stood at one place, kept while another one stands there.
    burst: Option<Arc<Burst>>,
}

/// One subscriber's place in a log: the offset of its next message.
///
/// Not `Clone`: the log has counted it once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

impl Cursor {
    /// That of a reader from before the first message.
    pub(crate) const START: Self = Self(0);

    /// The number of the message it stands before, lost or not; a topic counts from 0.
    pub(crate) fn number(&self) -> u64 {
        self.0
    }

    /// Its reader has received so many messages that were taken out before.
    #[inline]
    pub(crate) fn step(&mut self, messages: u64) {
        self.0 += messages;
    }

    /// Stands where the log has counted its reader meanwhile.
    pub(crate) fn follow(&mut self, at: u64) {
        self.0 = at;
    }
}

impl Log {
    /// A log without messages, whose readers have been there from the beginning.
    pub(crate) fn of(window: Window, readers: usize) -> Self {
        Self {
            entries: Ring::default(),
            head: 0,
            bytes: 0,
            caught_up: readers,
            readers,
            window,
            counts: TopicCounts::default(),
            ahead: TakenAhead::default(),
            burst: None,
        }
    }

    /// The number of the next message that is published.
    pub(crate) fn next_number(&self) -> u64 {
        self.tail()
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers
    }

    /// Adds a reader that gets what is published from now on.
    pub(crate) fn attach(&mut self) -> Cursor {
        // Two may come to stand where one alone cannot.
        self.entries.unpack();
        self.readers += 1;
        self.caught_up += 1;
        Cursor(self.tail())
    }

    /// Removes a reader; what it has not read counts as unsubscribed.
    pub(crate) fn detach(&mut self, cursor: Cursor) {
        let position = self.position(&cursor);
        let unread = self.tail() - position + self.forget_ahead(&cursor);
        self.counts.lost_unsubscribed += planted::none(Bug::UnreadNotCounted, unread);
        self.counts.pending -= unread;
        *self.readers_at(position) -= 1;
        self.readers -= 1;
        self.free_read();
    }

    /// The next message, or the number of messages lost before it; `None` at the tail.
    pub(crate) fn next(&mut self, cursor: &mut Cursor) -> Option<Received> {
        if self.has_ahead(cursor) {
            return None;
        }
        let lost = self.position(cursor) - cursor.0;
        if lost > 0 {
            cursor.0 += lost;
            return Some(Received::Lagged(told(lost)));
        }
        if self.is_sole() {
            let message = self.take_first(cursor)?;
            self.shrink();
            return Some(Received::Message(message));
        }
        let index = self.index(cursor.0);
        let message = self.entries.messages_from(index).next()?.clone();
        self.pass(cursor, cursor.0 + 1);
        Some(Received::Message(message))
    }

    /// Moves the cursor over the next messages, into `into`: up to `bytes_max` payload bytes, but
    /// at least one message if there is one. Returns how many had been lost before them.
    pub(crate) fn read(
        &mut self,
        cursor: &mut Cursor,
        bytes_max: usize,
        into: &mut impl Gathers,
    ) -> u64 {
        let start = self.position(cursor);
        let lost = start - cursor.0;
        let before = into.gathered();
        let mut bytes = 0;
        if self.is_sole() {
            cursor.0 = start;
            if self.bytes <= bytes_max {
                self.take_all(cursor, into);
                self.shrink();
                return told(lost);
            }
            self.entries.unpack();
            let next_len = |log: &Self| log.entries.messages_from(0).next().map(Message::len);
            while let Some(next_len) = next_len(self) {
                bytes += next_len;
                if into.gathered() > before && bytes > bytes_max {
                    break;
                }
                if let Some(message) = self.take_first(cursor) {
                    into.gather(message);
                }
            }
            self.shrink();
            return told(lost);
        }
        for message in self.entries.messages_from(self.index(start)) {
            bytes += message.len();
            if into.gathered() > before && bytes > bytes_max {
                break;
            }
            into.gather(message.clone());
        }
        into.swap_after(before);
        cursor.0 = start;
        let read = planted::one_less(Bug::DeliveredTwice, (into.gathered() - before) as u64);
        self.pass(cursor, start + read);
        told(lost)
    }

    /// The same as [`burst`](Self::burst) for one reader; nothing for one that stands alone.
    pub(crate) fn burst_of_one(
        &mut self,
        cursor: &mut Cursor,
        terms: Terms,
    ) -> Read<Option<Arc<Burst>>> {
        let standing = self.standing_at(cursor.0);
        if standing == 1 && self.made(cursor.0).is_none() {
            return Read::Part(None);
        }
        self.burst(&mut cursor.0, 1, terms)
    }

    /// Moves several readers, whose next message is `at`, over everything up to the tail, as one
    /// burst that is made once for all who stand there.
    ///
    /// A part that is nothing if that is better taken message by message: some of it is lost, or
    /// does not suit the readers.
    pub(crate) fn burst(
        &mut self,
        at: &mut u64,
        readers: usize,
        terms: Terms,
    ) -> Read<Option<Arc<Burst>>> {
        if *at == self.tail() {
            return Read::None;
        }
        let burst = self.made(*at).or_else(|| self.make(*at, terms));
        let Some(burst) = burst.filter(|burst| burst.suits(terms)) else {
            return Read::Part(None);
        };
        self.advance((*at, self.tail()), readers);
        *at = self.tail();
        Read::All(Some(burst))
    }

    /// The burst made for another reader, if that is all there is from here on.
    fn made(&self, at: u64) -> Option<Arc<Burst>> {
        let made = self.burst.as_ref()?;
        let is_all = made.first() == at && made.next() == self.tail();
        is_all.then(|| Arc::clone(made))
    }

    fn make(&mut self, at: u64, terms: Terms) -> Option<Arc<Burst>> {
        let index = usize::try_from(at.checked_sub(self.head)?).ok()?;
        self.entries.unpack();
        let messages = self.entries.messages_from(index);
        let bytes: usize = messages.clone().map(Message::len).sum();
        if bytes > terms.bytes_max {
            return None;
        }
        let burst = Arc::new(Burst::of(at, messages));
        self.burst = Some(Arc::clone(&burst));
        Some(burst)
    }

    /// The newest message, and how many before it were lost or are now left out; `None` at the
    /// tail.
    pub(crate) fn latest(&mut self, cursor: &mut Cursor) -> Option<(u64, Message)> {
        let start = self.position(cursor);
        // What no reader stands before is freed: with something unread there is a newest.
        let newest = self.tail().checked_sub(1).filter(|at| *at >= start)?;
        self.entries.unpack();
        let index = self.index(newest);
        let message = self.entries.messages_from(index).next()?.clone();
        let missed = newest - cursor.0;
        let superseded = newest - start;
        self.counts.lost_superseded += superseded;
        self.counts.pending -= superseded;
        *self.readers_at(start) -= 1;
        *self.readers_at(newest) += 1;
        cursor.0 = newest;
        self.pass(cursor, newest + 1);
        Some((missed, message))
    }

    /// Messages between the cursor and the tail that are still kept.
    pub(crate) fn unread(&self, cursor: &Cursor) -> u64 {
        self.tail() - self.position(cursor)
    }

    /// Whether a read would return anything: a message or a loss.
    pub(crate) fn is_ready(&self, cursor: &Cursor) -> bool {
        cursor.0 != self.tail()
    }

    pub(crate) fn counts(&self) -> TopicCounts {
        self.counts
    }

    pub(crate) fn status(&self, topic: &Topic) -> TopicStatus {
        TopicStatus {
            topic: topic.clone(),
            subscribers: self.readers,
            messages: self.messages(),
            bytes: self.bytes(),
            counts: self.counts,
        }
    }

    /// Payload bytes kept for subscribers that have not read them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.ahead.bytes
    }

    /// Offset of the first entry.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Messages kept for subscribers that have not read them.
    fn messages(&self) -> usize {
        self.entries.len() + self.ahead.messages
    }

    /// Delivers what lies between two offsets to readers who stand at the first, in the window.
    fn advance(&mut self, (from, end): (u64, u64), readers: usize) {
        let read = (end - from) * readers as u64;
        self.counts.delivered += read;
        self.counts.pending -= read;
        *self.readers_at(from) -= readers;
        *self.readers_at(end) += readers;
        self.free_read();
    }

    /// Moves one cursor, which has not lagged, up to `end`.
    fn pass(&mut self, cursor: &mut Cursor, end: u64) {
        self.advance((cursor.0, end), 1);
        cursor.0 = end;
    }

    /// Readers whose next message is this one, if it is in the window.
    fn standing_at(&self, offset: u64) -> usize {
        let index = offset.checked_sub(self.head).map(usize::try_from);
        let readers = index.and_then(|index| self.entries.readers(index.ok()?));
        readers.unwrap_or(0)
    }

    fn tail(&self) -> u64 {
        self.head + self.entries.len() as u64
    }

    /// Where the cursor's reader is counted: evictions have moved it along.
    fn position(&self, cursor: &Cursor) -> u64 {
        debug_assert!(cursor.0 <= self.tail(), "a cursor is never past the tail");
        cursor.0.max(self.head)
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset - self.head).expect("an offset in the window fits usize")
    }

    fn readers_at(&mut self, offset: u64) -> &mut usize {
        let index = self.index(offset);
        match self.entries.readers_mut(index) {
            Some(readers) => readers,
            None => &mut self.caught_up,
        }
    }

    /// Whether there is one reader: then nothing is kept that it has read.
    fn is_sole(&self) -> bool {
        // What is delivered twice, or swapped, must still be there.
        let is_planted = planted::is(Bug::DeliveredTwice) || planted::is(Bug::BatchSwapped);
        self.readers == 1 && !is_planted
    }

    /// Delivers the oldest message to the one reader there is, which stands before it.
    #[inline]
    fn take_first(&mut self, cursor: &mut Cursor) -> Option<Message> {
        let (message, readers) = self.entries.pop_front()?;
        self.bytes -= planted::none(Bug::BytesKept, message.len());
        self.head += 1;
        self.counts.delivered += 1;
        self.counts.pending -= 1;
        *self.readers_at(self.head) += readers;
        cursor.0 = self.head;
        Some(message)
    }

    /// Delivers all there is to the one reader there is, which stands before it.
    fn take_all(&mut self, cursor: &mut Cursor, into: &mut impl Gathers) {
        let count = self.entries.len() as u64;
        into.gather_all(&mut self.entries, self.bytes);
        self.bytes -= planted::none(Bug::BytesKept, self.bytes);
        self.head += count;
        self.counts.delivered += count;
        self.counts.pending -= count;
        self.caught_up = self.readers;
        cursor.0 = self.head;
    }

    /// Frees the entries that no reader stands before.
    fn free_read(&mut self) {
        while self.entries.readers_at_front() == Some(0)
            && let Some((message, _)) = self.entries.pop_front()
        {
            self.bytes -= planted::none(Bug::BytesKept, message.len());
            self.head += 1;
        }
        self.shrink();
    }

    /// Gives back what a log that has become empty does not need.
    fn shrink(&mut self) {
        // Where nobody reads, it is only held by those who once knew the way.
        self.entries.shrink(self.readers > 0);
        self.free_burst();
    }

    /// Frees the burst if no reader stands where it begins.
    fn free_burst(&mut self) {
        let first = self.burst.as_ref().map(|burst| burst.first());
        if first.is_some_and(|first| self.standing_at(first) == 0) {
            self.burst = None;
        }
    }
}

/// The losses that a subscriber is told of.
fn told(lost: u64) -> u64 {
    planted::one_less(Bug::LagTooLow, lost)
}

mod ahead;

mod append;

#[cfg(test)]
mod tests;
