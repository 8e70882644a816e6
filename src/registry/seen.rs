//! The values of a lifecycle that an event may change.

use super::lifecycle::{Lifecycle, State};
use super::status::Status;
use super::totals::Figures;
use crate::bus::Generation;

/// A lifecycle as one event finds or leaves it.
pub(super) struct Seen {
    status: Status,
    have_all_arrived: bool,
    pub(super) state: State,
    pub(super) generation: Generation,
    pub(super) figures: Figures,
}

impl Seen {
    pub(super) fn of(lifecycle: &Lifecycle) -> Self {
        Self {
            status: Status::of(lifecycle),
            have_all_arrived: lifecycle.have_all_arrived(),
            state: lifecycle.state(),
            generation: lifecycle.generation(),
            figures: Figures::of(lifecycle),
        }
    }

    /// Whether a watcher may see a difference.
    pub(super) fn differs(&self, before: &Self) -> bool {
        (self.status, self.have_all_arrived) != (before.status, before.have_all_arrived)
    }
}
