//! Reading a history: what is left of it, in either direction.

use std::time::SystemTime;

use super::History;
use super::position::{Position, Since};
use crate::bus::batch::Batch;
use crate::bus::message::Message;
use crate::instant::Instant;

/// The part of a history that is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The position to begin at: the messages after it, or before it in the reverse direction.
    /// `None` for the oldest message, or for the newest in the reverse direction.
    pub since: Option<Since>,
    /// The most messages; 0 to read the position alone.
    pub limit: usize,
    /// Whether the newest message comes first.
    pub reverse: bool,
}

/// A message of a history, which has its [`offset`](Message::offset).
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The message.
    pub message: Message,
    /// The date and time at which the message was published.
    pub at: SystemTime,
    /// Whether the message is the data of the end of the stream, as JSON.
    pub is_end: bool,
}

/// The messages that a reading found, and the present position.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The messages, in the order that was asked for.
    pub messages: Vec<Recorded>,
    /// The present position of the history.
    pub position: Position,
}

/// The reason why a history could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The topic has no history.
    #[error("the topic has no history")]
    Unrecorded,
    /// The history has another epoch than the reader wants.
    #[error("the history has begun anew: its position is {present}")]
    WrongEpoch {
        /// The present position.
        present: Position,
    },
}

/// A part of a batch of a history, with the date and time of its publish.
#[derive(Clone, Debug)]
pub(in crate::bus) struct Part {
    pub(in crate::bus) batch: Batch,
    pub(in crate::bus) at: SystemTime,
}

impl Part {
    /// The messages, the oldest first.
    fn messages(&self) -> impl Iterator<Item = Recorded> {
        let (at, is_end) = (self.at, self.batch.is_end());
        let messages = self.batch.messages();
        messages.map(move |message| Recorded {
            message,
            at,
            is_end,
        })
    }
}

impl Reading {
    /// Checks that the reader wants this history.
    ///
    /// # Errors
    ///
    /// When the reader wants another epoch.
    pub(in crate::bus) fn check(&self, present: Position) -> Result<(), HistoryError> {
        let matches = self.since.is_none_or(|since| since.matches(present.epoch));
        let refused = HistoryError::WrongEpoch { present };
        matches.then_some(()).ok_or(refused)
    }

    /// Takes the parts apart, in the order of the reading: to be done without a lock.
    pub(in crate::bus) fn page(&self, parts: &[Part], position: Position) -> Page {
        let mut messages: Vec<_> = parts.iter().flat_map(Part::messages).collect();
        if self.reverse {
            messages.reverse();
        }
        Page { messages, position }
    }
}

impl History {
    /// Reads messages; the parts are in the order of their offsets in either direction.
    ///
    /// # Errors
    ///
    /// When the reader wants another epoch.
    pub(in crate::bus) fn read(
        &self,
        reading: &Reading,
        now: Instant,
    ) -> Result<Vec<Part>, HistoryError> {
        reading.check(self.position())?;
        let (served, _cause) = self.served_from(now);
        let limit = reading.limit as u64;
        let (first, end) = match (reading.since, reading.reverse) {
            (None, _) => (served, self.top + 1),
            (Some(since), false) => (since.offset.saturating_add(1).max(served), self.top + 1),
            (Some(since), true) => (served, since.offset.min(self.top + 1)),
        };
        let count = end.saturating_sub(first).min(limit);
        let first = if reading.reverse { end - count } else { first };
        Ok(self.parts(first, count))
    }

    /// The parts with `count` messages from the offset `first` on, which are all there.
    fn parts(&self, first: u64, count: u64) -> Vec<Part> {
        if count == 0 {
            return Vec::new();
        }
        let end = first + count;
        let index = self.entries.partition_point(|entry| entry.end() <= first);
        let entries = self.entries.iter().skip(index);
        let entries = entries.take_while(|entry| entry.first() < end);
        let parts = entries.map(|entry| {
            let from = first.saturating_sub(entry.first());
            let until = entry.len().min(end - entry.first());
            let [from, count] =
                [from, until - from].map(|n| usize::try_from(n).expect("a part of a batch"));
            let batch = entry.slice(from, count);
            let at = entry.wall();
            Part { batch, at }
        });
        parts.collect()
    }
}
