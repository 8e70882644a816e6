//! An application: a bus, a registry of services, and the limits and counters they share.

use std::collections::BTreeMap;
use std::sync::Arc as StdArc;

use crate::bus::{BusCounts, ClientId, InMemoryMessageBus, MessageBus, NameError, ServiceName};
use crate::limits::{LifecyclePolicy, Limits, SlowConsumer};
use crate::metrics::{Metrics, SessionCounts};
use crate::permits::{Permit, Permits};
use crate::registry::{Registration, Registry};
use crate::rt::Runtime;
use crate::service::Service;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Services on a bus, ready to take clients; clones are handles on the same application.
pub struct App<R: Runtime> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Runtime> {
    rt: R,
    limits: Limits,
    slow_consumer: SlowConsumer,
    bus: InMemoryMessageBus,
    registry: Registry<R>,
    metrics: Metrics,
    next_client: AtomicU64,
    permits: Permits,
}

/// The parts of an [`App`], before it takes clients.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<R: Runtime> {
    rt: R,
    limits: Limits,
    lifecycle: LifecyclePolicy,
    slow_consumer: SlowConsumer,
    services: BTreeMap<ServiceName, StdArc<dyn Service>>,
}

/// Why a service could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is no name of a service.
    #[error("`{name}` is no name for a service: {error}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// There is a service of this name.
    #[error("there already is a service `{0}`")]
    Duplicate(ServiceName),
    /// There are as many services as there may be.
    #[error("there already are {max} services, the most there may be; raise `Limits::services`")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// What an application has done and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Of the bus.
    pub bus: BusCounts,
    /// Of the sessions.
    pub sessions: SessionCounts,
    /// Sessions there are.
    pub sessions_open: usize,
}

impl<R: Runtime> App<R> {
    /// Starts an application without services on this runtime.
    pub fn builder(rt: R) -> Builder<R> {
        Builder {
            rt,
            limits: Limits::default(),
            lifecycle: LifecyclePolicy::default(),
            slow_consumer: SlowConsumer::default(),
            services: BTreeMap::new(),
        }
    }

    /// The bus its services and clients meet on.
    pub fn bus(&self) -> &InMemoryMessageBus {
        &self.inner.bus
    }

    /// Its services.
    pub fn registry(&self) -> &Registry<R> {
        &self.inner.registry
    }

    /// Its bounds.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The runtime it runs on.
    pub fn rt(&self) -> &R {
        &self.inner.rt
    }

    /// What it has done and holds; takes time in proportion to the number of topics.
    pub fn counts(&self) -> Counts {
        Counts {
            bus: self.inner.bus.counts(),
            sessions: self.inner.metrics.counts(),
            sessions_open: self.sessions_open(),
        }
    }

    /// Sessions there are, and clients admitted that will have one.
    pub fn sessions_open(&self) -> usize {
        self.inner.permits.taken()
    }

    /// Sessions that have ended.
    pub fn sessions_closed(&self) -> u64 {
        self.inner.metrics.counts().closed
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn slow_consumer(&self) -> SlowConsumer {
        self.inner.slow_consumer
    }

    pub(crate) fn next_client(&self) -> ClientId {
        // The number need only be unique.
        ClientId::new(self.inner.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// The right to one more session, unless all are taken.
    pub(crate) fn permit(&self) -> Option<Permit> {
        self.inner.permits.take()
    }

    /// Refuses every further client and asks those there are to leave; see
    /// [`drained`](Self::drained).
    pub fn drain(&self) {
        self.registry().drain();
    }

    /// Waits, after [`drain`](Self::drain), until no session and no instance of a service is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and nothing else.
    pub async fn drained(&self) {
        self.registry().drained().await;
        self.inner.permits.all_returned().await;
    }
}

impl<R: Runtime> Clone for App<R> {
    fn clone(&self) -> Self {
        let inner = Arc::clone(&self.inner);
        Self { inner }
    }
}

impl<R: Runtime> Builder<R> {
    /// Registers a service at `/ws/<name>`.
    ///
    /// # Errors
    ///
    /// When the name is no [`ServiceName`] or is taken, or there are too many services.
    pub fn service(mut self, name: &str, service: impl Service) -> Result<Self, RegisterError> {
        let parsed = name.parse().map_err(|error| {
            let name = name.to_owned();
            RegisterError::BadName { name, error }
        });
        let name: ServiceName = parsed?;
        let max = self.limits.services;
        if self.services.contains_key(&name) {
            return Err(RegisterError::Duplicate(name));
        }
        if self.services.len() >= max {
            return Err(RegisterError::TooMany { max });
        }
        self.services.insert(name, StdArc::new(service));
        Ok(self)
    }

    /// Replaces the default limits; before the first service, as they bound the number of those.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the default way in which services are started, stopped and given up.
    pub fn lifecycle(mut self, policy: LifecyclePolicy) -> Self {
        self.lifecycle = policy;
        self
    }

    /// Replaces what happens to clients that read too slowly.
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = policy;
        self
    }

    /// The application, ready to take clients.
    pub fn build(self) -> App<R> {
        let bus = InMemoryMessageBus::new(self.limits.window, self.limits.topics);
        let policy = self.lifecycle;
        let register = |(name, service)| {
            let policy = policy.clone();
            (name, Registration { service, policy })
        };
        let registrations = self.services.into_iter().map(register).collect();
        let shared: StdArc<dyn MessageBus> = StdArc::new(bus.clone());
        let registry = Registry::new(registrations, &shared, &self.rt);
        App {
            inner: Arc::new(Inner {
                rt: self.rt,
                slow_consumer: self.slow_consumer,
                bus,
                registry,
                metrics: Metrics::default(),
                next_client: AtomicU64::new(1),
                permits: Permits::new(self.limits.sessions),
                limits: self.limits,
            }),
        }
    }
}
