//! The sums over all histories of a bus.

use super::why::Dropped;
use crate::planted::{self, Bug};
use crate::sync::{AtomicU64, Ordering};

/// The state and the totals of all histories of a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryCounts {
    /// Histories of rooms with a subscriber.
    pub live: usize,
    /// Histories of rooms without a subscriber, and positions left of such histories.
    pub shelved: usize,
    /// Bytes of memory for which the kept messages count.
    pub bytes: u64,
    /// Messages that were dropped.
    pub dropped: Dropped,
    /// Positions that were forgotten, each with the rest of its messages.
    pub forgotten: u64,
}

/// The sums over all histories, changed without a lock.
#[derive(Debug)]
pub(super) struct Ledger {
    bytes_max: u64,
    bytes: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    removed: AtomicU64,
}

impl Ledger {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            removed: AtomicU64::new(0),
        }
    }

    // All sums are relaxed: each is changed by its own amount under the lock of a history. A thread
    // that sees the bytes of another one late drops messages late, or a few too many.

    /// Counts a history with `before` bytes as one with `after` bytes.
    pub(super) fn change_bytes(&self, before: usize, after: usize) {
        if after > before {
            let more = (after - before) as u64;
            self.bytes.fetch_add(more, Ordering::Relaxed);
        } else if before > after {
            let less = (before - after) as u64;
            self.bytes.fetch_sub(less, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, dropped: Dropped) {
        for (sum, count) in [
            (&self.evicted, dropped.evicted),
            (&self.expired, dropped.expired),
            (&self.removed, dropped.removed),
        ] {
            if count > 0 {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Whether all histories together keep more bytes than they may.
    pub(super) fn is_over(&self) -> bool {
        self.bytes() > self.bytes_max && !planted::is(Bug::HistoryBoundForgotten)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> Dropped {
        Dropped {
            evicted: self.evicted.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            removed: self.removed.load(Ordering::Relaxed),
        }
    }
}
