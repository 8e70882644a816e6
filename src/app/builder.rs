//! The builder of an application: its services and policies, before it takes clients.

use std::collections::BTreeMap;
use std::sync::Arc as StdArc;

use super::calls::Api;
use super::histories;
use super::{App, Figure, Inner, Policies};
use crate::admission::authorize::{Anyone, Authorize};
use crate::admission::backlog::Backlog;
use crate::admission::directory::Directory;
use crate::admission::permits::{Bounds, Permits};
use crate::bus::{MessageBus, NameError, ServiceName};
use crate::caller::{Callers, Keys};
use crate::client::host::Hosts;
use crate::client::origin::Origins;
use crate::fan_out::FanOuts;
use crate::limits::{LifecyclePolicy, Limits, RelayPolicy, ServicePolicy, SlowConsumer};
use crate::metrics::Metrics;
#[cfg(feature = "server")]
use crate::refusal::Refusals;
use crate::registry::{Registration, Registry, RoomBounds};
use crate::rt::Runtime;
use crate::service::Service;
use crate::shards::Shards;
#[cfg(feature = "server")]
use crate::sync::Cancelled;
use crate::sync::{Arc, AtomicU64, Mutex};
use crate::wire::Deflater;

/// The parts of an [`App`], before it takes clients.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<R: Runtime> {
    rt: R,
    limits: Limits,
    policy: ServicePolicy,
    services: BTreeMap<ServiceName, Registered>,
    origins: Origins,
    hosts: Hosts,
    query_token: bool,
    api_keys: Keys,
    api_is_public: bool,
    default_kind: Option<String>,
    authorize: StdArc<dyn Authorize>,
    log_lines_dropped: Figure,
}

/// A service or a kind of rooms, before the application is built.
struct Registered {
    /// `None` for a relay.
    service: Option<StdArc<dyn Service>>,
    /// `None` for the default policy.
    policy: Option<ServicePolicy>,
    has_rooms: bool,
}

/// The reason why a service could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is no name of a service.
    #[error("`{name}` is no name for a service: {error}")]
    BadName {
        /// The given name.
        name: String,
        /// The fault of the name.
        error: NameError,
    },
    /// The policy contradicts itself.
    #[error("the policy of `{name}` has a fault: {fault}")]
    BadPolicy {
        /// The name of the service.
        name: ServiceName,
        /// The fault.
        fault: &'static str,
    },
    /// The application already has a service of this name.
    #[error("there already is a service `{0}`")]
    Duplicate(ServiceName),
    /// The application already has as many services as its limit allows.
    #[error("there already are {max} services, the most there may be; raise `Limits::services`")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

impl<R: Runtime> Builder<R> {
    pub(super) fn new(rt: R) -> Self {
        Self {
            rt,
            limits: Limits::default(),
            policy: ServicePolicy::default(),
            services: BTreeMap::new(),
            origins: Origins::default(),
            hosts: Hosts::default(),
            query_token: true,
            api_keys: Keys::default(),
            api_is_public: false,
            default_kind: None,
            authorize: StdArc::new(Anyone),
            log_lines_dropped: StdArc::new(|| 0),
        }
    }

    /// Registers a service at `/ws/<name>`, with the default policy.
    ///
    /// # Errors
    ///
    /// When the name is no [`ServiceName`] or is taken, or there are too many services.
    pub fn service(self, name: &str, service: impl Service) -> Result<Self, RegisterError> {
        self.register(
            name,
            Registered {
                service: Some(StdArc::new(service)),
                policy: None,
                has_rooms: false,
            },
        )
    }

    /// Registers a service at `/ws/<name>`, with a policy of its own.
    ///
    /// # Errors
    ///
    /// The errors of [`service`](Self::service).
    pub fn service_with(
        self,
        name: &str,
        service: impl Service,
        policy: ServicePolicy,
    ) -> Result<Self, RegisterError> {
        self.register(
            name,
            Registered {
                service: Some(StdArc::new(service)),
                policy: Some(policy),
                has_rooms: false,
            },
        )
    }

    /// Registers a kind of rooms: clients reach the room `<key>` at `/ws/<name>/<key>`, and each
    /// room has an instance of the service of its own, with the policy of
    /// [`ServicePolicy::of_rooms`].
    ///
    /// A room is made by its first client and removed once it is over: when its last client has
    /// left, its linger has passed and its instance has returned. A service learns its key from
    /// [`Context::key`](crate::Context::key).
    ///
    /// ```
    /// use busline::rt::Tokio;
    /// use busline::{App, Context};
    ///
    /// async fn chat(mut ctx: Context) {
    ///     while let Some(message) = ctx.recv().await {
    ///         ctx.publish(message);
    ///     }
    /// }
    ///
    /// # fn check() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = App::builder(Tokio::current()).room("chat", chat)?.build();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`service`](Self::service).
    pub fn room(self, name: &str, service: impl Service) -> Result<Self, RegisterError> {
        self.room_with(name, service, ServicePolicy::of_rooms())
    }

    /// Registers a kind of rooms with a policy of its own; see [`room`](Self::room).
    ///
    /// # Errors
    ///
    /// The errors of [`service`](Self::service).
    pub fn room_with(
        self,
        name: &str,
        service: impl Service,
        policy: ServicePolicy,
    ) -> Result<Self, RegisterError> {
        self.register(
            name,
            Registered {
                service: Some(StdArc::new(service)),
                policy: Some(policy),
                has_rooms: true,
            },
        )
    }

    /// Registers a kind of rooms without a service: the messages of each client go to all clients
    /// of its room, by these rules. [`App::room`](super::App::room) reaches them, too.
    ///
    /// # Errors
    ///
    /// The errors of [`service`](Self::service).
    pub fn relay(self, name: &str, relay: RelayPolicy) -> Result<Self, RegisterError> {
        self.relay_with(name, ServicePolicy::of_relay(relay))
    }

    /// Registers a relay with a policy of its own; see [`relay`](Self::relay).
    ///
    /// # Errors
    ///
    /// The errors of [`service`](Self::service).
    pub fn relay_with(self, name: &str, policy: ServicePolicy) -> Result<Self, RegisterError> {
        let relay = Some(policy.relay.unwrap_or_default());
        let policy = Some(ServicePolicy { relay, ..policy });
        self.register(
            name,
            Registered {
                service: None,
                policy,
                has_rooms: true,
            },
        )
    }

    fn register(mut self, name: &str, registered: Registered) -> Result<Self, RegisterError> {
        let parsed = name.parse().map_err(|error| {
            let name = name.to_owned();
            RegisterError::BadName { name, error }
        });
        let name: ServiceName = parsed?;
        let max = self.limits.services;
        let fault = registered.policy.as_ref().and_then(ServicePolicy::fault);
        if let Some(fault) = fault {
            return Err(RegisterError::BadPolicy { name, fault });
        }
        if self.services.contains_key(&name) {
            return Err(RegisterError::Duplicate(name));
        }
        if self.services.len() >= max {
            return Err(RegisterError::TooMany { max });
        }
        self.services.insert(name, registered);
        Ok(self)
    }

    /// Replaces the default limits; to be called before the first service is registered.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the default policy for the start, stop and failure of services.
    pub fn lifecycle(mut self, policy: LifecyclePolicy) -> Self {
        self.policy.lifecycle = policy;
        self
    }

    /// Replaces the default treatment of clients that read too slowly.
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.policy.slow_consumer = policy;
        self
    }

    /// Lets pages of other hosts connect; by default only pages of the server's own host may.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Accepts requests that name further hosts.
    ///
    /// A page of a foreign host whose name resolves to this machine (DNS rebinding) looks like a
    /// page of the server's own. A client over loopback may therefore name only `localhost`, a name
    /// below it, a loopback address, a host of [`origins`](Self::origins), or a host of this list;
    /// a request for any other host is answered 421. `server::serve_admin` and
    /// `server::serve_probes` accept every IP address, names that mean loopback, and the hosts of
    /// this list.
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Whether a client may show its token in the query, as `?token=`; by default it may.
    ///
    /// An `EventSource` of a browser can show it nowhere else. A proxy may log the query.
    pub fn query_token(mut self, is_allowed: bool) -> Self {
        self.query_token = is_allowed;
        self
    }

    /// Lets callers with these keys use the API, on the operators' listener; by default nobody may.
    ///
    /// Without a key here the application keeps no directory of its clients, so that keys that
    /// [`App::replace_policies`] brings later act on rooms, but find no client to disconnect.
    pub fn api_keys(mut self, keys: Keys) -> Self {
        self.api_keys = keys;
        self
    }

    /// Serves the API on the listeners of clients, too.
    pub fn api_public(mut self, is_public: bool) -> Self {
        self.api_is_public = is_public;
        self
    }

    /// Sets the kind of the rooms that callers name without a kind; by default they name none. No
    /// other name reaches rooms of this kind over the API.
    pub fn default_kind(mut self, kind: &str) -> Self {
        self.default_kind = Some(kind.to_owned());
        self
    }

    /// Sets the decision which clients may join; by default every client may.
    pub fn authorize(mut self, authorize: impl Authorize) -> Self {
        self.authorize = StdArc::new(authorize);
        self
    }

    /// Sets the source of [`Counts::log_lines_dropped`](super::Counts::log_lines_dropped), also
    /// shown by `/metrics`; by default 0.
    ///
    /// The application writes no log itself: only the program knows where its lines go.
    pub fn log_lines_dropped(mut self, figure: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.log_lines_dropped = StdArc::new(figure);
        self
    }

    /// Makes the application, ready to take clients.
    pub fn build(self) -> App<R> {
        let mut registrations = BTreeMap::new();
        let mut policies = BTreeMap::new();
        for (name, registered) in self.services {
            let own = registered.policy.unwrap_or_else(|| self.policy.clone());
            let registration = Registration {
                service: registered.service,
                policy: own.lifecycle.clone(),
                has_rooms: registered.has_rooms,
                has_members: own.members,
                presence: own.presence.clone(),
            };
            policies.insert(name.clone(), own);
            registrations.insert(name, registration);
        }
        let bus = histories::bus(&self.rt, &self.limits, &policies);
        let has_history = |policy: &ServicePolicy| policy.history.is_some();
        let has_histories = policies.values().any(has_history);
        let sweeper = has_histories.then(|| histories::sweep(&self.rt, &bus));
        let shared: StdArc<dyn MessageBus> = StdArc::new(bus.clone());
        let bounds = RoomBounds::of(&self.limits);
        let registry = Registry::new(registrations, bounds, &shared, &self.rt);
        let default_kind = self.default_kind.as_deref();
        let default_kind = default_kind.and_then(|kind| registry.name(kind).cloned());
        let api = Api::new(&self.rt, default_kind, self.api_is_public);
        let metrics = StdArc::new(Shards::<Metrics>::default());
        let fan_outs = FanOuts::new(self.rt.clone(), bus.clone(), StdArc::clone(&metrics));
        App {
            inner: Arc::new(Inner {
                rt: self.rt,
                bus,
                registry,
                metrics,
                fan_outs,
                #[cfg(feature = "server")]
                refusals: Refusals::default(),
                next_client: AtomicU64::new(1),
                backlog: Backlog::new(self.limits.queue_bytes),
                permits: Permits::new(Bounds {
                    in_all: self.limits.sessions,
                    per_address: self.limits.sessions_per_address,
                    per_subject: self.limits.sessions_per_subject,
                }),
                directory: Directory::new(!self.api_keys.is_empty()),
                callers: Callers::new(&self.limits.api),
                api,
                deflater: Arc::new(Mutex::new(Deflater::default())),
                pacing: Mutex::new(None),
                #[cfg(feature = "server")]
                drain_begun: Cancelled::new(),
                log_lines_dropped: self.log_lines_dropped,
                _sweeper: sweeper,
                policies: Mutex::new(StdArc::new(Policies {
                    limits: StdArc::new(self.limits),
                    services: policies,
                    origins: self.origins,
                    hosts: self.hosts,
                    query_token: self.query_token,
                    api_keys: self.api_keys,
                    authorize: self.authorize,
                })),
            }),
        }
    }
}
