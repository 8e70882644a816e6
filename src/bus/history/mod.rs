//! The history of one room: the messages that it keeps beyond its subscribers, and their offsets.
//!
//! ```text
//!   first                                  top
//!    |                                      |
//!    v                                      v
//!   [ 7  8  9 ][ 10 ][ 11  12 ] ......... 57        offsets, which count what the history takes
//!     3  4  5     8     9  10                       places in the log of the topic, as long as
//!                                                   the topic lives
//! ```
//!
//! The data here know no lock, clock or task. Messages are dropped from the front only, so a single
//! cause, that of the newest dropped message, is true for every gap that reaches the front.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc as StdArc;
use std::time::Duration;

use crate::bus::batch::Batch;
use crate::instant::Instant;
use crate::limits::Retention;
use crate::planted::{self, Bug};

mod archive;
mod end;
mod entry;
mod kept;
mod ledger;
mod maker;
mod moment;
mod order;
mod position;
mod reading;
mod saved;
mod shelf;
mod why;

pub use self::archive::Histories;
pub(super) use self::archive::{Archive, Present};
pub(super) use self::end::check as check_end;
pub use self::end::{END_BYTES_MAX, EndError, Ended};
use self::entry::{Appended, Entry, remembered};
pub(super) use self::kept::Kept;
pub use self::ledger::HistoryCounts;
pub use self::maker::Maker;
pub use self::moment::Moment;
pub use self::position::{Epoch, Position, PositionError, Since};
pub(super) use self::reading::Part;
pub use self::reading::{HistoryError, Page, Reading, Recorded};
pub use self::saved::{Saved, SavedBatch};
pub(super) use self::shelf::{Shelf, Unheard};
pub use self::why::{Cause, Dropped, Why};

/// The messages of one room that are kept for clients that come, or come back.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    /// The offset of the newest message that the history has ever taken.
    top: u64,
    entries: VecDeque<Entry>,
    /// The bytes for which the entries count.
    bytes: usize,
    retention: StdArc<Retention>,
    /// The instant from which milliseconds are counted.
    began: Instant,
    /// The milliseconds that had passed at that instant: more than 0 for a restored history.
    base: u64,
    /// The offset of the first message of the present topic: entries before it have no place in
    /// the topic's log.
    topic_first: u64,
    /// The cause of the newest dropped message.
    cause: Cause,
    dropped: Dropped,
}

/// The next messages between two places of a log, as far as a history has them.
#[derive(Debug)]
pub(super) struct Next {
    /// The number of messages before the batch that the history does not have.
    pub(super) lost: u64,
    /// The messages after them, up to the end of their entry; `None` if there are none.
    pub(super) batch: Option<Batch>,
}

/// A range of messages that a reader has not read, by one of two ways of counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Messages by their offsets.
    Offsets(Range<u64>),
    /// Messages by their places in the log of the topic.
    Places(Range<u64>),
}

impl History {
    /// Makes a history without messages.
    pub(super) fn new(epoch: Epoch, retention: &StdArc<Retention>, now: Instant) -> Self {
        Self {
            epoch,
            top: 0,
            entries: VecDeque::new(),
            bytes: 0,
            retention: StdArc::clone(retention),
            began: now,
            base: 0,
            topic_first: 1,
            cause: Cause::Evicted,
            dropped: Dropped::default(),
        }
    }

    /// The epoch, and the offset of the newest message ever taken.
    pub(super) fn position(&self) -> Position {
        let (epoch, offset) = (self.epoch, self.top);
        Position { epoch, offset }
    }

    /// The bytes of memory for which the messages count; without the end, which no bound drops: it
    /// counts as a part of the position.
    pub(super) fn bytes(&self) -> usize {
        let end = self.entries.back().filter(|last| last.is_end());
        self.bytes - end.map_or(0, |end| end.bytes)
    }

    /// The number of kept messages; some may have expired.
    pub(super) fn len(&self) -> u64 {
        self.entries.front().map_or(0, |entry| {
            let end = self.entries.back().map_or(0, Entry::end);
            end - entry.first()
        })
    }

    /// Takes the numbers of messages that were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// Begins to count places for a new topic: the kept messages have no place in its log.
    pub(super) fn enter_topic(&mut self) {
        self.topic_first = self.top + 1;
    }

    /// Gives memory back that no message needs.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Appends a batch, which gets its offset; `place` is that of its first message in the log of
    /// the topic. Then drops the messages that are no longer to be kept.
    ///
    /// A batch that is published live alone is left as it is. A history that has ended takes
    /// nothing: the caller asks before.
    pub(super) fn append(&mut self, batch: &mut Batch, place: u64, now: Moment) {
        if batch.is_live() {
            return;
        }
        debug_assert!(!self.has_ended(), "a message comes after the end");
        self.recount_newest();
        let first = planted::one_more(Bug::OffsetSkipped, self.top + 1);
        batch.set_offset(first);
        let last = self.entries.back();
        let before = last.and_then(|last| last.origin().generation());
        if planted::is(Bug::EpochChangedByInstance)
            && before.is_some_and(|before| batch.origin().generation() > Some(before))
        {
            self.epoch = Epoch::from_bits(!self.epoch.bits());
        }
        let label = remembered(batch.label(), last.map(Entry::origin));
        // A thread may have read the clock before another one, and append after it.
        let at = self.millis(now.at).max(last.map_or(0, |entry| entry.at));
        let wall = now.wall;
        let entry = Entry::new(batch, label, place, Appended { at, wall });
        self.top = entry.end() - 1;
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        self.trim(now.at);
    }

    /// Counts the newest entry anew: its readers have made other encodings since it was appended.
    fn recount_newest(&mut self) {
        if let Some(entry) = self.entries.back_mut() {
            let bytes = entry.pinned_bytes();
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    /// Drops the oldest entries that have expired, but not more than `at_most`; returns how many.
    pub(super) fn expire(&mut self, now: Instant, at_most: usize) -> usize {
        let end = self.expired_end(now);
        let expired = self.entries.iter().take(at_most);
        let expired = expired.take_while(|entry| entry.first() < end).count();
        self.drop_before(end.min(self.first_of(expired)), Cause::Expired);
        expired
    }

    /// Drops the messages that are no longer to be kept.
    fn trim(&mut self, now: Instant) {
        let expired = self.expired_end(now);
        self.drop_before(expired, Cause::Expired);
        let evicted = planted::none(Bug::HistoryBoundForgotten, self.keep_from(now));
        self.drop_before(evicted, Cause::Evicted);
        self.check();
    }

    /// The offset of the first message that is to be kept: the only decision on it. The end counts
    /// in no bound, so that it displaces no message.
    ///
    /// A batch may be cut by the number of messages. It is never cut by bytes, as its parts keep
    /// its whole block of memory.
    fn keep_from(&self, now: Instant) -> u64 {
        let messages = self.retention.messages.get() as u64;
        let by_number = self.droppable_end().saturating_sub(messages);
        let by_age = self.expired_end(now);
        by_number.max(by_age).max(self.fitting_from())
    }

    /// The offset of the first message that is kept within the bytes.
    fn fitting_from(&self) -> u64 {
        let mut bytes = self.bytes();
        let mut entries = self.entries.iter();
        let kept = entries.find(|entry| {
            let fits = bytes <= self.retention.bytes;
            bytes -= if fits { 0 } else { entry.bytes };
            fits
        });
        kept.map_or(self.top + 1, Entry::first)
    }

    /// The offset after the newest expired message.
    fn expired_end(&self, now: Instant) -> u64 {
        let now = self.millis(now);
        let ttl = millis(self.retention.ttl);
        let expired = self
            .entries
            .partition_point(|entry| entry.at.saturating_add(ttl) <= now);
        self.first_of(expired).min(self.droppable_end())
    }

    /// The offset of the first message of the entry at this index.
    fn first_of(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(self.top + 1, Entry::first)
    }

    /// The offset of the first message that may be served, and the cause that dropped the one
    /// before it. An expired message is not served, even if it is still kept.
    fn served_from(&self, now: Instant) -> (u64, Cause) {
        let (kept, fresh) = (self.first_of(0), self.expired_end(now));
        if fresh > kept && !planted::is(Bug::ExpiredServed) {
            (fresh, Cause::Expired)
        } else {
            (kept, self.cause)
        }
    }

    /// Drops all messages before an offset, but for the end.
    fn drop_before(&mut self, offset: u64, cause: Cause) {
        let offset = offset.min(self.droppable_end());
        while let Some(entry) = self.entries.front_mut()
            && entry.first() < offset
        {
            let count = (offset - entry.first()).min(entry.len());
            if count < entry.len() {
                entry.drop_front(count);
            } else if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.bytes;
            }
            *self.dropped.of_mut(cause) += count;
            self.cause = cause;
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Drops the oldest entry, to free memory for others; returns whether there was one to drop.
    pub(super) fn evict_oldest(&mut self) -> bool {
        let has_dropped = self.has_droppable();
        let end = self.entries.front().map(Entry::end);
        self.drop_before(end.unwrap_or(0), Cause::Evicted);
        self.check();
        has_dropped
    }

    /// Drops all messages but the end; epoch and top stay, so that a client at the top still
    /// recovers.
    pub(super) fn remove(&mut self, now: Instant) {
        let expired = self.expired_end(now);
        self.drop_before(expired, Cause::Expired);
        self.drop_before(self.top + 1, Cause::Removed);
        self.check();
    }

    /// The instant at which the oldest message expires; `None` without messages that expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let oldest = self.entries.front().filter(|oldest| !oldest.is_end())?;
        let at = oldest.at.saturating_add(millis(self.retention.ttl));
        Some(self.began + Duration::from_millis(at.saturating_sub(self.base)))
    }

    /// The age at which messages expire.
    pub(super) fn ttl(&self) -> Duration {
        self.retention.ttl
    }

    /// The offsets of all messages after a position.
    ///
    /// # Errors
    ///
    /// When at least one of them is not there, or they are more than one recovery brings.
    pub(super) fn recover(&self, since: &Since, now: Instant) -> Result<Range<u64>, Why> {
        if !since.matches(self.epoch) {
            return Err(Why::Epoch);
        }
        if since.offset > self.top {
            return Err(Why::Ahead);
        }
        let (served, cause) = self.served_from(now);
        if since.offset + 1 < served {
            return Err(cause.into());
        }
        let missed = (self.droppable_end() - 1).saturating_sub(since.offset);
        if missed > self.retention.recovery_max() as u64 {
            return Err(Why::TooMany);
        }
        let end = planted::one_less(Bug::HoleAtSeam, self.top + 1);
        // A client that has received the end already is told of it again.
        let first = planted::one_less(Bug::ResumedTooEarly, since.offset + 1);
        let first = planted::one_more(Bug::ResumedTooLate, first).min(end);
        Ok(first.min(self.droppable_end())..end)
    }

    /// The offsets of so many of the newest messages, as far as they can be served, and of the end
    /// after them.
    pub(super) fn last(&self, messages: u64, now: Instant) -> Range<u64> {
        let (served, _cause) = self.served_from(now);
        let end = self.top + 1;
        let wanted = messages.saturating_add(self.ends());
        served.max(end.saturating_sub(wanted)).min(end)..end
    }

    /// The next messages of a span, as far as the history has them.
    pub(super) fn next_of(&self, span: &Span, now: Instant) -> Next {
        let (served, _cause) = self.served_from(now);
        match span {
            Span::Offsets(offsets) => self.next_from(offsets, served, Entry::first),
            Span::Places(places) => {
                let first = served.max(self.topic_first);
                self.next_from(places, first, |entry| entry.place)
            }
        }
    }

    /// The next messages between two numbers that `start` gives the first message of each entry,
    /// but none before the offset `served`.
    fn next_from(&self, span: &Range<u64>, served: u64, start: fn(&Entry) -> u64) -> Next {
        let index = self.entries.partition_point(|entry| {
            entry.end() <= served || start(entry) + entry.len() <= span.start
        });
        let found = self.entries.get(index);
        let found = found.filter(|entry| start(entry) < span.end && span.start < span.end);
        let Some(entry) = found else {
            let lost = span.end.saturating_sub(span.start);
            return Next { lost, batch: None };
        };
        let first = start(entry);
        let from = span.start.saturating_sub(first);
        let until = entry.len().min(span.end - first);
        let [from, count] = [from, until - from].map(|n| usize::try_from(n).expect("of a batch"));
        Next {
            lost: first.saturating_sub(span.start),
            batch: Some(entry.slice(from, count)),
        }
    }

    /// The milliseconds since the history began.
    fn millis(&self, now: Instant) -> u64 {
        self.base + millis(now.saturating_since(self.began))
    }

    /// Checks the invariants, in builds with debug assertions.
    fn check(&self) {
        debug_assert!(
            planted::is(Bug::HistoryBoundForgotten)
                || (self.len() - self.ends() <= self.retention.messages.get() as u64
                    && self.bytes() <= self.retention.bytes),
            "the history keeps {} messages and {} bytes, more than it may",
            self.len(),
            self.bytes,
        );
        debug_assert!(
            self.entries
                .back()
                .is_none_or(|entry| entry.end() == self.top + 1),
            "the newest message has another offset than the top, {}",
            self.top,
        );
        debug_assert!(
            planted::is(Bug::OffsetSkipped) || self.is_gapless(),
            "each entry of the history starts where the one before it ends: {:?}",
            self.entries,
        );
    }

    fn is_gapless(&self) -> bool {
        // A walk over all entries takes too long for a check after each change.
        let ends = self.entries.iter().take(16).map(Entry::end);
        let starts = self.entries.iter().skip(1).map(Entry::first);
        ends.zip(starts).all(|(end, start)| end == start)
    }
}

/// The whole milliseconds of a time.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
