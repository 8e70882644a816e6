//! The totals of all rooms of a kind, over their removal.

use super::lifecycle::{Lifecycle, LifecycleCounts};
use crate::sync::{Ordering, Sum};

/// Sums of the counts of all rooms of a kind, present and removed.
///
/// Each room adds its changes under its own lock. Relaxed is enough: readers add up figures that
/// change meanwhile.
#[derive(Debug, Default)]
pub(super) struct Totals {
    clients: Sum,
    starts: Sum,
    exits: Sum,
    crashes: Sum,
    aborts: Sum,
    stale: Sum,
    refused: Sum,
    /// The number of polls that kept the thread from other tasks for too long.
    pub(super) blocked: Sum,
}

/// The figures of one lifecycle at one time.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    clients: usize,
    counts: LifecycleCounts,
}

impl Figures {
    pub(super) fn of(lifecycle: &Lifecycle) -> Self {
        Self {
            clients: lifecycle.clients(),
            counts: lifecycle.counts(),
        }
    }
}

fn add(total: &Sum, before: u64, after: u64) {
    if before != after {
        // A smaller value wraps around, which adds a negative difference.
        total.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Totals {
    /// Adds the difference between two figures of one lifecycle.
    pub(super) fn add(&self, before: Figures, after: Figures) {
        add(&self.clients, before.clients as u64, after.clients as u64);
        let (before, after) = (before.counts, after.counts);
        add(&self.starts, before.starts, after.starts);
        add(&self.exits, before.exits, after.exits);
        add(&self.crashes, before.crashes, after.crashes);
        add(&self.aborts, before.aborts, after.aborts);
        add(&self.stale, before.stale, after.stale);
        add(&self.refused, before.refused, after.refused);
    }

    /// Counts a client that was refused before there was a room for it.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> LifecycleCounts {
        let load = |total: &Sum| total.load(Ordering::Relaxed);
        LifecycleCounts {
            starts: load(&self.starts),
            exits: load(&self.exits),
            crashes: load(&self.crashes),
            aborts: load(&self.aborts),
            stale: load(&self.stale),
            refused: load(&self.refused),
        }
    }
}
