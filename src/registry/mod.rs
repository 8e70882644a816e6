//! The registry: the services and rooms of an application, and the leases of their clients.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc as StdArc;

use crate::admission::permits::{Bounds, Full, Permits};
use crate::bus::{Client, ClientId, Generation, MessageBus, NameError, Room, ServiceName};
use crate::client::peer::Peer;
use crate::limits::{Keep, LifecyclePolicy, Limits, PresenceLimits, PresencePolicy};
use crate::planted::{self, Bug};
use crate::presence::{self, Entering};
use crate::rt::Runtime;
use crate::service::Service;
use crate::sync::{Arc, Ordering};

mod entry;
mod exit;
mod kind;
mod lease;
mod lifecycle;
#[cfg(all(test, feature = "loom"))]
mod models;
mod placement;
mod seen;
mod status;
mod totals;

pub use self::exit::{Crash, REASON_BYTES_MAX};
pub use self::kind::Page;
use self::kind::{Kind, Shared};
pub use self::lease::Lease;
use self::lease::Watch;
// For the simulator and the fuzzers.
#[doc(hidden)]
pub use self::lifecycle::{Effect, Event, ExitKind, Lifecycle};
pub use self::lifecycle::{LifecycleCounts, Refusal, State};
pub use self::status::Status;

/// The services and rooms of an application, each started with its first client and stopped with
/// its last.
pub struct Registry<R: Runtime> {
    kinds: StdArc<Kinds<R>>,
}

/// The registered services and kinds of rooms, by name.
struct Kinds<R: Runtime> {
    by_name: BTreeMap<ServiceName, Arc<Kind<R>>>,
    rooms: Permits,
}

impl<R: Runtime> Drop for Kinds<R> {
    fn drop(&mut self) {
        // A room refers to its kind, and the kind to its rooms.
        for kind in self.by_name.values() {
            kind.clear();
        }
    }
}

impl<R: Runtime> Clone for Registry<R> {
    fn clone(&self) -> Self {
        let kinds = StdArc::clone(&self.kinds);
        Self { kinds }
    }
}

/// A service or a kind of rooms as it was registered.
pub(crate) struct Registration {
    /// `None` for a relay, which has no instance.
    pub(crate) service: Option<StdArc<dyn Service>>,
    pub(crate) policy: LifecyclePolicy,
    /// Whether each key has an instance of its own.
    pub(crate) has_rooms: bool,
    /// Whether the service knows its clients.
    pub(crate) has_members: bool,
    pub(crate) presence: PresencePolicy,
}

/// A client as it joins a room; the default is a client of which nothing is known.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The client as its service knows it.
    pub(crate) member: Option<Client>,
    /// The client as others see it.
    pub(crate) entering: Option<Entering>,
}

impl From<Client> for Arrival {
    /// Makes the arrival of a client that its service knows, and that others do not see.
    fn from(client: Client) -> Self {
        Self {
            member: Some(client),
            entering: None,
        }
    }
}

/// The state of a service or of one room.
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
    /// The number of polls that took [`BLOCKED_AFTER`](crate::limits::BLOCKED_AFTER) or longer; of
    /// a room, those of all rooms of its kind.
    pub blocked: u64,
}

/// The figures of all rooms of a kind together; a service counts as one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindStatus {
    /// The number of rooms at present.
    pub rooms: usize,
    /// The number of clients of all rooms.
    pub clients: u64,
    /// The totals of all rooms, also of rooms that are over.
    pub counts: LifecycleCounts,
    /// The number of polls that took [`BLOCKED_AFTER`](crate::limits::BLOCKED_AFTER) or longer.
    pub blocked: u64,
    /// The joins and leaves that were told to clients; `None` in a kind that tells none.
    pub presence: Option<PresenceTold>,
}

/// The joins and leaves that were told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceTold {
    /// Joins and leaves that were told at once.
    pub at_once: u64,
    /// Joins and leaves that were told together with others, after a wait.
    pub together: u64,
}

impl KindStatus {
    /// Whether neither an instance nor a client is left.
    pub fn is_idle(&self) -> bool {
        self.clients == 0 && self.counts.starts == self.counts.exits
    }
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
    /// The key of the room is no key.
    #[error("this is no key of a room: {0}")]
    BadKey(NameError),
    /// The client named a kind of rooms without a key.
    #[error("this service has rooms, so name one: {0}/<key>")]
    KeyMissing(ServiceName),
    /// The service, the room, or the whole application takes no clients now.
    #[error("the service takes no clients now: {0:?}")]
    Refused(Refusal),
    /// A bound of the number of rooms is reached.
    #[error(transparent)]
    RoomsFull(#[from] RoomsFull),
    /// No service and no kind of rooms has this name.
    #[error("there is no service of this name")]
    Unknown,
    /// The client named a room of a service that has none.
    #[error("this service has no rooms: use {0}")]
    WithoutRooms(ServiceName),
}

/// The bound of the number of rooms that is reached; a room that exists can still be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomsFull {
    /// The bound of the application.
    #[error("all {max} rooms are taken")]
    InAll {
        /// The limit.
        max: usize,
    },
    /// The bound of the client's address.
    #[error("clients of your address have made all {max} rooms that they may")]
    OfAddress {
        /// The limit.
        max: usize,
    },
    /// The bound of the client's subject.
    #[error("you have made all {max} rooms that you may")]
    OfSubject {
        /// The limit.
        max: usize,
    },
}

/// The bounds of the number of rooms at once, and of the presence in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomBounds {
    rooms: Bounds,
    presence: PresenceLimits,
}

impl RoomBounds {
    /// The bounds of these limits.
    pub(crate) fn of(limits: &Limits) -> Self {
        let rooms = Bounds {
            in_all: planted::one_more(Bug::RoomTooMany, limits.rooms),
            per_address: limits.rooms_per_address,
            per_subject: limits.rooms_per_subject,
        };
        let presence = limits.presence;
        Self { rooms, presence }
    }

    fn error(self, full: Full) -> RoomsFull {
        let bounds = self.rooms;
        match full {
            Full::InAll => RoomsFull::InAll { max: bounds.in_all },
            Full::Address => RoomsFull::OfAddress {
                max: bounds.per_address,
            },
            Full::Subject => RoomsFull::OfSubject {
                max: bounds.per_subject,
            },
        }
    }
}

impl<R: Runtime> Registry<R> {
    pub(crate) fn new(
        registrations: BTreeMap<ServiceName, Registration>,
        bounds: RoomBounds,
        bus: &StdArc<dyn MessageBus>,
        rt: &R,
    ) -> Self {
        let rooms = Permits::new(bounds.rooms);
        let shared = Shared::new(rooms.clone(), bounds);
        let kind = |(name, registration): (ServiceName, Registration)| {
            let kind = Kind::new(name.clone(), registration, &shared, bus, rt);
            (name, kind)
        };
        let by_name = registrations.into_iter().map(kind).collect();
        Self {
            kinds: StdArc::new(Kinds { by_name, rooms }),
        }
    }

    /// Joins a client of which nothing is known to a service; see
    /// [`join_room`](Self::join_room).
    ///
    /// # Errors
    ///
    /// The errors of [`join_room`](Self::join_room).
    pub fn join(&self, service: &str) -> Result<Lease<R>, JoinError> {
        let room = self.room(service, None)?;
        self.join_room(&room, &Peer::default(), Arrival::default())
    }

    /// Joins a client to a service or room; the first client makes the room and starts an instance.
    ///
    /// A service that knows its clients is told of the client as `arrival` shows it, and so are
    /// others in the room.
    ///
    /// The lease counts at once; [`Lease::poll_status`] tells whether an instance serves it yet.
    ///
    /// # Errors
    ///
    /// When there is no such service or kind of rooms, the service takes no clients now, or the
    /// client would make one room too many.
    pub fn join_room(
        &self,
        room: &Room,
        peer: &Peer,
        arrival: Arrival,
    ) -> Result<Lease<R>, JoinError> {
        let kind = self.kind(room.kind().as_str()).ok_or(JoinError::Unknown)?;
        Kind::join(kind, room, peer, arrival)
    }

    /// Whether the services of this name know their clients.
    pub(crate) fn has_members(&self, name: &str) -> bool {
        self.kind(name).is_some_and(|kind| kind.has_members)
    }

    /// The room of this kind with this key, or the service of this name without a key. The room
    /// need not exist.
    ///
    /// # Errors
    ///
    /// When there is no such service or kind, or the key is no key, missing, or one too many.
    pub fn room(&self, name: &str, key: Option<&str>) -> Result<Room, JoinError> {
        let kind = self.kind(name).ok_or(JoinError::Unknown)?;
        match key {
            None if kind.has_rooms() => Err(JoinError::KeyMissing(kind.name.clone())),
            Some(_) if !kind.has_rooms() => Err(JoinError::WithoutRooms(kind.name.clone())),
            // The room of a service exists: its name is stored once.
            None => kind
                .find("")
                .map(|entry| entry.room.clone())
                .ok_or(JoinError::Unknown),
            Some(key) => Room::new(&kind.name, key).map_err(JoinError::BadKey),
        }
    }

    fn kind(&self, name: &str) -> Option<&Arc<Kind<R>>> {
        self.kinds.by_name.get(name)
    }

    /// The registered name equal to `name`, of a service or of a kind of rooms.
    pub fn name(&self, name: &str) -> Option<&ServiceName> {
        self.kind(name).map(|kind| &kind.name)
    }

    /// The names of the services and kinds of rooms, in order.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.kinds.by_name.keys()
    }

    /// Whether this is the name of a kind of rooms.
    pub fn has_rooms(&self, name: &str) -> bool {
        self.kind(name).is_some_and(|kind| kind.has_rooms())
    }

    /// The state of a service; `None` if there is no such service.
    pub fn status(&self, service: &str) -> Option<ServiceStatus> {
        self.status_of(self.kind(service)?, "")
    }

    /// The state of a room; `None` if it does not exist at present.
    pub fn room_status(&self, room: &Room) -> Option<ServiceStatus> {
        self.status_of(self.kind(room.kind().as_str())?, room.key())
    }

    fn status_of(&self, kind: &Kind<R>, key: &str) -> Option<ServiceStatus> {
        let entry = kind.find(key)?;
        let slot = entry.slot.lock();
        Some(ServiceStatus {
            blocked: kind.totals.blocked.load(Ordering::Relaxed),
            state: slot.lifecycle.state(),
            generation: slot.lifecycle.generation(),
            clients: slot.lifecycle.clients(),
            counts: slot.lifecycle.counts(),
        })
    }

    /// The figures of all rooms of a kind, in constant time; `None` if there is no such kind.
    pub fn kind_status(&self, name: &str) -> Option<KindStatus> {
        let kind = self.kind(name)?;
        Some(KindStatus {
            rooms: kind.len(),
            clients: kind.totals.clients(),
            counts: kind.totals.counts(),
            blocked: kind.totals.blocked.load(Ordering::Relaxed),
            presence: kind.told(),
        })
    }

    /// The clients of a room; none if the room does not exist, or does not know them.
    pub(crate) fn clients(&self, room: &Room) -> Vec<Client> {
        let entry = self
            .kind(room.kind().as_str())
            .and_then(|kind| kind.find(room.key()));
        let members = entry.as_ref().and_then(|entry| entry.members.as_ref());
        members.map(|members| members.present()).unwrap_or_default()
    }

    /// The clients of a room as others see them, those of a page; `None` in a kind that keeps no
    /// presence. In a room that does not exist there is no client.
    pub(crate) fn presence(
        &self,
        room: &Room,
        after: Option<ClientId>,
        most: usize,
    ) -> Option<StdArc<presence::Page>> {
        let kind = self.kind(room.kind().as_str())?;
        let keep = kind.presence.policy.keep;
        if keep == Keep::Off {
            return None;
        }
        let entry = kind.find(room.key());
        let presence = entry.as_ref().and_then(|entry| entry.presence.as_ref());
        let page = presence.map(|presence| presence.page(after, most));
        Some(page.unwrap_or_else(|| StdArc::new(presence::Page::of_nothing(keep))))
    }

    /// The presence of a service or of the rooms of a kind, as it was registered; `None` where none
    /// is kept and no client is told.
    pub(crate) fn presence_policy(&self, name: &str) -> Option<&PresencePolicy> {
        let policy = &self.kind(name)?.presence.policy;
        policy.is_kept().then_some(policy)
    }

    /// The rooms of a page with their numbers of clients; none if there is no such kind.
    ///
    /// Takes time in proportion to the page, however many rooms there are.
    pub fn rooms(&self, name: &str, page: &Page<'_>) -> Vec<(Room, usize)> {
        let page = self.kind(name).map(|kind| kind.page(page));
        let rooms = page.unwrap_or_default().into_iter();
        rooms
            .map(|entry| (entry.room.clone(), entry.slot.lock().lifecycle.clients()))
            .collect()
    }

    /// The paths below `/ws/` of the services, and of a room with this key of each kind.
    pub fn paths(&self, key: &str) -> impl Iterator<Item = String> {
        self.kinds.by_name.values().map(move |kind| {
            if kind.has_rooms() {
                format!("{}/{key}", kind.name)
            } else {
                kind.name.to_string()
            }
        })
    }

    /// The number of rooms of all kinds at present; services do not count.
    pub fn rooms_open(&self) -> usize {
        self.kinds.rooms.taken()
    }

    /// The last abnormal end of an instance of a service or of a kind of rooms, if there was one.
    pub fn last_crash(&self, name: &str) -> Option<Crash> {
        self.kind(name)?.last_crash.lock().clone()
    }

    /// Refuses every further client and asks the present clients to leave.
    pub fn drain(&self) {
        let forgotten = planted::one_more(Bug::DrainForgetsService, 0);
        for kind in self.kinds.by_name.values().skip(forgotten) {
            kind.drain();
        }
    }

    /// Waits, after [`drain`](Self::drain), until no client and no instance is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and nothing else.
    pub async fn drained(&self) {
        for kind in self.kinds.by_name.values() {
            // No room is made once the drain has begun.
            for entry in kind.page(&Page::ALL) {
                let mut watch = Watch::new(entry);
                poll_fn(|cx| watch.poll(cx, |lifecycle| lifecycle.is_idle().then_some(()))).await;
            }
        }
    }
}
