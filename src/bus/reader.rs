//! One reader of a topic: its place in the log, and the messages that it reads from the history.
//!
//! ```text
//!   history     [1  2  3  4  5  6  7]
//!                   `--backlog-'  |
//!   log                        `gap'[8  9]  tail
//!                              ^
//!                              cursor of the reader
//! ```
//!
//! A reader that recovers stands at the tail of the log from the first moment on, and has a backlog
//! of offsets, which it reads first. Messages that fall out of the window meanwhile are a gap
//! between its cursor and the head of the log. The gap is read from the history, too, as far as the
//! messages are there: the rest is lost, and told in its place.

use std::ops::Range;

use super::batch::Batch;
use super::history::{History, Maker, Next, Position, Since, Span, Why};
use super::log::{Amount, Cursor, Log};
use crate::instant::Instant;
use crate::planted::{self, Bug};

/// The place at which a subscription to a topic with a history begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the messages after this position, all of them or none.
    After(Since),
    /// With so many of the newest messages, as far as they are still there.
    Last(u64),
    /// With the newest message, if it is still there.
    Newest,
    /// With the next message.
    #[default]
    Next,
}

/// The wishes of a new subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joining {
    /// The place at which the subscription begins.
    pub start: Start,
    /// Whether messages that fall out of the window are read from the history, as long as they are
    /// there. A subscription that recovers reads them in any case until it has caught up.
    pub recovers: bool,
    /// Whether the subscription is provisional until it is
    /// [confirmed](super::Subscription::confirm). The end of a provisional subscription is no use
    /// of the room, and leaves no history behind that the subscription has made.
    pub is_provisional: bool,
    /// The client, which makes the history if there is none.
    pub maker: Maker,
}

/// The beginning of a subscription, as far as a history knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The topic has no history.
    Unrecorded,
    /// The subscription did not ask to recover: it receives the messages after this position, and
    /// before them the newest ones if it wanted them.
    Present {
        /// The present position: live messages come after it.
        position: Position,
        /// The number of messages up to it.
        messages: u64,
    },
    /// The subscription receives every message after the position that it showed.
    Recovered {
        /// The present position: live messages come after it.
        position: Position,
        /// The number of messages up to it.
        messages: u64,
    },
    /// The subscription could not recover: it receives the messages after the present position.
    NotRecovered {
        /// The reason.
        why: Why,
        /// The present position.
        position: Position,
    },
}

impl Joined {
    /// The present position; `None` without a history.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Unrecorded => None,
            Self::NotRecovered { position, .. }
            | Self::Present { position, .. }
            | Self::Recovered { position, .. } => Some(*position),
        }
    }
}

/// The messages that a new reader is owed, by their offsets, and what it is told.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) backlog: Range<u64>,
    pub(super) joined: Joined,
}

/// One reader: its place in the log of its topic, and the rest that it reads from the history.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) cursor: Cursor,
    /// `None` for most readers, to keep them small: each client has two.
    aside: Option<Box<Aside>>,
}

/// The part of a reader that reads from the history.
#[derive(Debug)]
struct Aside {
    /// The offsets that are still to be read from the history. Empty while the reader reads
    /// messages that fell out of the window meanwhile.
    backlog: Range<u64>,
    /// Whether the reader has not caught up with the log since it began to recover.
    catches_up: bool,
    /// Whether messages that fall out of the window are read from the history.
    recovers: bool,
}

/// The history of a topic at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past<'a> {
    pub(super) history: &'a History,
    pub(super) now: Instant,
}

/// The messages of a topic for one read: its log, and its history if it has one.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) log: &'a mut Log,
    pub(super) past: Option<Past<'a>>,
}

impl Default for Owed {
    /// A reader of a topic without a history is owed nothing.
    fn default() -> Self {
        let joined = Joined::Unrecorded;
        let backlog = 0..0;
        Self { backlog, joined }
    }
}

impl Owed {
    /// A reader that does not recover, and is owed the last of the messages.
    fn present(position: Position, backlog: Range<u64>) -> Self {
        let messages = backlog.end.saturating_sub(backlog.start);
        let joined = Joined::Present { position, messages };
        Self { backlog, joined }
    }
}

impl Past<'_> {
    /// The messages that a new reader is owed.
    pub(super) fn owed(&self, start: &Start) -> Owed {
        let position = self.history.position();
        match start {
            Start::Next => Owed::present(position, self.last(0)),
            Start::Last(messages) => Owed::present(position, self.last(*messages)),
            Start::Newest => Owed::present(position, self.last(1)),
            Start::After(since) => match self.history.recover(since, self.now) {
                Ok(backlog) => {
                    let messages = backlog.end.saturating_sub(backlog.start);
                    let joined = Joined::Recovered { position, messages };
                    Owed { backlog, joined }
                }
                Err(why) => Owed {
                    backlog: self.last(0),
                    joined: Joined::NotRecovered { why, position },
                },
            },
        }
    }

    /// The offsets of so many of the newest messages, and of the end after them.
    fn last(&self, messages: u64) -> Range<u64> {
        self.history.last(messages, self.now)
    }

    fn next_of(&self, span: &Span) -> Next {
        self.history.next_of(span, self.now)
    }
}

impl Reader {
    /// Makes a reader that has read all before its cursor but for the messages of a backlog.
    pub(super) fn new(cursor: Cursor, backlog: Range<u64>, recovers: bool) -> Self {
        let catches_up = !backlog.is_empty();
        let aside = Aside {
            backlog,
            catches_up,
            recovers,
        };
        let aside = (catches_up || recovers).then(|| Box::new(aside));
        Self { cursor, aside }
    }

    /// Whether the reader has not caught up with the log since it began to recover.
    pub(super) fn catches_up(&self) -> bool {
        self.aside.as_deref().is_some_and(|aside| aside.catches_up)
    }

    /// Ends the catching up.
    fn end_catching_up(&mut self) {
        self.aside.take_if(|aside| !aside.recovers);
        if let Some(aside) = &mut self.aside {
            (aside.backlog, aside.catches_up) = (0..0, false);
        }
    }

    /// The offsets of the backlog; `None` without a backlog.
    fn offsets(&self) -> Option<&Range<u64>> {
        let backlog = self.aside.as_deref().map(|aside| &aside.backlog);
        backlog.filter(|backlog| !backlog.is_empty())
    }

    /// The number of messages of the backlog.
    pub(super) fn backlog(&self) -> u64 {
        self.offsets()
            .map_or(0, |backlog| backlog.end - backlog.start)
    }

    /// The number of messages that the reader may still receive, as far as its log knows.
    pub(super) fn unread(&self, log: &Log) -> u64 {
        let gap = if self.reads_gap() {
            log.missed(&self.cursor)
        } else {
            0
        };
        self.backlog() + gap + log.unread(&self.cursor)
    }

    /// Whether messages between the cursor and the log are read from the history.
    fn reads_gap(&self) -> bool {
        let aside = self.aside.as_deref();
        aside.is_some_and(|aside| aside.recovers || aside.catches_up)
    }

    /// Moves the reader over messages of a span.
    fn pass(&mut self, log: &Log, span: &Span, messages: u64) {
        match (span, &mut self.aside) {
            (Span::Offsets(_), Some(aside)) => aside.backlog.start += messages,
            (Span::Offsets(_), None) => {}
            (Span::Places(_), _) => log.pass(&mut self.cursor, messages),
        }
        if self.offsets().is_none() && log.missed(&self.cursor) == 0 {
            self.end_catching_up();
        }
    }
}

/// A batch of the history for a client that comes back.
fn recovered(batch: Batch) -> Batch {
    let delivery = batch.delivery().recovered();
    batch.delivered(delivery)
}

impl Source<'_> {
    /// Whether a read would return a message or a loss.
    pub(super) fn is_ready(&self, reader: &Reader) -> bool {
        reader.catches_up() || self.log.is_ready(&reader.cursor)
    }

    /// The messages that the reader is to read from the history next; `None` if it reads from the
    /// log.
    fn span(&self, reader: &Reader, amount: Amount) -> Option<Span> {
        self.past?;
        if let Some(backlog) = reader.offsets() {
            return Some(Span::Offsets(backlog.clone()));
        }
        let (start, missed) = (reader.cursor.offset(), self.log.missed(&reader.cursor));
        let is_gap = missed > 0 && reader.reads_gap();
        is_gap.then(|| Span::Places(start..amount.end(start + missed)))
    }

    /// Moves the reader past lost messages, and returns how many there were.
    pub(super) fn skip_lost(&mut self, reader: &mut Reader, amount: Amount) -> u64 {
        let mut lost = 0;
        while let (Some(span), Some(past)) = (self.span(reader, amount), self.past) {
            let next = past.next_of(&span);
            if next.lost == 0 {
                return lost;
            }
            self.log.count_lagged(next.lost);
            reader.pass(self.log, &span, next.lost);
            lost += next.lost;
        }
        lost + self.log.skip_lost(&mut reader.cursor)
    }

    /// Moves the reader over the next messages and hands them to `sink`; returns how many messages
    /// were lost before them. Stops at a further loss.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        amount: Amount,
        mut sink: impl FnMut(Batch),
    ) -> u64 {
        let lost = self.skip_lost(reader, amount);
        if self.span(reader, amount).is_none() {
            return lost + self.log.read(&mut reader.cursor, amount, sink);
        }
        let (mut bytes, mut is_first) = (0, true);
        while let Some((span, batch)) = self.next_kept(reader, amount) {
            let count = amount.of(&batch, bytes, is_first);
            if count == 0 {
                break;
            }
            let part = batch.slice(0, count);
            bytes += part.bytes();
            self.log.count_recovered(count as u64);
            reader.pass(self.log, &span, count as u64);
            if planted::is(Bug::DuplicateAtSeam) && !reader.catches_up() {
                sink(part.clone());
            }
            sink(part);
            if count < batch.len() {
                break;
            }
            is_first = false;
        }
        lost
    }

    /// The next messages that the reader reads from the history, if none is lost before them.
    fn next_kept(&self, reader: &Reader, amount: Amount) -> Option<(Span, Batch)> {
        let span = self.span(reader, amount)?;
        let next = self.past?.next_of(&span);
        let batch = next.batch.filter(|_| next.lost == 0)?;
        let batch = match span {
            Span::Offsets(_) => recovered(batch),
            Span::Places(_) => batch,
        };
        Some((span, batch))
    }

    /// Returns the newest message as a batch, and how many messages before it were lost or are
    /// skipped now; `None` without an unread message. The end of a topic comes after the newest
    /// message.
    pub(super) fn latest(&mut self, reader: &mut Reader) -> Option<(u64, Batch)> {
        let skipped = reader.backlog();
        let is_at_end = self.log.is_at_end(&reader.cursor) && self.newest_owed(reader).is_some();
        if self.log.is_ready(&reader.cursor) && !is_at_end {
            self.log.count_superseded(skipped);
            reader.end_catching_up();
            let (missed, newest) = self.log.latest(&mut reader.cursor)?;
            return Some((skipped + missed, newest));
        }
        // Lost messages wait for the next one: there is none to tell them with.
        let (end, last) = self.newest_owed(reader)?;
        let before = (last.is_end() && skipped > 1).then(|| self.owed(end - 1));
        let (superseded, batch) = match before.flatten() {
            Some(before) => (skipped - 2, before),
            None => (skipped - 1, last),
        };
        self.log.count_superseded(superseded);
        self.log.count_recovered(1);
        let all = end - skipped..end;
        reader.pass(self.log, &Span::Offsets(all), superseded + 1);
        Some((superseded, recovered(batch)))
    }

    /// The end of a reader's backlog, and the last message of it if that is still there.
    fn newest_owed(&self, reader: &Reader) -> Option<(u64, Batch)> {
        let end = reader.offsets()?.end;
        Some((end, self.owed(end)?))
    }

    /// The message of a backlog before this offset, if it is still there.
    fn owed(&self, end: u64) -> Option<Batch> {
        self.past?.next_of(&Span::Offsets(end - 1..end)).batch
    }

    /// Removes a reader from the log, and counts its unread messages.
    pub(super) fn detach(&mut self, reader: &Reader) {
        let (backlog, missed) = (reader.backlog(), self.log.missed(&reader.cursor));
        if self.log.defers() {
            self.log.count_unread(backlog);
            match reader.reads_gap() {
                true => self.log.count_unread(missed),
                false => self.log.count_lagged(missed),
            }
        }
        self.log.detach(&reader.cursor);
    }
}
