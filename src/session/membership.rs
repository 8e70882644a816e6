//! A membership: one client in one room, with its lease and its subscriptions.

use std::task::{Context, Poll};

use super::admit_error::AdmitError;
use super::appearance::{self, Appearance};
use super::broadcast::Broadcast;
use super::compression::Compression;
use super::connection::Connection;
use super::egress::{Egress, Stream};
use super::encoder::Encoder;
use super::parting::{Answers, Parting};
use super::pending_inbound::PendingInbound;
use super::rules::Rules;
use super::sender::LazySender;
use super::tap_reporter::TapReporter;
use super::wish::Asking;
use crate::admission::authorize::Grant;
use crate::admission::directory::Listed;
use crate::app::{App, Policies};
use crate::bus::{
    About, Batch, ClientId, Delivery, Generation, Joined, Joining, Maker, MessageBus, Origin,
    Published, Publisher, Room, Topic,
};
use crate::client::address;
use crate::client::identity::Identity;
use crate::client::peer::Peer;
use crate::limits::{Recovery, Relay, SlowConsumer};
use crate::metrics::CloseReason;
use crate::planted::{self, Bug};
use crate::registry::{Arrival, Lease, Status};
use crate::rt::{Instant, Runtime};
use crate::wire::Frames;

/// One client in one room.
///
/// Dropping a membership leaves the room and unsubscribes.
pub(super) struct Membership<R: Runtime> {
    pub(super) sender: LazySender,
    pub(super) egress: Egress,
    pub(super) lease: Lease<R>,
    /// The status of the service that was seen last.
    pub(super) status: Status,
    /// To the service, or in a relay to all clients.
    pub(super) publisher: Publisher,
    pub(super) pending_inbound: Option<Box<PendingInbound>>,
    pub(super) rules: Rules,
    /// When the client joined; `None` once an instance of its service runs for it.
    pub(super) waits_since: Option<Instant>,
    /// The entry in the directory, where there is one.
    _listed: Option<Box<Listed>>,
}

/// The client that enters a room, and its wishes there.
#[derive(Clone, Copy)]
pub(super) struct Entrant<'a> {
    pub(super) client: ClientId,
    pub(super) peer: &'a Peer,
    pub(super) asking: Asking,
}

/// A membership that begins, and the beginning of its subscription to the messages for all clients.
pub(super) struct Begun<R: Runtime> {
    pub(super) membership: Membership<R>,
    pub(super) joined: Joined,
    pub(super) recovery: Recovery,
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

/// The publisher to the service, or in a relay to all clients.
fn publisher<R: Runtime>(app: &App<R>, relay: Option<Relay>, lease: &Lease<R>) -> Publisher {
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

impl<R: Runtime> Membership<R> {
    /// Brings the client of a connection into a room.
    ///
    /// The client is subscribed before it joins, and so before its service starts: it misses no
    /// message.
    ///
    /// # Errors
    ///
    /// When the room takes no clients, a limit is reached, the client wants to read a history that
    /// it may not read, or it has received a stream to its end; the failed call then leaves nothing
    /// behind.
    pub(super) fn begin(
        connection: &Connection<R>,
        policies: &Policies,
        room: &Room,
        entrant: Entrant<'_>,
    ) -> Result<Begun<R>, AdmitError> {
        let (client, peer, asking) = (entrant.client, entrant.peer, entrant.asking);
        let (app, kind) = (&connection.app, room.kind());
        let history = policies.service(kind).and_then(|kind| kind.history);
        if asking.wish.is_forbidden(history.as_ref()) {
            return Err(AdmitError::HistoryForbidden);
        }
        let bus = app.bus();
        let joining = joining(policies, room, peer, asking);
        let to_all = Topic::from_service_to_ws(room);
        // Looked at before: a stream that ends meanwhile is told by its end.
        let has_ended = asking.is_of_events() && bus.has_ended(&to_all);
        let (mut broadcast, joined) = bus.subscribe_since(&to_all, &joining)?;
        let has_all = has_ended && asking.is_at(joined.position());
        (!has_all).then_some(()).ok_or(AdmitError::Ended)?;
        let direct = bus.subscribe(&Topic::from_service_to_client(room, client))?;
        let appearance = Appearance::new(app, room, peer, asking)?;
        let mut sender = LazySender::new(peer.identity.clone());
        let has_members = app.registry().has_members(kind.as_str());
        let about = || about(app, peer);
        let member = has_members.then(|| sender.introduce(client, direct.topic(), about()));
        let arrival = Arrival {
            member,
            entering: appearance.entering(client),
        };
        let lease = app.registry().join_room(room, peer, arrival)?;
        // A client that was refused until here leaves nothing behind.
        broadcast.confirm();
        let rules = Rules::new(policies.service(kind), &peer.grant);
        let mut encoder = Encoder::of(asking.subprotocol);
        encoder.follow(appearance.notices);
        let egress = Egress {
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
        };
        let membership = Self {
            sender,
            egress,
            publisher: publisher(app, rules.relay, &lease),
            rules,
            lease,
            status: Status::Waiting,
            pending_inbound: None,
            waits_since: Some(app.rt().now()),
            _listed: app.list(client, room, &peer.identity),
        };
        Ok(Begun {
            membership,
            joined,
            recovery: history.map_or(Recovery::Off, |history| history.recovery),
        })
    }

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
    pub(super) fn pass_on(&self, app: &App<R>, batch: Batch, relay: Relay) -> Published {
        let delivery = match relay.echo {
            true => Delivery::Everyone,
            false => Delivery::Except(self.egress.tap_reporter.client()),
        };
        let origin = batch.origin().clone();
        let batch = batch.stamped(origin, app.rt().now());
        let batch = batch.delivered(delivery);
        // The client is subscribed itself: the room has its history by now, whoever made it.
        let maker = Maker::default();
        self.publisher.publish_by(batch, &maker)
    }

    /// Takes in changes of the service's status; returns the present one if it has changed.
    pub(super) fn poll_status(&mut self, cx: &mut Context<'_>, app: &App<R>) -> Option<Status> {
        let before = self.status;
        while !self.lease.is_quiet()
            && let Poll::Ready(status) = self.lease.poll_status(cx, self.status)
        {
            self.status = status;
            if let Some(generation) = status.generation() {
                if let Some(since) = self.waits_since.take() {
                    let waited = app.rt().now().saturating_since(since);
                    app.metrics().running_after.observe(waited);
                }
                self.egress.encoder.runs(generation);
            }
        }
        (self.status != before).then_some(self.status)
    }

    /// Counts the messages at hand as lost: the service will not receive them.
    pub(super) fn abandon(&mut self, app: &App<R>) {
        if let Some(pending_inbound) = self.pending_inbound.take()
            && !planted::is(Bug::PendingNotCounted)
        {
            self.not_taken(app, pending_inbound.batch.len());
        }
    }

    /// Counts `messages` messages as lost before the service took them.
    pub(super) fn not_taken(&self, app: &App<R>, messages: usize) {
        let messages = messages as u64;
        app.metrics().lost_not_taken.add(messages);
        self.egress.tap_reporter.lost(messages, "not_taken");
    }

    /// Replaces identity and rights after the client has shown a fresh token.
    pub(super) fn renew(&mut self, app: &App<R>, identity: Identity, grant: &Grant) {
        self.rules.renew(grant);
        let shown = appearance::shown(app, self.room(), &identity, grant);
        self.lease.shows(shown);
        self.sender.renew(identity);
        if let Some(client) = self.sender.known() {
            self.lease.renew(client);
        }
    }

    /// The room that the client has joined.
    pub(super) fn room(&self) -> &Room {
        self.lease.room()
    }

    /// Leaves the service, at once or after its answers, at `until` at the latest; messages that
    /// were published to the client may still be sent.
    pub(super) fn part(mut self, reason: CloseReason, until: Option<Instant>) -> Parting<R> {
        self.lease.ends(reason);
        let answers = until.map(|until| Answers::new(self.lease, self.publisher, until));
        Parting::new(self.egress, answers)
    }
}
