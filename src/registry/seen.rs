//! The values of a lifecycle that an event may change.

use tracing::{debug, error, warn};

use super::lifecycle::{Lifecycle, State};
use super::status::Status;
use super::totals::Figures;
use crate::bus::{Generation, Room};
use crate::rt::Instant;

/// A lifecycle as one event finds or leaves it.
pub(super) struct Seen {
    status: Status,
    have_all_arrived: bool,
    state: State,
    generation: Generation,
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

    /// Logs the state that an event at `now` has led to, if the event has changed it.
    pub(super) fn log_change(&self, before: &Self, service: &Room, now: Instant) {
        let is_same = (self.state, self.generation) == (before.state, before.generation);
        // A client that joins a lingering service starts nothing, which is not worth a line.
        let goes_on = (self.state, self.generation) == (State::Running, before.generation);
        if !is_same && !goes_on {
            self.log(service, now);
        }
    }

    fn log(&self, service: &Room, now: Instant) {
        let generation = self.generation;
        match self.state {
            State::Backoff { until } => {
                let wait = until.saturating_since(now);
                warn!(%service, ?wait, "service crashed, it is started again after a wait");
            }
            State::Failed { until } => {
                let wait = until.saturating_since(now);
                error!(%service, ?wait, "service failed, it takes no clients for a while");
            }
            State::Lingering { .. } => debug!(%service, %generation, "service lingers"),
            State::Running => debug!(%service, %generation, "service started"),
            State::Stopped => debug!(%service, %generation, "service stopped"),
            State::Stopping { until: Some(_) } => {
                debug!(%service, %generation, "service stops");
            }
            State::Stopping { until: None } => {
                warn!(%service, %generation, "service did not return in its grace, it is aborted");
            }
        }
    }
}
