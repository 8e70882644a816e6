//! The admission of a client: everything a session needs, or the reason why there is none.

use super::admit_error::AdmitError;
use super::compression::Compression;
use super::connection::Connection;
use super::encoder::Encoder;
use super::membership::{Begun, Entrant, Membership};
use super::memberships::{Memberships, Served};
use super::subprotocol::Subprotocol;
use super::wish::Asking;
use crate::app::App;
use crate::bus::{ClientId, Joined, Room, ServiceName};
use crate::client::peer::Peer;
use crate::limits::{InboundPolicy, Recovery};
use crate::rt::{Runtime, WorkerId};
use crate::wire::{Deflate, Inflation};

/// A client that may have a session: it is subscribed, and it has joined its service.
///
/// Dropping an admission leaves the service and unsubscribes.
pub struct Admission<R: Runtime> {
    pub(super) served: Served<R>,
    pub(super) message_bytes: usize,
    pub(super) inbound: InboundPolicy,
    /// The beginning of the subscription to the messages for all clients.
    joined: Joined,
    recovery: Recovery,
    peer: Peer,
}

impl<R: Runtime> Admission<R> {
    /// Admits a client of which nothing is known to a service; see
    /// [`request_as`](Self::request_as).
    ///
    /// # Errors
    ///
    /// The errors of [`request_as`](Self::request_as).
    pub fn request(app: &App<R>, service: &str) -> Result<Self, AdmitError> {
        Self::request_as(app, service, Peer::default())
    }

    /// Admits a client to a service; see [`request_room`](Self::request_room).
    ///
    /// # Errors
    ///
    /// The errors of [`request_room`](Self::request_room).
    pub fn request_as(app: &App<R>, service: &str, peer: Peer) -> Result<Self, AdmitError> {
        let room = app.registry().room(service, None)?;
        Self::request_room(app, &room, peer)
    }

    /// Admits a client to a service or room.
    ///
    /// The client is subscribed before it joins, and so before its service starts: it misses no
    /// message.
    ///
    /// # Errors
    ///
    /// When the service is unknown or takes no clients, or a limit is reached; the failed request
    /// then leaves nothing behind.
    pub fn request_room(app: &App<R>, room: &Room, peer: Peer) -> Result<Self, AdmitError> {
        Self::request_wishing(app, room, peer, Asking::default())
    }

    /// Admits a client to a service or room, with its subprotocol and its wish for messages of the
    /// history; see [`request_room`](Self::request_room).
    ///
    /// # Errors
    ///
    /// The errors of [`request_room`](Self::request_room), and when the client wants to read a
    /// history that it may not read.
    pub fn request_wishing(
        app: &App<R>,
        room: &Room,
        peer: Peer,
        asking: Asking,
    ) -> Result<Self, AdmitError> {
        let admitted = Self::admit(app, room, peer, asking);
        if let Some(reason) = admitted.as_ref().err().and_then(AdmitError::reason) {
            app.metrics().refused.add(reason);
        }
        admitted
    }

    fn admit(app: &App<R>, room: &Room, peer: Peer, asking: Asking) -> Result<Self, AdmitError> {
        let (policies, kind) = (app.policies(), room.kind());
        let connection = Connection::open(app, &policies, &peer)?;
        let entrant = Entrant {
            client: app.next_client(),
            peer: &peer,
            asking,
        };
        let Begun {
            membership,
            joined,
            recovery,
        } = Membership::begin(&connection, &policies, room, entrant)?;
        let admission = Self {
            served: Served {
                connection,
                memberships: Memberships::new(membership),
            },
            message_bytes: policies.message_bytes(kind),
            inbound: policies.inbound(kind),
            joined,
            recovery,
            peer,
        };
        Ok(admission.speaking(asking.subprotocol))
    }

    /// The application that admitted the client.
    pub fn app(&self) -> &App<R> {
        &self.served.connection.app
    }

    /// Speaks this subprotocol with the client instead of [`Subprotocol::Plain`].
    #[must_use]
    pub fn speaking(mut self, subprotocol: Subprotocol) -> Self {
        let encoder = &mut self.served.memberships.oldest_mut().egress.encoder;
        let notices = encoder.take_notices();
        *encoder = Encoder::of(subprotocol);
        encoder.follow(notices);
        encoder.greet(self.joined, self.recovery);
        self
    }

    /// Allows both sides to compress messages as `agreed` on with the client, if there is an
    /// agreement.
    ///
    /// The call has no effect if [`Limits::compress_bytes_min`](crate::Limits::compress_bytes_min)
    /// is `None`.
    #[must_use]
    pub fn compressing(mut self, agreed: Option<Deflate>) -> Self {
        let Connection { app, limits, .. } = &self.served.connection;
        if let (Some(deflate), Some(bytes_min)) = (agreed, limits.compress_bytes_min) {
            let egress = &mut self.served.memberships.oldest_mut().egress;
            egress.compression = Compression::new(deflate, bytes_min, app.deflater());
        }
        self
    }

    /// Whether the client may compress its messages.
    pub(super) fn inflation(&self) -> Inflation {
        match self.served.memberships.oldest().egress.compression {
            Compression::Deflated(_) => Inflation::Agreed,
            Compression::Plain => Inflation::None,
        }
    }

    /// Chooses where to run the session, for a server that can move streams there: with the
    /// service, as long as fewer than [`Limits::home_clients`](crate::Limits::home_clients) run
    /// there.
    ///
    /// The session counts as placed there until it ends or is placed again. `None` if tasks do not
    /// run at one place, see [`Spawn::worker`](crate::rt::Spawn::worker).
    pub fn place(&mut self) -> Option<WorkerId> {
        let home_clients = self.served.connection.limits.home_clients;
        self.served
            .memberships
            .oldest_mut()
            .lease
            .place(home_clients)
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.served
            .memberships
            .oldest()
            .egress
            .tap_reporter
            .client()
    }

    /// The service, or the kind of the room, that the client has joined.
    pub fn service(&self) -> &ServiceName {
        self.served.memberships.oldest().room().kind()
    }

    /// The room that the client has joined; a service is a room without a key.
    pub fn room(&self) -> &Room {
        self.served.memberships.oldest().room()
    }

    /// The known facts about the client.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}
