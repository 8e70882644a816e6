//! The histories of the bus: reading, removing, bounding, and saving them.

use std::time::Duration;

use super::InMemoryMessageBus;
use crate::bus::batch::Batch;
use crate::bus::history::{
    Archive, EndError, History, HistoryCounts, HistoryError, Kept, Maker, Page, Part, Position,
    Present, Reading, Saved,
};
use crate::bus::topic::Topic;
use crate::instant::Instant;

impl InMemoryMessageBus {
    /// Reads from the history of a topic. Reading changes nothing; the history of a room that is
    /// not known is empty, with a fresh epoch that is not kept.
    ///
    /// # Errors
    ///
    /// When the topic has no history, or another one than the reader wants.
    pub fn history(&self, topic: &Topic, reading: &Reading) -> Result<Page, HistoryError> {
        let present = self.topics.archive_of(topic);
        let Present { archive, now } = present.ok_or(HistoryError::Unrecorded)?;
        let limit = reading.limit.min(archive.limits().history_read_max);
        let reading = Reading { limit, ..*reading };
        let read = |history: &History| -> Result<(Vec<Part>, Position), HistoryError> {
            let parts = history.read(&reading, now.at)?;
            Ok((parts, history.position()))
        };
        let found = self.with_history(topic, |kept| read(kept.history()));
        let (parts, position) = match found {
            Some(read) => read?,
            None => {
                let position = archive.unknown();
                reading.check(position)?;
                (Vec::new(), position)
            }
        };
        Ok(reading.page(&parts, position))
    }

    /// The position of the history of a topic; a fresh one, which is not kept, for a room that is
    /// not known. Returns `None` for a topic without a history.
    pub fn position(&self, topic: &Topic) -> Option<Position> {
        let archive = self.topics.archive_of(topic)?.archive;
        let known = self.with_history(topic, |kept| kept.history().position());
        Some(known.unwrap_or_else(|| archive.unknown()))
    }

    /// Removes all messages from the history of a topic, and returns its position, which stays.
    /// Returns `None` for a topic without a history.
    ///
    /// A client at the position still recovers; subscribers receive published messages as before.
    pub fn remove_history(&self, topic: &Topic) -> Option<Position> {
        let Present { archive, now } = self.topics.archive_of(topic)?;
        let known = self.with_history(topic, |kept| {
            kept.change(|history| history.remove(now.at));
            kept.history().position()
        });
        Some(known.unwrap_or_else(|| archive.unknown()))
    }

    /// Publishes the end of a topic, with JSON as its data, and returns its position in the
    /// history. Subscribers receive it after all messages, and the topic takes no further message
    /// as long as the position of its history is known.
    ///
    /// # Errors
    ///
    /// When the topic has no history or has ended before, or the data are not fit.
    pub fn end(&self, topic: &Topic, end: Batch, maker: &Maker) -> Result<Position, EndError> {
        self.topics.end(topic, end, maker)
    }

    /// Whether a topic has a history that has ended.
    pub fn has_ended(&self, topic: &Topic) -> bool {
        let ended = self.with_history(topic, |kept| kept.history().has_ended());
        ended.unwrap_or(false)
    }

    /// The state and the totals of all histories.
    pub fn histories(&self) -> HistoryCounts {
        let archive = self.topics.archive.as_ref();
        let mut counts = archive.map_or_else(HistoryCounts::default, Archive::counts);
        if let Some(shelf) = &self.topics.lock().shelf {
            shelf.count(&mut counts);
        }
        counts
    }

    /// Drops expired messages and forgets old positions, about `at_most` of both, and returns the
    /// instant at which there is more to do; `None` without histories.
    ///
    /// To be called again and again, by a task in the background: a message that has expired is
    /// never delivered, but its memory is freed here, or when the room is next published to.
    pub fn expire(&self, at_most: usize) -> Option<Instant> {
        let now = self.topics.archive.as_ref()?.now().at;
        let mut map = self.topics.lock();
        map.shelf.as_mut()?.expire(now, at_most, |state, at_most| {
            match state.lock().history_mut() {
                Some(kept) => {
                    let expired = kept.change(|history| history.expire(now, at_most));
                    (expired, kept.next_expiry(now))
                }
                // The last subscriber takes the history and the note of it under one lock.
                None => (0, Instant::END),
            }
        })
    }

    /// Returns all histories as plain data; takes time in proportion to their messages, and keeps
    /// others from subscribing meanwhile.
    pub fn export(&self) -> Vec<Saved> {
        let Some(archive) = &self.topics.archive else {
            return Vec::new();
        };
        let now = archive.now().at;
        let map = self.topics.lock();
        let saved = map.shelf.as_ref().map(|shelf| {
            shelf.save(now, |topic, state| {
                let guarded = state.lock();
                let kept = guarded.history()?;
                let is_live = true;
                let saved = kept.save(topic, Duration::ZERO, now);
                Some(Saved { is_live, ..saved })
            })
        });
        saved.unwrap_or_default()
    }

    /// Takes over saved histories of rooms that have none yet, and returns how many; the ages must
    /// be those of now. Bounds apply as always, and the order counts as that of the last use.
    ///
    /// Histories of kinds that keep none, and histories with more messages than their position
    /// tells, are left out.
    pub fn import(&self, all: &[Saved]) -> usize {
        let Some(archive) = &self.topics.archive else {
            return 0;
        };
        let now = archive.now();
        let mut map = self.topics.lock();
        let Some(shelf) = &mut map.shelf else {
            return 0;
        };
        let mut imported = 0;
        for saved in all {
            if !shelf.has(&saved.topic)
                && let Some(kept) = archive.restore(saved, now)
            {
                shelf.restore(saved, kept, now.at);
                shelf.make_room(&saved.maker, || archive.is_over());
                imported += 1;
            }
        }
        imported
    }

    /// Runs `run` on the history of a topic, at the topic or on the shelf; `None` if there is none.
    fn with_history<T>(&self, topic: &Topic, run: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        if let Some(state) = self.topics.find(topic)
            && let Some(kept) = state.lock().history_mut()
        {
            return Some(run(kept));
        }
        // The map stays locked: the history moves between topic and shelf under this lock only.
        let mut map = self.topics.lock();
        match map.get(topic) {
            Some(state) => state.lock().history_mut().map(run),
            None => map.shelf.as_mut()?.with(topic, run),
        }
    }
}
