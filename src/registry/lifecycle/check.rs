//! The invariants of a lifecycle, checked after every event.

use super::{Lifecycle, State};
use crate::planted::{self, Bug};

impl Lifecycle {
    pub(super) fn check(&self) {
        self.check_instances();
        self.check_clients();
        let max = self.policy.crashes_max.get() as usize;
        assert!(
            planted::is(Bug::CrashTolerated) || self.crashes.len() < max,
            "the service keeps {} crashes in its window, but fails after {max}",
            self.crashes.len(),
        );
    }

    fn check_instances(&self) {
        let counts = &self.counts;
        assert!(
            counts.starts == counts.exits + u64::from(self.has_instance()),
            "the service has started {} instances and {} have ended, but it is {:?}",
            counts.starts,
            counts.exits,
            self.state,
        );
        assert!(
            counts.starts == self.generation.number(),
            "the service has started {} instances, but the last one has number {}",
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
