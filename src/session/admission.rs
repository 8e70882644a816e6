//! The admission of a client: everything a session needs, or the reason why there is none.

use std::sync::Arc;

use super::appearance::{self, Appearance};
use super::broadcast::Broadcast;
use super::compression::Compression;
use super::egress::{Egress, Stream};
use super::encoder::Encoder;
use super::parting::{Answers, Parting};
use super::rules::Rules;

use super::sender::LazySender;
use super::subprotocol::Subprotocol;
use super::tap_reporter::TapReporter;
use super::wish::Asking;
use crate::admission::authorize::Grant;
use crate::admission::directory::Listed;
use crate::admission::permits::{Full, Permit};
use crate::app::{App, Policies};
use crate::bus::{
    About, Batch, ClientId, Delivery, Generation, Joined, Joining, Maker, MessageBus, Origin,
    Published, Publisher, Room, ServiceName, SubscribeError, Topic,
};
use crate::client::address;
use crate::client::identity::Identity;
use crate::client::peer::Peer;
use crate::limits::{InboundPolicy, Limits, Recovery, Relay, SlowConsumer};
use crate::metrics::{CloseReason, RefuseReason};
use crate::registry::{Arrival, JoinError, Lease, Refusal, RoomsFull};
use crate::rt::{Instant, Runtime, WorkerId};
use crate::wire::{Deflate, Frames, Inflation};

/// A client that may have a session: it is subscribed, and it has joined its service.
///
/// Dropping an admission leaves the service and unsubscribes.
pub struct Admission<R: Runtime> {
    pub(super) membership: Membership<R>,
    pub(super) message_bytes: usize,
    pub(super) inbound: InboundPolicy,
    /// The beginning of the subscription to the messages for all clients.
    joined: Joined,
    recovery: Recovery,
    peer: Peer,
}

/// The part of an admission that its session keeps.
pub(super) struct Membership<R: Runtime> {
    pub(super) app: App<R>,
    pub(super) sender: LazySender,
    pub(super) egress: Egress,
    pub(super) lease: Lease<R>,
    /// To the service, or in a relay to all clients.
    pub(super) publisher: Publisher,
    pub(super) rules: Rules,
    /// The limits in force when the client was admitted.
    pub(super) limits: Arc<Limits>,
    /// When the client was admitted; `None` once an instance of its service runs for it.
    pub(super) waits_since: Option<Instant>,
    /// The entry in the directory, where there is one.
    _listed: Option<Box<Listed>>,
    permit: Permit,
}

/// Why a client was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The service refused the client.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The bus refused a subscription.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The client has received the stream of the room to its end.
    #[error("the stream has ended, and you have all of it")]
    Ended,
    /// The client may not read the history, and wants to.
    #[error("you may not read the history here")]
    HistoryForbidden,
    /// The limit of sessions is reached.
    #[error("all {max} sessions are taken")]
    TooManySessions {
        /// The maximum number of sessions.
        max: usize,
    },
    /// The limit of sessions of the client's address is reached.
    #[error("all {max} sessions of your address are taken")]
    TooManyOfAddress {
        /// The maximum number of sessions.
        max: usize,
    },
    /// The limit of sessions of the client's subject is reached.
    #[error("all your {max} sessions are taken")]
    TooManyOfSubject {
        /// The maximum number of sessions.
        max: usize,
    },
}

impl AdmitError {
    /// The reason by which the refusal is counted; `None` for a name of no service and no room, and
    /// for a stream that is over, which are not counted as refusals.
    fn reason(&self) -> Option<RefuseReason> {
        match self {
            Self::Ended => None,
            Self::HistoryForbidden => Some(RefuseReason::Forbidden),
            Self::Join(error) => Self::reason_of_join(error),
            Self::Subscribe(_) => Some(RefuseReason::Topics),
            Self::TooManySessions { .. } => Some(RefuseReason::Sessions),
            Self::TooManyOfAddress { .. } => Some(RefuseReason::SessionsPerAddress),
            Self::TooManyOfSubject { .. } => Some(RefuseReason::SessionsPerSubject),
        }
    }

    fn reason_of_join(error: &JoinError) -> Option<RefuseReason> {
        match error {
            JoinError::BadKey(_)
            | JoinError::KeyMissing(_)
            | JoinError::Unknown
            | JoinError::WithoutRooms(_) => None,
            JoinError::Refused(Refusal::Draining) => Some(RefuseReason::Draining),
            JoinError::Refused(Refusal::Failed { .. }) => Some(RefuseReason::Failed),
            JoinError::Refused(Refusal::Full { .. }) => Some(RefuseReason::Clients),
            JoinError::RoomsFull(RoomsFull::InAll { .. }) => Some(RefuseReason::Rooms),
            JoinError::RoomsFull(RoomsFull::OfAddress { .. }) => {
                Some(RefuseReason::RoomsPerAddress)
            }
            JoinError::RoomsFull(RoomsFull::OfSubject { .. }) => {
                Some(RefuseReason::RoomsPerSubject)
            }
        }
    }
}

/// The oldest generation whose messages a client gets: with a history, each message is for every
/// client, whichever instance said it.
fn oldest(joined: Joined, since: Generation) -> Generation {
    match joined {
        Joined::Unrecorded => since,
        Joined::NotRecovered { .. } | Joined::Present { .. } | Joined::Recovered { .. } => {
            Generation::default()
        }
    }
}

/// The facts about a client that a service is told.
fn about<R: Runtime>(app: &App<R>, peer: &Peer) -> About {
    About {
        address: peer.address,
        query: peer.query.clone(),
        since: app.rt().wall(),
    }
}

/// The maker of the histories that a client makes.
fn maker(peer: &Peer) -> Maker {
    Maker {
        address: peer.address.map(address::group),
        subject: peer.identity.subject.clone(),
    }
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
        let history = policies.service(kind).and_then(|kind| kind.history);
        if asking.wish.is_forbidden(history.as_ref()) {
            return Err(AdmitError::HistoryForbidden);
        }
        let permit = app.permit(&peer).map_err(|full| Self::full(app, full))?;
        let client = app.next_client();
        let bus = app.bus();
        let joining = Self::joining(&policies, room, &peer, asking);
        let to_all = Topic::from_service_to_ws(room);
        // Looked at before: a stream that ends meanwhile is told by its end.
        let has_ended = asking.is_of_events() && bus.has_ended(&to_all);
        let (mut broadcast, joined) = bus.subscribe_since(&to_all, &joining)?;
        let has_all = has_ended && asking.is_at(joined.position());
        (!has_all).then_some(()).ok_or(AdmitError::Ended)?;
        let direct = bus.subscribe(&Topic::from_service_to_client(room, client))?;
        let appearance = Appearance::new(app, room, &peer, asking)?;
        let rules = Rules::new(policies.service(kind), &peer.grant);
        let mut sender = LazySender::new(peer.identity.clone());
        let has_members = app.registry().has_members(kind.as_str());
        let about = || about(app, &peer);
        let member = has_members.then(|| sender.introduce(client, direct.topic(), about()));
        let arrival = Arrival {
            member,
            entering: appearance.entering(client),
        };
        let lease = app.registry().join_room(room, &peer, arrival)?;
        // A client that was refused until here leaves nothing behind.
        broadcast.confirm();
        let mut encoder = Encoder::of(asking.subprotocol);
        encoder.follow(appearance.notices);
        let membership = Membership {
            app: app.clone(),
            sender,
            egress: Egress {
                tap_reporter: TapReporter::new(bus.clone(), client),
                broadcast: Broadcast::new(broadcast),
                direct,
                since: oldest(joined, lease.since()),
                encoder,
                slow_consumer: policies.slow_consumer(kind),
                outbox_bytes: u32::try_from(policies.limits.outbox_bytes).unwrap_or(u32::MAX),
                compression: Compression::Plain,
                is_ordered: has_members,
                names_senders: rules.relay.is_some(),
                close: None,
                stream: Stream::default(),
            },
            publisher: Self::publisher(app, rules.relay, &lease),
            rules,
            lease,
            limits: Arc::clone(&policies.limits),
            waits_since: Some(app.rt().now()),
            _listed: app.list(client, room, &peer.identity),
            permit,
        };
        let admission = Self {
            membership,
            message_bytes: policies.message_bytes(kind),
            inbound: policies.inbound(kind),
            joined,
            recovery: history.map_or(Recovery::Off, |history| history.recovery),
            peer,
        };
        Ok(admission.speaking(asking.subprotocol))
    }

    /// The publisher to the service, or in a relay to all clients.
    fn publisher(app: &App<R>, relay: Option<Relay>, lease: &Lease<R>) -> Publisher {
        match relay {
            Some(_) => app
                .bus()
                .publisher(&Topic::from_service_to_ws(lease.room())),
            None => app.bus().publisher(lease.inbox()),
        }
    }

    /// The beginning of the subscription to the messages for all clients.
    fn joining(policies: &Policies, room: &Room, peer: &Peer, asking: Asking) -> Joining {
        let kind = policies.service(room.kind());
        let history = kind.and_then(|kind| kind.history);
        let read_max = policies.limits.history.history_read_max;
        let wish = asking.wish;
        Joining {
            start: wish.start(history.as_ref(), asking.subprotocol, read_max),
            recovers: policies.slow_consumer(room.kind()) == SlowConsumer::Recover,
            is_provisional: true,
            maker: maker(peer),
        }
    }

    fn full(app: &App<R>, full: Full) -> AdmitError {
        let limits = app.limits();
        match full {
            Full::InAll => AdmitError::TooManySessions {
                max: limits.sessions,
            },
            Full::Address => AdmitError::TooManyOfAddress {
                max: limits.sessions_per_address,
            },
            Full::Subject => AdmitError::TooManyOfSubject {
                max: limits.sessions_per_subject,
            },
        }
    }

    /// The application that admitted the client.
    pub fn app(&self) -> &App<R> {
        &self.membership.app
    }

    /// Speaks this subprotocol with the client instead of [`Subprotocol::Plain`].
    #[must_use]
    pub fn speaking(mut self, subprotocol: Subprotocol) -> Self {
        let encoder = &mut self.membership.egress.encoder;
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
        let member = &mut self.membership;
        if let (Some(deflate), Some(bytes_min)) = (agreed, member.limits.compress_bytes_min) {
            member.egress.compression = Compression::new(deflate, bytes_min, member.app.deflater());
        }
        self
    }

    /// Whether the client may compress its messages.
    pub(super) fn inflation(&self) -> Inflation {
        match self.membership.egress.compression {
            Compression::Deflated(_) => Inflation::Agreed,
            Compression::Plain => Inflation::None,
        }
    }

    /// Chooses where to run the session, for a server that can move streams there: with the
    /// service, as long as fewer than [`Limits::home_clients`] run there.
    ///
    /// The session counts as placed there until it ends or is placed again. `None` if tasks do not
    /// run at one place, see [`Spawn::worker`](crate::rt::Spawn::worker).
    pub fn place(&mut self) -> Option<WorkerId> {
        let member = &mut self.membership;
        member.lease.place(member.limits.home_clients)
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.membership.egress.tap_reporter.client()
    }

    /// The service, or the kind of the room, that the client has joined.
    pub fn service(&self) -> &ServiceName {
        self.membership.room().kind()
    }

    /// The room that the client has joined; a service is a room without a key.
    pub fn room(&self) -> &Room {
        self.membership.room()
    }

    /// The known facts about the client.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl<R: Runtime> Membership<R> {
    /// Makes a batch of frames that came from the client.
    #[inline]
    pub(super) fn batch(&mut self, frames: Frames) -> Batch {
        let lens = frames.parts().map(|part| part.payload.len());
        self.egress.tap_reporter.received(lens);
        Batch::new(frames, self.origin())
    }

    /// The client, as the origin of its messages.
    #[inline]
    fn origin(&mut self) -> Origin {
        self.lease.publishes();
        let egress = &self.egress;
        let (client, topic) = (egress.tap_reporter.client(), egress.direct.topic());
        let sender = self.sender.get_or_create(client, topic);
        Origin::Client(sender.clone())
    }

    /// Passes messages of the client on to all clients of its relay; never waits for a slow client.
    ///
    /// Returns the position of the last of them in the history of the room, if there is one, and
    /// whether the stream of the room has ended.
    pub(super) fn pass_on(&self, batch: Batch, relay: Relay) -> Published {
        let delivery = match relay.echo {
            true => Delivery::Everyone,
            false => Delivery::Except(self.egress.tap_reporter.client()),
        };
        let origin = batch.origin().clone();
        let batch = batch.stamped(origin, self.app.rt().now());
        let batch = batch.delivered(delivery);
        // The client is subscribed itself: the room has its history by now, whoever made it.
        let maker = Maker::default();
        self.publisher.publish_by(batch, &maker)
    }

    /// Replaces identity and rights after the client has shown a fresh token.
    pub(super) fn renew(&mut self, identity: Identity, grant: &Grant) {
        self.rules.renew(grant);
        let shown = appearance::shown(&self.app, self.room(), &identity, grant);
        self.lease.shows(shown);
        self.sender.renew(identity);
        if let Some(client) = self.sender.known() {
            self.lease.renew(client);
        }
    }

    /// The application that admitted the client.
    pub(super) fn app(&self) -> &App<R> {
        &self.app
    }

    /// The room that the client has joined.
    pub(super) fn room(&self) -> &Room {
        self.lease.room()
    }

    /// Leaves the service, at once or after its answers, at `until` at the latest; messages that
    /// were published to the client may still be sent.
    pub(super) fn part(
        mut self,
        reason: CloseReason,
        until: Option<Instant>,
    ) -> (Parting<R>, Permit) {
        self.lease.ends(reason);
        let answers = until.map(|until| Answers::new(self.lease, self.publisher, until));
        (Parting::new(self.egress, answers), self.permit)
    }
}
