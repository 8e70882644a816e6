//! The invariants of a lifecycle, checked after every event.

use super::{Lifecycle, State};
use crate::planted::{self, Bug};

impl Lifecycle {
    /// Checks the lifecycle after an event; `numbered_after` is the value from before the event.
    pub(super) fn check(&self, numbered_after: u64) {
        self.check_instances(numbered_after);
        self.check_clients();
        let max = self.policy.crashes_max.get() as usize;
        assert!(
            planted::is(Bug::CrashTolerated) || self.crashes.len() < max,
            "the service keeps {} crashes in its window, but fails after {max}",
            self.crashes.len(),
        );
    }

    /// The number of the last instance before this lifecycle's first one: 0, or that of an earlier
    /// room.
    pub(super) fn numbered_after(&self) -> u64 {
        self.generation.number().wrapping_sub(self.counts.starts)
    }

    fn check_instances(&self, numbered_after: u64) {
        let counts = &self.counts;
        assert!(
            counts.starts == counts.exits + u64::from(self.has_instance()),
            "the service has started {} instances and {} have ended, but it is {:?}",
            counts.starts,
            counts.exits,
            self.state,
        );
        assert!(
            numbered_after.wrapping_add(counts.starts) == self.generation.number(),
            "the service has started {} instances after number {numbered_after}, but the last one \
             has number {}",
            counts.starts,
            self.generation,
        );
        assert!(
            counts.crashes <= counts.exits,
            "the service counts {} crashes, but only {} of its instances have ended",
            counts.crashes,
            counts.exits,
        );
    }

    fn check_clients(&self) {
        let (clients, arrived) = (self.clients, self.arrived);
        assert!(
            planted::is(Bug::LeaseReleasedTwice) || arrived <= clients,
            "the service has {clients} clients, but {arrived} of them have arrived"
        );
        match self.state {
            State::Running => assert!(clients > 0, "the service runs, but has no client"),
            State::Stopped => assert!(
                clients == 0,
                "the service is stopped, but has {clients} clients"
            ),
            State::Lingering { .. } => {
                assert!(
                    clients == 0,
                    "the service lingers, but has {clients} clients"
                );
                assert!(
                    !self.draining,
                    "the service lingers, but the application stops"
                );
            }
            State::Backoff { .. } | State::Failed { .. } | State::Stopping { .. } => {}
        }
    }
}
