//! A history with its maker, counted in the sums over all histories.

use std::time::Duration;

use super::History;
use super::ledger::Ledger;
use super::maker::Maker;
use super::moment::Moment;
use super::position::Position;
use super::saved::Saved;
use super::why::Dropped;
use crate::bus::batch::Batch;
use crate::bus::topic::Topic;
use crate::instant::Instant;
use crate::sync::Arc;

/// A history with its maker. Each change is counted in the sums over all histories, and so is the
/// end of the history.
#[derive(Debug)]
pub(in crate::bus) struct Kept {
    history: History,
    maker: Maker,
    /// The last publish, or the last leave of a subscriber that was more than provisional; `None`
    /// before the first.
    used: Option<Instant>,
    /// The bytes for which the sums count the history.
    counted: usize,
    ledger: Arc<Ledger>,
}

impl Kept {
    pub(super) fn new(history: History, maker: &Maker, ledger: &Arc<Ledger>) -> Self {
        let mut kept = Self {
            history,
            maker: maker.key(),
            used: None,
            counted: 0,
            ledger: Arc::clone(ledger),
        };
        kept.change(|_new| ());
        kept
    }

    pub(in crate::bus) fn history(&self) -> &History {
        &self.history
    }

    pub(in crate::bus) fn maker(&self) -> &Maker {
        &self.maker
    }

    /// The last use; `None` for a history that was never used.
    pub(super) fn used(&self) -> Option<Instant> {
        self.used
    }

    /// Notes a use.
    pub(in crate::bus) fn note_use(&mut self, now: Instant) {
        self.used = Some(now);
    }

    /// Changes the history, and counts its bytes and its dropped messages.
    pub(in crate::bus) fn change<T>(&mut self, change: impl FnOnce(&mut History) -> T) -> T {
        let result = change(&mut self.history);
        let bytes = self.history.bytes();
        self.ledger.change_bytes(self.counted, bytes);
        self.counted = bytes;
        let dropped = self.history.take_dropped();
        if dropped != Dropped::default() {
            self.ledger.count(dropped);
        }
        result
    }

    /// Appends to the history, and returns the position of the last message; `None` if the history
    /// did not take the messages. See [`History::append`].
    pub(in crate::bus) fn append(
        &mut self,
        batch: &mut Batch,
        place: u64,
        now: Moment,
    ) -> Option<Position> {
        if batch.is_live() {
            return None;
        }
        self.change(|history| history.append(batch, place, now));
        self.note_use(now.at);
        Some(self.history.position())
    }

    /// The earliest instant at which a message may expire, of those that are kept or come yet.
    pub(in crate::bus) fn next_expiry(&self, now: Instant) -> Instant {
        let expiry = self.history.next_expiry();
        expiry.unwrap_or_else(|| now + self.history.ttl())
    }

    /// Returns the history as plain data.
    pub(in crate::bus) fn save(&self, topic: &Topic, unused: Duration, now: Instant) -> Saved {
        let (cause, batches) = self.history.save(now);
        Saved {
            topic: topic.clone(),
            position: self.history.position(),
            cause,
            maker: self.maker.clone(),
            is_live: false,
            unused,
            batches,
        }
    }

    /// Drops the oldest messages until all histories together keep no more bytes than they may, or
    /// until none is left.
    pub(in crate::bus) fn make_room(&mut self) {
        while self.ledger.is_over() && self.change(History::evict_oldest) {}
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ledger.change_bytes(self.counted, 0);
    }
}
