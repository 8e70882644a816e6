//! The registry: the services of an application, and the leases of their clients.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc as StdArc;

use crate::bus::{Generation, MessageBus, ServiceName};
use crate::limits::LifecyclePolicy;
use crate::planted::{self, Bug};
use crate::rt::Runtime;
use crate::service::Service;
use crate::sync::{Arc, Ordering};

mod entry;
mod exit;
mod lease;
mod lifecycle;
#[cfg(all(test, feature = "loom"))]
mod models;
mod placement;
mod status;

use self::entry::Entry;
pub use self::exit::{Crash, REASON_BYTES_MAX};
pub use self::lease::Lease;
use self::lease::Watch;
// For the simulator and the fuzzers.
#[doc(hidden)]
pub use self::lifecycle::{Effect, Event, ExitKind, Lifecycle};
pub use self::lifecycle::{LifecycleCounts, Refusal, State};
pub use self::status::Status;

/// The services of an application, each started with its first client and stopped with its last.
pub struct Registry<R: Runtime> {
    services: StdArc<BTreeMap<ServiceName, Arc<Entry<R>>>>,
}

impl<R: Runtime> Clone for Registry<R> {
    fn clone(&self) -> Self {
        let services = StdArc::clone(&self.services);
        Self { services }
    }
}

/// A service as it was registered.
pub(crate) struct Registration {
    pub(crate) service: StdArc<dyn Service>,
    pub(crate) policy: LifecyclePolicy,
}

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The state of the lifecycle.
    pub state: State,
    /// The generation of the last start.
    pub generation: Generation,
    /// The number of clients, each with a lease.
    pub clients: usize,
    /// The totals of the lifecycle.
    pub counts: LifecycleCounts,
    /// The number of polls that took [`BLOCKED_AFTER`](crate::limits::BLOCKED_AFTER) or longer.
    pub blocked: u64,
}

impl ServiceStatus {
    /// Whether neither an instance nor a client is left.
    pub fn is_idle(&self) -> bool {
        self.clients == 0 && self.counts.starts == self.counts.exits
    }
}

/// The reason why a client did not get a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The service, or the whole application, takes no clients now.
    #[error("the service takes no clients now: {0:?}")]
    Refused(Refusal),
    /// No service of this name is registered.
    #[error("there is no service of this name")]
    Unknown,
}

impl<R: Runtime> Registry<R> {
    pub(crate) fn new(
        registrations: BTreeMap<ServiceName, Registration>,
        bus: &StdArc<dyn MessageBus>,
        rt: &R,
    ) -> Self {
        let entry = |(name, registration): (ServiceName, Registration)| {
            let entry = Entry::new(name.clone(), registration, bus, rt);
            (name, Arc::new(entry))
        };
        let services = registrations.into_iter().map(entry).collect();
        Self {
            services: StdArc::new(services),
        }
    }

    /// Joins a client to a service; the first client starts the service.
    ///
    /// The lease counts at once; [`Lease::poll_status`] tells whether an instance serves it yet.
    ///
    /// # Errors
    ///
    /// When there is no such service, or the service takes no clients now.
    pub fn join(&self, service: &str) -> Result<Lease<R>, JoinError> {
        let entry = self.services.get(service).ok_or(JoinError::Unknown)?;
        let since = Entry::join(entry).map_err(JoinError::Refused)?;
        Ok(Lease::new(Watch::new(Arc::clone(entry)), since))
    }

    /// The registered name equal to `service`, if there is such a service.
    pub fn name(&self, service: &str) -> Option<&ServiceName> {
        self.services.get_key_value(service).map(|(name, _)| name)
    }

    /// The names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The state of a service; `None` if there is no such service.
    pub fn status(&self, service: &str) -> Option<ServiceStatus> {
        let entry = self.services.get(service)?;
        let slot = entry.slot.lock();
        Some(ServiceStatus {
            blocked: entry.blocked.load(Ordering::Relaxed),
            state: slot.lifecycle.state(),
            generation: slot.lifecycle.generation(),
            clients: slot.lifecycle.clients(),
            counts: slot.lifecycle.counts(),
        })
    }

    /// The last abnormal end of an instance of a service, if there was one.
    pub fn last_crash(&self, service: &str) -> Option<Crash> {
        self.services.get(service)?.slot.lock().last_crash.clone()
    }

    /// Refuses every further client and asks the present clients to leave.
    pub fn drain(&self) {
        let forgotten = planted::one_more(Bug::DrainForgetsService, 0);
        for entry in self.services.values().skip(forgotten) {
            Entry::on(entry, Event::Drain);
        }
    }

    /// Waits, after [`drain`](Self::drain), until no client and no instance is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and nothing else.
    pub async fn drained(&self) {
        for entry in self.services.values() {
            let mut watch = Watch::new(Arc::clone(entry));
            poll_fn(|cx| watch.poll(cx, |lifecycle| lifecycle.is_idle().then_some(()))).await;
        }
    }
}
