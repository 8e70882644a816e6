//! A kind of rooms: its rooms by key. A service is a kind with one permanent room, without a key.
//!
//! A room is made by its first client and removed once it is over. A removed room takes no client:
//! a client that found the room before the removal makes a new one.
//!
//! Lock order: the rooms of a kind before the permits of rooms. No thread that holds a room's lock
//! takes the lock of the rooms.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc as StdArc;

use super::entry::{Entry, Rejection};
use super::exit::Crash;
use super::lease::{Lease, Watch};
use super::lifecycle::{Event, Refusal};
use super::totals::Totals;
use super::{Arrival, JoinError, PresenceTold, Registration, RoomBounds};
use crate::admission::permits::{Permit, Permits};
use crate::bus::{Generation, MessageBus, Room, ServiceName};
use crate::client::peer::Peer;
use crate::limits::{LifecyclePolicy, Tell};
use crate::planted::{self, Bug};
use crate::presence;
use crate::rt::Runtime;
use crate::service::Service;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// A registered service or kind of rooms.
pub(crate) struct Kind<R: Runtime> {
    pub(super) name: ServiceName,
    /// `None` for a relay.
    pub(super) service: Option<StdArc<dyn Service>>,
    pub(super) policy: StdArc<LifecyclePolicy>,
    pub(super) bus: StdArc<dyn MessageBus>,
    pub(super) rt: R,
    pub(super) totals: Totals,
    /// The last abnormal end of an instance.
    pub(super) last_crash: Mutex<Option<Crash>>,
    /// The means to make rooms; `None` for a service.
    shared: Option<Shared>,
    /// Whether the service knows its clients.
    pub(super) has_members: bool,
    pub(super) presence: StdArc<presence::Setting<R>>,
    rooms: Mutex<Rooms<R>>,
}

/// The parts of a registry that all of its kinds of rooms share; cheap to clone.
#[derive(Clone)]
pub(super) struct Shared {
    permits: Permits,
    bounds: RoomBounds,
    /// The largest generation of any room so far. A new room starts above it, so that the
    /// generations of a key rise over its removal and return.
    generation: Arc<AtomicU64>,
}

impl Shared {
    pub(super) fn new(permits: Permits, bounds: RoomBounds) -> Self {
        let generation = Arc::new(AtomicU64::new(0));
        Self {
            permits,
            bounds,
            generation,
        }
    }
}

/// The rooms of a kind.
struct Rooms<R: Runtime> {
    by_key: BTreeSet<ByKey<R>>,
    /// Whether the application stops: then no room is made.
    draining: bool,
}

/// A room, ordered by its key, so that the key is stored once.
struct ByKey<R: Runtime>(Arc<Entry<R>>);

impl<R: Runtime> ByKey<R> {
    fn key(&self) -> &str {
        self.0.room.key()
    }
}

impl<R: Runtime> Borrow<str> for ByKey<R> {
    fn borrow(&self) -> &str {
        self.key()
    }
}

impl<R: Runtime> PartialEq for ByKey<R> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<R: Runtime> Eq for ByKey<R> {}

impl<R: Runtime> PartialOrd for ByKey<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Runtime> Ord for ByKey<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(other.key())
    }
}

/// A part of the rooms of a kind, in order of their keys.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The beginning of each key; empty for any key.
    pub prefix: &'a str,
    /// The last key of the page before this one; `None` for the first page.
    pub after: Option<&'a str>,
    /// The most rooms of the page.
    pub max: usize,
}

impl Page<'_> {
    /// All rooms on one page.
    pub(super) const ALL: Self = Self {
        prefix: "",
        after: None,
        max: usize::MAX,
    };
}

impl<R: Runtime> Kind<R> {
    pub(super) fn new(
        name: ServiceName,
        registration: Registration,
        shared: &Shared,
        bus: &StdArc<dyn MessageBus>,
        rt: &R,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            service: registration.service,
            policy: StdArc::new(registration.policy),
            bus: StdArc::clone(bus),
            rt: rt.clone(),
            totals: Totals::default(),
            last_crash: Mutex::new(None),
            has_members: registration.has_members,
            presence: StdArc::new(presence::Setting {
                policy: registration.presence,
                limits: shared.bounds.presence,
                bus: StdArc::clone(bus),
                rt: rt.clone(),
                counts: presence::Counts::default(),
            }),
            shared: registration.has_rooms.then(|| shared.clone()),
            rooms: Mutex::new(Rooms {
                by_key: BTreeSet::new(),
                draining: false,
            }),
            name,
        });
        if this.shared.is_none() {
            let room = Room::from(&this.name);
            let entry = Arc::new(Entry::new(&this, room, Generation::default(), None));
            this.rooms.lock().by_key.insert(ByKey(entry));
        }
        this
    }

    /// Whether the kind has rooms; `false` for a service.
    pub(super) fn has_rooms(&self) -> bool {
        self.shared.is_some()
    }

    /// The joins and leaves that were told to clients; `None` if no client is told.
    pub(super) fn told(&self) -> Option<PresenceTold> {
        let presence::Setting { policy, counts, .. } = &*self.presence;
        (policy.tell != Tell::Off).then(|| PresenceTold {
            at_once: counts.at_once.load(Ordering::Relaxed),
            together: counts.together.load(Ordering::Relaxed),
        })
    }

    /// The number of rooms at present; 1 for a service.
    pub(super) fn len(&self) -> usize {
        self.rooms.lock().by_key.len()
    }

    /// The room with this key, if it exists; a service has the key "".
    pub(super) fn find(&self, key: &str) -> Option<Arc<Entry<R>>> {
        let rooms = self.rooms.lock();
        rooms.by_key.get(key).map(|ByKey(entry)| Arc::clone(entry))
    }

    /// The rooms of a page, in order of their keys.
    pub(super) fn page(&self, page: &Page<'_>) -> Vec<Arc<Entry<R>>> {
        let first = match page.after {
            Some(after) if after >= page.prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(page.prefix),
        };
        let rooms = self.rooms.lock();
        let range = rooms.by_key.range::<str, _>((first, Bound::Unbounded));
        range
            .take_while(|room| room.key().starts_with(page.prefix))
            .take(page.max)
            .map(|ByKey(entry)| Arc::clone(entry))
            .collect()
    }

    /// Joins a client to a room, which is made if it does not exist.
    pub(super) fn join(
        this: &Arc<Self>,
        room: &Room,
        peer: &Peer,
        mut arrival: Arrival,
    ) -> Result<Lease<R>, JoinError> {
        arrival.member.take_if(|_| !this.has_members);
        loop {
            let entry = Self::find_or_make(this, room, peer)?;
            match Entry::join(&entry, &arrival) {
                Ok(since) => {
                    let lease = Lease::new(Watch::new(Arc::clone(&entry)), since, &arrival);
                    lease.tell_presence();
                    return Ok(lease);
                }
                Err(Rejection::Refused(refusal)) => return Err(JoinError::Refused(refusal)),
                // The room was over before this client came; the next attempt makes a new one.
                Err(Rejection::Gone) => this.forget(&entry),
            }
        }
    }

    fn find_or_make(
        this: &Arc<Self>,
        room: &Room,
        peer: &Peer,
    ) -> Result<Arc<Entry<R>>, JoinError> {
        let mut rooms = this.rooms.lock();
        if let Some(ByKey(entry)) = rooms.by_key.get(room.key()) {
            return Ok(Arc::clone(entry));
        }
        let shared = this.shared.as_ref().ok_or(JoinError::Unknown)?;
        if rooms.draining {
            this.totals.refused();
            return Err(JoinError::Refused(Refusal::Draining));
        }
        let permit = shared.permits.take(peer);
        let permit = permit.map_err(|full| shared.bounds.error(full))?;
        let last = shared.generation.load(Ordering::SeqCst);
        let last = Generation::new(planted::none(Bug::GenerationRestarted, last));
        let entry = Arc::new(Entry::new(this, room.clone(), last, Some(permit)));
        rooms.by_key.insert(ByKey(Arc::clone(&entry)));
        Ok(entry)
    }

    /// Notes that an instance of this generation was started; to be called under its room's lock,
    /// so that a room that is made after this one's removal starts above it.
    pub(super) fn started(&self, generation: Generation) {
        if let Some(shared) = &self.shared {
            shared
                .generation
                .fetch_max(generation.number(), Ordering::SeqCst);
        }
    }

    /// Removes a room that is over, unless a new room has its key.
    pub(super) fn forget(&self, gone: &Arc<Entry<R>>) {
        let mut rooms = self.rooms.lock();
        let found = rooms.by_key.get(gone.room.key());
        let is_same = found.is_some_and(|ByKey(entry)| Arc::ptr_eq(entry, gone));
        let removed = is_same.then(|| rooms.by_key.take(gone.room.key()));
        drop(rooms);
        drop(removed);
    }

    /// Refuses every further client and room, and asks the present clients to leave.
    pub(super) fn drain(&self) {
        let mut rooms = self.rooms.lock();
        rooms.draining = true;
        let present: Vec<_> = rooms.by_key.iter().map(|ByKey(e)| Arc::clone(e)).collect();
        drop(rooms);
        for entry in present {
            Entry::on(&entry, Event::Drain);
        }
    }

    /// Drops the rooms, which refer to their kind.
    #[expect(clippy::mutable_key_type, reason = "the key of a room never changes")]
    pub(super) fn clear(&self) {
        let rooms = std::mem::take(&mut self.rooms.lock().by_key);
        drop(rooms);
    }
}

/// The permit of a room, given back once the room is over.
pub(super) type RoomPermit = Permit;
