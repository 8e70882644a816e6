//! The registry: which services there are, and the leases of their clients.

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

use self::entry::Entry;
pub use self::exit::{Crash, REASON_BYTES_MAX};
use self::lease::Watch;
pub use self::lease::{Lease, Status};
// For the simulator and the fuzzers.
#[doc(hidden)]
pub use self::lifecycle::{Effect, Event, ExitKind, Lifecycle};
pub use self::lifecycle::{LifecycleCounts, Refusal, State};

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

/// What one service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Where it is in its life.
    pub state: State,
    /// The generation of its last start.
    pub generation: Generation,
    /// Its clients: the leases there are.
    pub clients: usize,
    /// What its lifecycle has done.
    pub counts: LifecycleCounts,
    /// How often it went on for [`BLOCKED_AFTER`](crate::limits::BLOCKED_AFTER) without a wait.
    pub blocked: u64,
}

impl ServiceStatus {
    /// Whether neither an instance nor a client is left.
    pub fn is_idle(&self) -> bool {
        self.clients == 0 && self.counts.starts == self.counts.exits
    }
}

/// Why a client did not get a lease.
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

    /// Joins a client to a service and starts the service if it is the first.
    ///
    /// The lease counts at once; whether an instance serves it yet, [`Lease::poll_status`] tells.
    ///
    /// # Errors
    ///
    /// When there is no such service, or it takes no clients now.
    pub fn join(&self, service: &str) -> Result<Lease<R>, JoinError> {
        let entry = self.services.get(service).ok_or(JoinError::Unknown)?;
        let since = Entry::join(entry).map_err(JoinError::Refused)?;
        Ok(Lease::new(Watch::new(Arc::clone(entry)), since))
    }

    /// The service of this name, if there is one.
    pub fn name(&self, service: &str) -> Option<&ServiceName> {
        self.services.get_key_value(service).map(|(name, _)| name)
    }

    /// The names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// What a service is doing; `None` if there is no such service.
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

    /// How the last instance of a service ended that did not end well, if one has.
    pub fn last_crash(&self, service: &str) -> Option<Crash> {
        self.services.get(service)?.slot.lock().last_crash.clone()
    }

    /// Refuses every further client and asks those there are to leave.
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
