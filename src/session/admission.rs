//! A client's way in: everything a session needs, or the reason why there is none.

use std::sync::Arc;

use super::feed::Feed;
use crate::app::App;
use crate::bus::{ClientId, MessageBus, Publisher, Sender, ServiceName, SubscribeError, Topic};
use crate::identity::Identity;
use crate::limits::{Limits, SlowConsumer};
use crate::permits::Permit;
use crate::registry::{JoinError, Lease};
use crate::rt::Runtime;

/// A client that may have a session: it is subscribed, and it has joined its service.
///
/// Dropping it leaves and unsubscribes.
pub struct Admission<R: Runtime> {
    pub(super) app: App<R>,
    pub(super) sender: Sender,
    pub(super) feed: Feed,
    pub(super) lease: Lease<R>,
    pub(super) publisher: Publisher,
    pub(super) slow_consumer: SlowConsumer,
    /// The bounds it was admitted under.
    pub(super) limits: Arc<Limits>,
    pub(super) message_bytes: usize,
    permit: Permit,
}

/// Why a client was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The service did not let it join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The bus did not let it subscribe.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// There are as many sessions as there may be.
    #[error("all {max} sessions are taken")]
    TooManySessions {
        /// The limit.
        max: usize,
    },
}

impl<R: Runtime> Admission<R> {
    /// Admits a client to a service, whoever it is.
    ///
    /// # Errors
    ///
    /// As for [`request_as`](Self::request_as).
    pub fn request(app: &App<R>, service: &str) -> Result<Self, AdmitError> {
        Self::request_as(app, service, Identity::anonymous())
    }

    /// Admits a client that has shown who it is; whether it may join was decided before.
    ///
    /// It is subscribed before it joins, and so before its service starts: it misses nothing.
    ///
    /// # Errors
    ///
    /// When the service is unknown or takes no clients, or a limit is reached; nothing is left
    /// behind then.
    pub fn request_as(app: &App<R>, service: &str, identity: Identity) -> Result<Self, AdmitError> {
        let admitted = Self::admit(app, service, identity);
        if admitted.is_err() {
            app.metrics().refused.add(1);
        }
        admitted
    }

    fn admit(app: &App<R>, service: &str, identity: Identity) -> Result<Self, AdmitError> {
        let name = app.registry().name(service).ok_or(JoinError::Unknown)?;
        let policies = app.policies();
        let policy = policies.of(name);
        let Some(permit) = app.permit() else {
            let max = policies.limits.sessions;
            return Err(AdmitError::TooManySessions { max });
        };
        let client = app.next_client();
        let bus = app.bus();
        let to_all = bus.subscribe(&Topic::from_service_to_ws(name))?;
        let to_one = bus.subscribe(&Topic::from_service_to_client(name, client))?;
        let lease = app.registry().join(service)?;
        Ok(Self {
            app: app.clone(),
            sender: Sender::new(client, identity),
            feed: Feed {
                to_all,
                to_one,
                since: lease.since(),
                outbox_bytes: policies.limits.outbox_bytes,
            },
            publisher: bus.publisher(&Topic::from_ws_to_service(name)),
            lease,
            slow_consumer: policy.slow_consumer,
            message_bytes: policy.message_bytes,
            limits: Arc::clone(&policies.limits),
            permit,
        })
    }

    /// The application that admitted it.
    pub fn app(&self) -> &App<R> {
        &self.app
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.sender.client()
    }

    /// The service it has joined.
    pub fn service(&self) -> &ServiceName {
        self.lease.service()
    }

    /// Leaves the service; what had been published to the client may still be sent.
    pub(super) fn leave(self) -> (Feed, Permit) {
        (self.feed, self.permit)
    }
}
