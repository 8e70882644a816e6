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

use std::collections::VecDeque;
use std::sync::Arc;

use super::burst::{Burst, Terms};
use super::memory::TopicStatus;
use super::message::Message;
use super::subscription::Received;
use super::topic::Topic;
use crate::limits::Window;
use crate::planted::{self, Bug};

/// Capacity above which an emptied log gives its memory back.
const SPARE_ENTRIES: usize = 32;

#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// Offset of the first entry.
    head: u64,
    /// Payload bytes of all entries.
    bytes: usize,
    /// Readers that have read everything.
    caught_up: usize,
    readers: usize,
    window: Window,
    counts: TopicCounts,
    /// What readers were given who stood at one place, kept while another one stands there.
    burst: Option<Arc<Burst>>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    /// Readers whose next message is this one.
    readers: usize,
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

    /// Stands where the log has counted its reader meanwhile.
    pub(crate) fn follow(&mut self, at: u64) {
        self.0 = at;
    }
}

/// What a topic has done with the messages published on it.
///
/// At every moment `owed = delivered + lost_lagged + lost_superseded + lost_unsubscribed +
/// pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCounts {
    /// Messages published.
    pub published: u64,
    /// Deliveries due: for each message published, the subscribers it then had.
    pub owed: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Deliveries lost because the subscriber fell out of the window.
    pub lost_lagged: u64,
    /// Deliveries left out because the subscriber wants only the newest message.
    pub lost_superseded: u64,
    /// Deliveries given up because the subscriber left with the message unread.
    pub lost_unsubscribed: u64,
    /// Deliveries still in the window.
    pub pending: u64,
}

impl TopicCounts {
    /// Adds another topic's counts to these.
    pub(crate) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.owed += other.owed;
        self.delivered += other.delivered;
        self.lost_lagged += other.lost_lagged;
        self.lost_superseded += other.lost_superseded;
        self.lost_unsubscribed += other.lost_unsubscribed;
        self.pending += other.pending;
    }
}

/// What there is for a reader who takes bursts.
#[derive(Debug)]
pub(crate) enum Due {
    /// This, and with it everything.
    Burst(Arc<Burst>),
    /// Something that is better taken message by message: some of it is lost, or does not suit the
    /// reader, or nobody else has it to receive.
    Else,
    Nothing,
}

impl Log {
    /// A log without messages, whose readers have been there from the beginning.
    pub(crate) fn of(window: Window, readers: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            head: 0,
            bytes: 0,
            caught_up: readers,
            readers,
            window,
            counts: TopicCounts::default(),
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
        self.readers += 1;
        self.caught_up += 1;
        Cursor(self.tail())
    }

    /// Removes a reader; what it has not read counts as unsubscribed.
    pub(crate) fn detach(&mut self, cursor: Cursor) {
        let position = self.position(&cursor);
        let unread = self.tail() - position;
        self.counts.lost_unsubscribed += planted::none(Bug::UnreadNotCounted, unread);
        self.counts.pending -= unread;
        *self.readers_at(position) -= 1;
        self.readers -= 1;
        self.free_read();
    }

    /// Whether a message of this length fits without anybody losing one.
    pub(crate) fn has_room(&self, message_bytes: usize) -> bool {
        self.entries.is_empty()
            || planted::is(Bug::RoomInvented)
            || (self.entries.len() < self.window.messages.get()
                && self.bytes + message_bytes <= self.window.bytes)
    }

    /// Messages that fit without anybody losing one, if they are short.
    pub(crate) fn room(&self) -> usize {
        let max = self.window.messages.get();
        if self.has_room(0) {
            max.saturating_sub(self.entries.len()).max(1)
        } else {
            0
        }
    }

    /// Appends a message and evicts the oldest ones that no longer fit.
    pub(crate) fn append(&mut self, message: Message) {
        let owed = self.readers as u64;
        self.counts.published += 1;
        self.counts.owed += owed;
        if owed == 0 {
            return;
        }
        self.counts.pending += owed;
        self.bytes += message.len();
        let readers = std::mem::take(&mut self.caught_up);
        self.entries.push_back(Entry { message, readers });
        while self.overflows() {
            self.evict();
        }
        self.free_burst();
    }

    /// The next message, or the number of messages lost before it; `None` at the tail.
    pub(crate) fn next(&mut self, cursor: &mut Cursor) -> Option<Received> {
        let lost = self.position(cursor) - cursor.0;
        if lost > 0 {
            cursor.0 += lost;
            return Some(Received::Lagged(told(lost)));
        }
        let message = self.entries.get(self.index(cursor.0))?.message.clone();
        self.pass(cursor, cursor.0 + 1);
        Some(Received::Message(message))
    }

    /// Moves the cursor over the next messages, into `into`: up to `bytes_max` payload bytes, but
    /// at least one message if there is one. Returns how many had been lost before them.
    pub(crate) fn read(
        &mut self,
        cursor: &mut Cursor,
        bytes_max: usize,
        into: &mut Vec<Message>,
    ) -> u64 {
        let start = self.position(cursor);
        let lost = start - cursor.0;
        let before = into.len();
        let mut bytes = 0;
        for entry in self.entries.range(self.index(start)..) {
            bytes += entry.message.len();
            if into.len() > before && bytes > bytes_max {
                break;
            }
            into.push(entry.message.clone());
        }
        planted::swap(Bug::BatchSwapped, &mut into[before..]);
        cursor.0 = start;
        let read = planted::one_less(Bug::DeliveredTwice, (into.len() - before) as u64);
        self.pass(cursor, start + read);
        told(lost)
    }

    /// Moves the cursor over everything up to the tail, as one burst that others who stand where it
    /// does are given as well.
    pub(crate) fn burst_of_one(&mut self, cursor: &mut Cursor, terms: Terms) -> Due {
        let standing = self.standing_at(cursor.0);
        if standing == 1 && self.made(cursor.0).is_none() {
            return Due::Else;
        }
        self.burst(&mut cursor.0, 1, terms)
    }

    /// Moves several readers, whose next message is `at`, over everything up to the tail, as one
    /// burst that is made once for all who stand there.
    pub(crate) fn burst(&mut self, at: &mut u64, readers: usize, terms: Terms) -> Due {
        if *at == self.tail() {
            return Due::Nothing;
        }
        let burst = self.made(*at).or_else(|| self.make(*at, terms));
        let Some(burst) = burst.filter(|burst| burst.suits(terms)) else {
            return Due::Else;
        };
        self.advance((*at, self.tail()), readers);
        *at = self.tail();
        Due::Burst(burst)
    }

    /// The burst made for another reader, if that is all there is from here on.
    fn made(&self, at: u64) -> Option<Arc<Burst>> {
        let made = self.burst.as_ref()?;
        let is_all = made.first() == at && made.next() == self.tail();
        is_all.then(|| Arc::clone(made))
    }

    fn make(&mut self, at: u64, terms: Terms) -> Option<Arc<Burst>> {
        let index = usize::try_from(at.checked_sub(self.head)?).ok()?;
        let messages = self.entries.range(index..).map(|entry| &entry.message);
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
        let message = self.entries.get(self.index(newest))?.message.clone();
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
            messages: self.entries.len(),
            bytes: self.bytes,
            counts: self.counts,
        }
    }

    /// Payload bytes kept for subscribers that have not read them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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
        let entry = index.and_then(|index| self.entries.get(index.ok()?));
        entry.map_or(0, |entry| entry.readers)
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
        match self.entries.get_mut(index) {
            Some(entry) => &mut entry.readers,
            None => &mut self.caught_up,
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

    /// Frees the entries that no reader stands before.
    fn free_read(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.readers == 0) {
            self.evict();
        }
        // Where nobody reads, it is only held by those who once knew the way.
        let spare = if self.readers > 0 { SPARE_ENTRIES } else { 0 };
        if self.entries.is_empty() && self.entries.capacity() > spare {
            self.entries = VecDeque::new();
        }
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::bus::message::{Generation, Origin};

    const ALL: usize = usize::MAX;

    fn log(messages: usize, bytes: usize) -> Log {
        let messages = NonZeroUsize::new(messages).expect("not zero");
        Log::of(Window { messages, bytes }, 0)
    }

    fn read(log: &mut Log, cursor: &mut Cursor, bytes_max: usize) -> (u64, Vec<String>) {
        let mut into = Vec::new();
        let lost = log.read(cursor, bytes_max, &mut into);
        let texts = into.iter().filter_map(|m| m.as_text().map(str::to_owned));
        (lost, texts.collect())
    }

    fn texts(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_full_window_loses_nothing_and_one_more_loses_the_oldest() {
        let mut log = log(4, 1000);
        let mut cursor = log.attach();
        (0..4).for_each(|n| log.append(n.to_string().into()));
        assert_eq!(log.counts().lost_lagged, 0);
        log.append("4".into());
        assert_eq!(log.counts().lost_lagged, 1);
        assert_eq!(read(&mut log, &mut cursor, ALL), (1, texts(1..5)));
        assert_eq!(read(&mut log, &mut cursor, ALL), (0, vec![]));
    }

    #[test]
    fn the_byte_bound_evicts_and_the_newest_message_always_stays() {
        let mut log = log(100, 10);
        let mut cursor = log.attach();
        log.append("12345".into());
        log.append("67890".into());
        assert_eq!(log.counts().lost_lagged, 0, "exactly the bound fits");
        log.append("x".into());
        assert_eq!(log.counts().lost_lagged, 1);
        log.append("far more than ten".into());
        assert_eq!(log.counts().lost_lagged, 3);
        let (lost, texts) = read(&mut log, &mut cursor, ALL);
        assert_eq!((lost, texts.len()), (3, 1));
    }

    #[test]
    fn room_ends_exactly_where_a_message_would_be_lost() {
        let mut log = log(2, 10);
        assert!(log.has_room(11), "an empty log takes any one message");
        let mut cursor = log.attach();
        log.append("12345".into());
        assert!(log.has_room(5));
        assert!(!log.has_room(6));
        log.append("12345".into());
        assert!(!log.has_room(0), "the count is full");
        read(&mut log, &mut cursor, ALL);
        assert!(log.has_room(10));
    }

    #[test]
    fn what_everybody_has_read_is_freed_at_once() {
        let mut log = log(256, 1 << 20);
        let mut fast = log.attach();
        let mut slow = log.attach();
        (0..200).for_each(|n| log.append(n.to_string().into()));
        read(&mut log, &mut fast, ALL);
        assert_eq!(log.entries.len(), 200, "slow has read nothing");
        let first_100 = 10 + 90 * 2;
        assert_eq!(read(&mut log, &mut slow, first_100), (0, texts(0..100)));
        assert_eq!(log.entries.len(), 100);
        log.detach(slow);
        assert_eq!((log.entries.len(), log.bytes()), (0, 0));
        assert_eq!(
            log.entries.capacity(),
            0,
            "the burst's memory is given back"
        );
        assert_eq!(log.counts().lost_unsubscribed, 100);
    }

    #[test]
    fn the_memory_of_a_few_messages_is_kept_and_that_of_a_burst_is_not() {
        for (messages, kept) in [(SPARE_ENTRIES, SPARE_ENTRIES), (SPARE_ENTRIES + 1, 0)] {
            let mut log = log(256, 1 << 20);
            let mut cursor = log.attach();
            // Room for exactly so many.
            log.entries.reserve_exact(messages);
            (0..messages).for_each(|n| log.append(n.to_string().into()));
            read(&mut log, &mut cursor, ALL);
            assert_eq!(log.entries.capacity(), kept, "{messages} messages");
            log.detach(cursor);
            assert_eq!(log.entries.capacity(), 0, "nobody reads any more");
        }
    }

    #[test]
    fn what_was_read_before_stays_before_what_is_read() {
        let mut log = log(4, 1000);
        let mut cursor = log.attach();
        let mut into = vec!["before".into()];
        log.append("0".into());
        assert_eq!(log.read(&mut cursor, 0, &mut into), 0);
        assert_eq!(into, ["before".into(), Message::text("0")]);
        assert_eq!(log.unread(&cursor), 0);
    }

    #[test]
    fn a_read_stops_at_its_limits_but_takes_at_least_one() {
        let mut log = log(10, 1000);
        let mut cursor = log.attach();
        (0..10).for_each(|n| log.append(n.to_string().into()));
        assert_eq!(read(&mut log, &mut cursor, 2).1, texts(0..2));
        assert_eq!(read(&mut log, &mut cursor, 3).1, texts(2..5));
        assert_eq!(read(&mut log, &mut cursor, 1).1, texts(5..6));
        assert_eq!(read(&mut log, &mut cursor, 0).1, texts(6..7));
        assert_eq!(log.unread(&cursor), 3);
    }

    #[test]
    fn the_newest_is_read_whatever_came_before_and_the_rest_is_counted() {
        // So many published at once, with room for four, when both have read something before.
        for published in 0..8_u64 {
            let mut log = log(4, 1000);
            let mut latest = log.attach();
            let mut all = log.attach();
            for _ in 0..3 {
                log.append("before".into());
                assert_eq!(log.read(&mut all, ALL, &mut Vec::new()), 0);
                assert_eq!(log.latest(&mut latest).map(|(missed, _)| missed), Some(0));
            }
            (0..published).for_each(|n| log.append(n.to_string().into()));
            let read = log.latest(&mut latest);
            let read = read.map(|(missed, message)| (missed, message.as_text().map(str::to_owned)));
            let newest = published.checked_sub(1);
            assert_eq!(read, newest.map(|n| (n, Some(n.to_string()))));
            assert!(log.latest(&mut latest).is_none(), "nothing is newer");
            let lagged = published.saturating_sub(4);
            let counts = log.counts();
            assert_eq!(counts.lost_superseded, published.saturating_sub(1 + lagged));
            assert_eq!(counts.lost_lagged, 2 * lagged);
            let kept = self::read(&mut log, &mut all, ALL).1.len() as u64;
            assert_eq!(kept, published - lagged, "another reader gets its own");
            assert!(log.entries.is_empty(), "all is read");
            assert_eq!(log.counts().pending, 0);
        }
    }

    fn terms(bytes_max: usize, since: u64) -> Terms {
        let since = Generation::new(since);
        Terms { bytes_max, since }
    }

    fn burst(log: &mut Log, cursor: &mut Cursor) -> Option<Arc<Burst>> {
        match log.burst_of_one(cursor, terms(100, 1)) {
            Due::Burst(burst) => Some(burst),
            Due::Else | Due::Nothing => None,
        }
    }

    #[test]
    fn who_stands_at_one_place_is_given_one_burst_made_once() {
        let mut log = log(8, 1000);
        let [mut a, mut b, mut c] = [(); 3].map(|()| log.attach());
        assert!(matches!(
            log.burst_of_one(&mut a, terms(100, 1)),
            Due::Nothing
        ));
        log.append("0".into());
        read(&mut log, &mut c, ALL);
        log.append("1".into());
        let [of_a, of_b] = [&mut a, &mut b].map(|reader| burst(&mut log, reader).expect("two"));
        assert!(Arc::ptr_eq(&of_a, &of_b));
        assert_eq!(of_a.bytes(), b"\x81\x010\x81\x011");
        assert!(burst(&mut log, &mut c).is_none(), "it is alone");
        assert_eq!(read(&mut log, &mut c, ALL), (0, texts(1..2)));
        assert!(log.burst.is_none() && log.entries.is_empty(), "all is read");
        let counts = log.counts();
        assert_eq!((counts.owed, counts.delivered, counts.pending), (6, 6, 0));
    }

    #[test]
    fn a_burst_is_all_there_is_even_if_one_was_made_before() {
        let mut log = log(8, 1000);
        let [mut a, mut b] = [(); 2].map(|()| log.attach());
        log.append("0".into());
        assert_eq!(burst(&mut log, &mut a).expect("two").marks().len(), 1);
        log.append("1".into());
        // Alone now where the first burst began.
        assert!(burst(&mut log, &mut b).is_none());
        assert_eq!(read(&mut log, &mut b, ALL), (0, texts(0..2)));
        assert_eq!(read(&mut log, &mut a, ALL), (0, texts(1..2)));
    }

    #[test]
    fn who_lost_some_or_is_not_suited_is_given_no_burst() {
        let mut log = log(2, 1000);
        let mut readers = [(); 2].map(|()| log.attach());
        (0..3).for_each(|n| log.append(n.to_string().into()));
        assert!(
            burst(&mut log, &mut readers[0]).is_none(),
            "it has lost one"
        );
        for reader in &mut readers {
            assert_eq!(read(&mut log, reader, ALL), (1, texts(1..3)));
        }
        let old = Origin::Service(Generation::new(4));
        log.append(Message::text("four").from_origin(old));
        for (bytes_max, since, suits) in [(5, 4, false), (100, 5, false), (6, 4, true)] {
            let due = log.burst_of_one(&mut readers[0], terms(bytes_max, since));
            assert_eq!(matches!(due, Due::Burst(_)), suits, "{bytes_max} {since}");
        }
        assert!(log.burst.is_some(), "another one stands there");
        log.append("x".into());
        log.append("y".into());
        assert!(log.burst.is_none(), "it lies before the window");
    }

    #[test]
    fn several_readers_move_at_once() {
        let mut log = log(8, 1000);
        let cursors = [(); 3].map(|()| log.attach());
        log.append("0".into());
        let mut at = cursors[0].number();
        let due = log.burst(&mut at, 3, terms(100, 1));
        assert!(matches!(due, Due::Burst(_)));
        assert_eq!((at, log.counts().delivered, log.entries.len()), (1, 3, 0));
        for mut cursor in cursors {
            cursor.follow(at);
            log.detach(cursor);
        }
        assert_eq!(log.readers(), 0);
    }

    #[test]
    fn a_message_for_nobody_is_counted_and_not_kept() {
        let mut log = log(4, 100);
        log.append("x".into());
        let counts = log.counts();
        assert_eq!((counts.published, counts.owed), (1, 0));
        assert_eq!((log.entries.len(), log.bytes()), (0, 0));
        let mut late = log.attach();
        assert_eq!(read(&mut log, &mut late, ALL), (0, vec![]));
    }
}
