//! The part of an application that callers of the API use.

use std::sync::Arc as StdArc;
use std::time::Duration;

use super::App;
use crate::admission::directory::{Directory, Listed};
use crate::bus::{Batch, ClientId, Delivery, MessageBus, Room, ServiceName, Topic};
use crate::caller::{CallerCounts, Callers};
use crate::client::identity::Identity;
use crate::rt::{Instant, Runtime};
use crate::wire::CloseFrame;

/// The longest wait for calls in flight, whose requests may still be arriving.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The time from one look for calls in flight to the next.
const STOP_LOOK: Duration = Duration::from_millis(10);

/// The facts about an application that callers see, and that do not change.
pub(super) struct Api {
    /// The kind of rooms that are named without one.
    default_kind: Option<ServiceName>,
    is_public: bool,
    started: Instant,
    uid: u64,
}

impl Api {
    pub(super) fn new<R: Runtime>(
        rt: &R,
        default_kind: Option<ServiceName>,
        is_public: bool,
    ) -> Self {
        Self {
            default_kind,
            is_public,
            started: rt.now(),
            uid: rt.random(),
        }
    }
}

impl<R: Runtime> App<R> {
    /// The totals of the calls of backends.
    pub fn caller_counts(&self) -> CallerCounts {
        self.inner.callers.counts()
    }

    /// Whether calls of backends may act on clients: the application was built with a key.
    pub fn serves_calls(&self) -> bool {
        self.directory().is_kept()
    }

    /// Serves no further call of a backend, and waits for those in flight, at most a second: what
    /// is published after it would be in no saved history.
    pub async fn stop_calls(&self) {
        self.callers().stop();
        self.calls_answered().await;
    }

    /// Waits for the calls in flight, at most a second. Kept connections, which a drain ends, have
    /// at least the time of one look to tell their clients.
    pub(crate) async fn calls_answered(&self) {
        let rt = self.rt();
        let until = rt.now() + STOP_MAX;
        let mut has_kept = self.callers().counts().connections > 0;
        while (has_kept || self.callers().in_flight() > 0) && rt.now() < until {
            rt.sleep_until(rt.now() + STOP_LOOK).await;
            has_kept = false;
        }
    }

    pub(crate) fn callers(&self) -> &Callers {
        &self.inner.callers
    }

    /// Lists a client as connected until the entry is dropped; `None` where no callers are.
    pub(crate) fn list(
        &self,
        client: ClientId,
        room: &Room,
        identity: &Identity,
    ) -> Option<Box<Listed>> {
        let listed = self
            .directory()
            .enter(client, room, identity.subject.as_ref());
        listed.map(Box::new)
    }

    /// The connected clients.
    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The kind of rooms that callers name without one.
    pub(crate) fn default_kind(&self) -> Option<&ServiceName> {
        self.inner.api.default_kind.as_ref()
    }

    /// Whether the listeners of clients serve the API.
    pub(crate) fn api_is_public(&self) -> bool {
        self.inner.api.is_public
    }

    /// The time at which the application was made.
    pub(crate) fn started(&self) -> Instant {
        self.inner.api.started
    }

    /// A random number that names this application among others.
    pub(crate) fn uid(&self) -> u64 {
        self.inner.api.uid
    }

    /// Closes the session of a client of a room, after what was said to all clients so far; whether
    /// the client is there.
    pub(crate) fn close_client(
        &self,
        room: &Room,
        client: ClientId,
        frame: &StdArc<CloseFrame>,
    ) -> bool {
        let to_all = Topic::from_service_to_ws(room);
        let said = self.bus().publisher(&to_all).tail();
        let delivery = Delivery::Close(said, StdArc::clone(frame));
        // An entry of a topic has a message, which is not sent.
        let batch = Batch::from("").delivered(delivery);
        let topic = Topic::from_service_to_client(room, client);
        self.bus().publish(&topic, batch) > 0
    }
}
