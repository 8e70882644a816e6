//! Histories as plain data, for a file that outlives the process.

use std::sync::Arc as StdArc;
use std::time::{Duration, SystemTime};

use super::History;
use super::entry::{Appended, Entry, remembered};
use super::maker::Maker;
use super::moment::Moment;
use super::position::{Epoch, Position};
use super::why::Cause;
use crate::bus::batch::Batch;
use crate::bus::delivery::Delivery;
use crate::bus::topic::Topic;
use crate::instant::Instant;
use crate::limits::Retention;
use crate::planted::{self, Bug};

/// A history as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The topic of the room's messages to all clients.
    pub topic: Topic,
    /// The epoch and the offset of the newest message ever taken.
    pub position: Position,
    /// The cause of the newest dropped message; of no importance if none was dropped.
    pub cause: Cause,
    /// The maker.
    pub maker: Maker,
    /// Whether the room has a subscriber: messages may come to it after the moment of saving.
    pub is_live: bool,
    /// The time since the last use; zero while the room has a subscriber.
    pub unused: Duration,
    /// The kept messages, the oldest first; they end at the position.
    pub batches: Vec<SavedBatch>,
}

/// A record batch of a history as plain data. Its messages have one sender, of whom a history knows
/// the number, the subject and the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedBatch {
    /// The messages.
    pub batch: Batch,
    /// The time since the publish.
    pub age: Duration,
    /// The date and time of the publish.
    pub at: SystemTime,
}

impl History {
    /// Returns the history as plain data, without messages that have expired.
    pub(super) fn save(&self, now: Instant) -> (Cause, Vec<SavedBatch>) {
        let (served, cause) = self.served_from(now);
        let fresh = self.entries.iter();
        let fresh = fresh.filter(|entry| entry.first() >= served);
        let now = self.millis(now);
        let batches = fresh.map(|entry| SavedBatch {
            batch: entry.batch(),
            age: Duration::from_millis(now.saturating_sub(entry.at)),
            at: entry.wall(),
        });
        (cause, batches.collect())
    }
}

impl Saved {
    /// Makes the history again; `None` if it has more messages than its position tells.
    ///
    /// The ages count on from `now`: add the time since they were saved before.
    pub(super) fn restore(&self, retention: &StdArc<Retention>, now: Moment) -> Option<History> {
        let Position { epoch, offset: top } = self.position;
        let changed = u64::from(planted::is(Bug::EpochChangedByRestart));
        let epoch = Epoch::from_bits(epoch.bits() ^ changed);
        let mut history = History::new(epoch, retention, now.at);
        let ages = self.batches.iter().map(|saved| super::millis(saved.age));
        history.base = ages.max().unwrap_or(0);
        let count: u64 = self
            .batches
            .iter()
            .map(|saved| saved.batch.len() as u64)
            .sum();
        let mut first = top.checked_sub(count)? + 1;
        for saved in &self.batches {
            let last = history.entries.back();
            let last_at = last.map_or(0, |entry| entry.at);
            let label = remembered(saved.batch.label(), last.map(Entry::origin));
            let mut batch = saved.batch.clone();
            if planted::is(Bug::EndForgotten) {
                batch = batch.delivered(Delivery::Everyone);
            }
            batch.set_offset(first);
            let at = (history.base - super::millis(saved.age)).max(last_at);
            let wall = saved.at;
            let entry = Entry::new(&batch, label, 0, Appended { at, wall });
            first = entry.end();
            history.bytes += entry.bytes;
            history.entries.push_back(entry);
        }
        (history.top, history.cause) = (top, self.cause);
        if planted::is(Bug::RestartLosesNewest)
            && let Some(last) = history.entries.pop_back()
        {
            history.bytes -= last.bytes;
            history.top = last.first() - 1;
        }
        history.trim(now.at);
        Some(history)
    }
}
