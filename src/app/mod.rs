//! Applications: a bus, a registry of services, and the limits and counters they share.

use std::collections::BTreeMap;
use std::sync::Arc as StdArc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::admission::authorize::{self, Admitted, Ask, Authorize, Denied, NotReady};
use crate::admission::backlog::{Account, Backlog};
use crate::admission::directory::Directory;
use crate::admission::pacing::Pacing;
use crate::admission::permits::{Full, Permit, Permits};
use crate::bus::{BusCounts, ClientId, InMemoryMessageBus, Room, ServiceName};
use crate::caller::{CallerCounts, Callers, Keys};
use crate::client::host::Hosts;
use crate::client::identity::Token;
use crate::client::origin::Origins;
use crate::client::peer::Peer;
use crate::fan_out::FanOuts;
use crate::limits::{InboundPolicy, Limits, ON_THE_WAY, ServicePolicy, SlowConsumer};
use crate::metrics::{Metrics, SessionCounts};
use crate::planted::{self, Bug};
#[cfg(feature = "server")]
use crate::refusal::Refusals;
use crate::registry::Registry;
use crate::rt::{Instant, Runtime};
use crate::shards::Shards;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
#[cfg(feature = "server")]
use crate::sync::{Cancelled, Canceller};
use crate::wire::Deflater;

mod builder;
mod calls;
mod histories;
mod requests;
mod room;

pub use self::builder::{Builder, RegisterError};
use self::calls::Api;
use self::histories::Sweeper;
pub(crate) use self::requests::Asking;
pub use self::room::RoomHandle;

/// Services on a bus, ready to take clients; clones are handles on one application.
pub struct App<R: Runtime> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Runtime> {
    rt: R,
    policies: Mutex<StdArc<Policies>>,
    bus: InMemoryMessageBus,
    registry: Registry<R>,
    metrics: StdArc<Shards<Metrics>>,
    backlog: Backlog,
    next_client: AtomicU64,
    permits: Permits,
    /// The connected clients, for callers.
    directory: Directory,
    callers: Callers,
    api: Api,
    deflater: Arc<Mutex<Deflater>>,
    fan_outs: FanOuts<R>,
    #[cfg(feature = "server")]
    refusals: Refusals,
    /// The times at which sessions leave, once the application drains.
    pacing: Mutex<Option<Pacing>>,
    /// Tells the tasks of the server that the drain has begun.
    #[cfg(feature = "server")]
    drain_begun: (Canceller, Cancelled),
    log_lines_dropped: Figure,
    /// Ends the task that frees expired histories, when the application is dropped.
    _sweeper: Option<Sweeper>,
}

/// A figure that the program around the application counts.
type Figure = StdArc<dyn Fn() -> u64 + Send + Sync>;

/// The deadlines of a session in an application that drains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    /// The time at which the session leaves.
    pub(crate) at: Instant,
    /// The time from which no message of the client from before the drain can be under way.
    pub(crate) arrived_at: Instant,
    /// The time until which the session waits for its service to deal with arrived messages.
    pub(crate) arrivals_until: Instant,
}

/// The policies for the admission of clients: one value, replaced as a whole.
#[derive(Clone)]
pub struct Policies {
    /// The bounds.
    pub limits: StdArc<Limits>,
    /// The policy of each service; a service without an entry has the defaults.
    pub services: BTreeMap<ServiceName, ServicePolicy>,
    /// The pages of other hosts that may connect.
    pub origins: Origins,
    /// The hosts by which requests may name the server, see [`Builder::hosts`].
    pub hosts: Hosts,
    /// Whether a client may show its token in the query, see [`Builder::query_token`].
    pub query_token: bool,
    /// The keys of callers, see [`Builder::api_keys`].
    pub api_keys: Keys,
    /// The decision which clients may join.
    pub authorize: StdArc<dyn Authorize>,
}

/// The totals and the state of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The figures of the bus.
    pub bus: BusCounts,
    /// The totals of the sessions.
    pub sessions: SessionCounts,
    /// The totals of the calls of backends.
    pub callers: CallerCounts,
    /// The number of sessions.
    pub sessions_open: usize,
    /// The bytes that all sessions together hold for clients; see
    /// [`Limits::queue_bytes`](crate::Limits::queue_bytes).
    pub queued_bytes: u64,
    /// Lines of the program's log that were dropped; see [`Builder::log_lines_dropped`].
    pub log_lines_dropped: u64,
}

impl<R: Runtime> App<R> {
    /// Makes a builder of an application without services, on this runtime.
    pub fn builder(rt: R) -> Builder<R> {
        Builder::new(rt)
    }

    /// The bus on which services and clients meet.
    pub fn bus(&self) -> &InMemoryMessageBus {
        &self.inner.bus
    }

    /// The registry of the services.
    pub fn registry(&self) -> &Registry<R> {
        &self.inner.registry
    }

    /// The bounds under which the next client is admitted.
    pub fn limits(&self) -> StdArc<Limits> {
        StdArc::clone(&self.policies().limits)
    }

    /// The policies under which the next client is admitted.
    pub fn policies(&self) -> StdArc<Policies> {
        StdArc::clone(&self.inner.policies.lock())
    }

    /// Replaces the policies for clients that are admitted later.
    ///
    /// A session keeps the policies under which it was admitted. A running application cannot
    /// change some values, which stay as they were built: [`Limits::sessions`],
    /// [`Limits::services`], [`Limits::topics`], [`Limits::history`], [`Limits::presence`], the
    /// windows, the histories and their retention, the presence that is kept and told, the
    /// lifecycles, and the values given to the accept loop.
    pub fn replace_policies(&self, policies: Policies) {
        let policies = StdArc::new(policies);
        let before = std::mem::replace(&mut *self.inner.policies.lock(), policies);
        drop(before);
    }

    /// Asks who a client is, by its token, and whether it may join a room.
    pub(crate) fn admit(
        &self,
        room: &Room,
        token: Option<Token>,
    ) -> BoxFuture<'static, Result<Admitted, Denied>> {
        let policies = self.policies();
        let kind = policies.service(room.kind());
        let ask = Ask {
            room: room.clone(),
            is_user_limited: kind.is_some_and(|kind| kind.user_limited),
            token,
            wall: self.rt().wall(),
        };
        authorize::admit(StdArc::clone(&policies.authorize), ask).boxed()
    }

    /// The runtime of the application.
    pub fn rt(&self) -> &R {
        &self.inner.rt
    }

    /// The totals and the state; takes time in proportion to the number of topics.
    pub fn counts(&self) -> Counts {
        Counts {
            bus: self.inner.bus.counts(),
            sessions: self.inner.metrics.counts(),
            callers: self.inner.callers.counts(),
            sessions_open: self.sessions_open(),
            queued_bytes: self.inner.backlog.total(),
            log_lines_dropped: (self.inner.log_lines_dropped)(),
        }
    }

    /// The number of sessions, and of admitted clients that will have a session.
    pub fn sessions_open(&self) -> usize {
        self.inner.permits.taken()
    }

    /// The number of sessions that have ended.
    pub fn sessions_closed(&self) -> u64 {
        self.inner.metrics.counts().closed
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.inner.metrics.here()
    }

    /// The compressor of all sessions.
    pub(crate) fn deflater(&self) -> &Arc<Mutex<Deflater>> {
        &self.inner.deflater
    }

    /// The fan-outs that sessions follow.
    pub(crate) fn fan_outs(&self) -> &FanOuts<R> {
        &self.inner.fan_outs
    }

    /// The last requests that were refused for their host or their page.
    #[cfg(feature = "server")]
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    pub(crate) fn next_client(&self) -> ClientId {
        // Relaxed is enough: the number need only be unique.
        ClientId::new(self.inner.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes the permit of one more session, unless all are taken, or all that this peer may have.
    pub(crate) fn permit(&self, peer: &Peer) -> Result<Permit, Full> {
        self.inner.permits.take(peer)
    }

    /// Makes the client's account of the bytes that sessions hold.
    pub(crate) fn account(&self, client: ClientId) -> Account {
        self.inner.backlog.account(client.number())
    }

    /// Refuses every further client and closes the present sessions, each at its own time, once
    /// arrived messages are answered; see [`Limits::drain`](crate::Limits::drain),
    /// [`arrivals_timeout`](crate::Limits::arrivals_timeout) and [`drained`](Self::drained).
    ///
    /// Sessions are served as before until then. A second call changes nothing.
    pub fn drain(&self) {
        let limits = self.limits();
        let within = limits
            .drain_timeout
            .saturating_sub(limits.close_timeout * 2);
        let (now, seed) = (self.rt().now(), self.rt().random());
        let pacing = Pacing::new(limits.drain, now, within, self.sessions_open(), seed);
        let mut current = self.inner.pacing.lock();
        if current.is_some() {
            return;
        }
        if pacing.is_hurried() {
            tracing::warn!(
                per_second = limits.drain.per_second,
                "sessions leave faster than this, to be gone in time: raise drain_timeout"
            );
        }
        *current = Some(pacing);
        drop(current);
        #[cfg(feature = "server")]
        self.inner.drain_begun.0.cancel();
        self.registry().drain();
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.inner.pacing.lock().is_some()
    }

    /// Completes once [`drain`](Self::drain) is called.
    #[cfg(feature = "server")]
    pub(crate) fn drain_begun(&self) -> Cancelled {
        self.inner.drain_begun.1.clone()
    }

    /// Whether clients should be sent to this application: it does not drain, and a decision about
    /// the clients of each service is possible; see [`Authorize::readiness`].
    ///
    /// # Errors
    ///
    /// [`NotReady`], with the reason.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.is_draining() {
            return Err(NotReady("draining".to_owned()));
        }
        let policies = self.policies();
        let mut names = self.registry().names();
        names.try_for_each(|name| policies.authorize.readiness(name))
    }

    /// The deadlines of one more session in a draining application.
    pub(crate) fn leave(&self) -> Leave {
        let arrivals = self.limits().arrivals_timeout();
        let mut pacing = self.inner.pacing.lock();
        let now = self.rt().now();
        let (start, moment) = pacing
            .as_mut()
            .map_or((now, now), |pacing| (pacing.start(), pacing.moment()));
        let is_paced = !planted::is(Bug::DrainNotPaced);
        Leave {
            at: if is_paced { moment } else { now },
            arrived_at: start + ON_THE_WAY.min(arrivals),
            arrivals_until: start + arrivals,
        }
    }

    /// The time for a session to leave that could not leave at its own time.
    pub(crate) fn leave_later(&self, now: Instant) -> Instant {
        let mut pacing = self.inner.pacing.lock();
        let later = pacing.as_mut().map(|pacing| pacing.later(now));
        later
            .filter(|_| !planted::is(Bug::DrainNotPaced))
            .unwrap_or(now)
    }

    /// Waits, after [`drain`](Self::drain), until no session and no instance of a service is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and nothing else.
    pub async fn drained(&self) {
        self.registry().drained().await;
        if !planted::is(Bug::DrainNotAwaited) {
            self.inner.permits.all_returned().await;
        }
    }
}

impl Policies {
    /// The treatment of slow clients of a service.
    pub(crate) fn slow_consumer(&self, service: &ServiceName) -> SlowConsumer {
        let own = self.services.get(service);
        own.map(|policy| policy.slow_consumer).unwrap_or_default()
    }

    /// The policy of a service or of a kind of rooms.
    pub(crate) fn service(&self, kind: &ServiceName) -> Option<&ServicePolicy> {
        self.services.get(kind)
    }

    /// The rates at which a client may send to a service.
    pub(crate) fn inbound(&self, service: &ServiceName) -> InboundPolicy {
        let own = self.services.get(service).and_then(|policy| policy.inbound);
        own.unwrap_or(self.limits.inbound)
    }

    /// The length of the largest message that a client may send to a service, in bytes.
    pub(crate) fn message_bytes(&self, service: &ServiceName) -> usize {
        let own = self
            .services
            .get(service)
            .and_then(|policy| policy.message_bytes);
        own.unwrap_or(self.limits.message_bytes)
    }
}

impl<R: Runtime> Clone for App<R> {
    fn clone(&self) -> Self {
        let inner = Arc::clone(&self.inner);
        Self { inner }
    }
}
