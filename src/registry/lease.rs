//! A client's share of a running service.

use std::num::NonZeroU64;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use super::Arrival;
use super::entry::Entry;
use super::lifecycle::{Event, Lifecycle};
use super::placement::Spot;
use super::status::Status;
use crate::bus::{Client, ClientId, Generation, Room, ServiceName, Topic};
use crate::limits::Keep;
use crate::metrics::CloseReason;
use crate::planted::{self, Bug};
use crate::presence::{self, Presence, Shown};
use crate::rt::{Runtime, WorkerId};
use crate::service::Leaving;
use crate::sync::{Arc, WaiterSlot};

/// A client's share of a service: the number of live leases is the service's reference count.
///
/// A lease cannot be cloned. Dropping it leaves at once, in any state of the service.
pub struct Lease<R: Runtime> {
    watch: Watch<R>,
    since: Generation,
    /// Whether the registry was told that the client has arrived.
    has_arrived: bool,
    /// Whether the client has handed a message to its service.
    has_published: bool,
    /// The reason why the client leaves.
    reason: CloseReason,
    /// The client; of no meaning unless its service knows it or others see it.
    client: ClientId,
    is_member: bool,
    is_present: bool,
}

impl<R: Runtime> Lease<R> {
    pub(super) fn new(watch: Watch<R>, since: Generation, arrival: &Arrival) -> Self {
        let Arrival { member, entering } = arrival;
        let present = entering.as_ref().map(|entering| entering.id);
        Self {
            watch,
            since,
            has_arrived: false,
            has_published: false,
            reason: CloseReason::Dropped,
            client: member
                .as_ref()
                .map(Client::id)
                .or(present)
                .unwrap_or(ClientId::new(0)),
            is_member: member.is_some(),
            is_present: present.is_some(),
        }
    }

    /// Notes that the client hands a message to its service.
    #[inline]
    pub(crate) fn publishes(&mut self) {
        self.has_published = true;
    }

    /// Sets the reason that the service is told once the lease is dropped; by default that the
    /// session was dropped.
    pub(crate) fn ends(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Replaces the record of the client, if its service knows it.
    pub(crate) fn renew(&self, client: &Client) {
        if let Some(members) = &self.watch.entry.members {
            members.renew(client);
        }
    }

    /// The client, if its service knows it.
    fn member(&self) -> Option<ClientId> {
        self.is_member.then_some(self.client)
    }

    /// The client, if others see it.
    fn present(&self) -> Option<ClientId> {
        self.is_present.then_some(self.client)
    }

    /// Replaces the facts about the client that others see, if they see it.
    pub(crate) fn shows(&self, shown: Shown) {
        if let (Some(presence), Some(id)) = (&self.watch.entry.presence, self.present()) {
            Presence::renew(presence, id, shown);
        }
    }

    /// The clients of the room as others see them, those of a page; `None` in a kind that keeps no
    /// presence.
    pub(crate) fn presence(
        &self,
        after: Option<ClientId>,
        most: usize,
    ) -> Option<StdArc<presence::Page>> {
        let entry = &self.watch.entry;
        let presence = entry.presence.as_ref();
        let presence = presence.filter(|_| entry.kind.presence.policy.keep != Keep::Off);
        presence.map(|presence| presence.page(after, most))
    }

    /// Tells clients of the joins and leaves so far, with no lock held: a waker may panic, and then
    /// the lease is there or gone already.
    pub(super) fn tell_presence(&self) {
        self.watch.entry.presence.iter().for_each(Presence::tell);
    }

    /// Removes the client from those that others see.
    fn leave_presence(&self) {
        if let (Some(presence), Some(id)) = (&self.watch.entry.presence, self.present()) {
            presence.leave(id);
        }
    }

    /// Tells the service that the client has left.
    fn leave_members(&self) {
        let entry = &self.watch.entry;
        let (Some(members), Some(member)) = (&entry.members, self.member()) else {
            return;
        };
        // The session has handed over its last message: that is before this position.
        let behind = self.has_published.then(|| entry.position());
        let reason = self.reason;
        members.leave(member, Leaving { behind, reason });
    }

    /// The room, or the service as a room.
    pub fn room(&self) -> &Room {
        &self.watch.entry.room
    }

    /// The name of the service or of the kind of rooms.
    pub fn service(&self) -> &ServiceName {
        self.room().kind()
    }

    /// The topic on which the service receives the messages of its clients.
    pub fn inbox(&self) -> &Topic {
        &self.watch.entry.inbox
    }

    /// The oldest generation that serves this lease: messages of older instances are not for its
    /// client.
    pub fn since(&self) -> Generation {
        self.since
    }

    /// Chooses the home that serves the client best, if its session can move: the service's home,
    /// as long as that has fewer than `home_clients`.
    ///
    /// The client counts as served there until the lease is dropped or placed again.
    pub(crate) fn place(&mut self, home_clients: usize) -> Option<WorkerId> {
        self.watch.vacate();
        let (home, spot) = self.watch.entry.place(home_clients)?;
        self.watch.spot = Some(spot);
        Some(home)
    }

    /// The present status of the lease.
    pub fn status(&self) -> Status {
        Status::of(&self.watch.entry.slot.lock().lifecycle)
    }

    /// Whether polling the status would do nothing: the task that polled last is parked, and no
    /// change has woken it since.
    ///
    /// Only the task that polled last may ask; see [`moved`](Self::moved).
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.watch.parked.is_some() && self.watch.parked == self.watch.entry.changes()
    }

    /// Notes that another task polls the lease from now on.
    pub(crate) fn moved(&mut self) {
        self.watch.parked = None;
    }

    /// Reports that the client has handed over all messages that it had sent when the application
    /// began to stop.
    pub(crate) fn arrived(&mut self) {
        if !std::mem::replace(&mut self.has_arrived, true) {
            Entry::on(&self.watch.entry, Event::Arrived);
        }
    }

    /// Polls until each remaining client of the service has reported its [arrival](Self::arrived).
    pub(crate) fn poll_all_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch
            .poll(cx, |lifecycle| lifecycle.have_all_arrived().then_some(()))
    }

    /// Polls until the status differs from `seen`.
    pub fn poll_status(&mut self, cx: &mut Context<'_>, seen: Status) -> Poll<Status> {
        self.watch.poll(cx, |lifecycle| {
            let status = Status::of(lifecycle);
            (status != seen).then_some(status)
        })
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        if planted::is(Bug::LeaseKept) {
            return;
        }
        // Before the leave: a client that joins after the leave may get the slot, and the instance
        // is told of the leave before it is told to stop.
        self.watch.vacate();
        self.leave_members();
        self.leave_presence();
        let has_arrived = self.has_arrived;
        Entry::on(&self.watch.entry, Event::Leave { has_arrived });
        self.tell_presence();
        let clients = || self.watch.entry.slot.lock().lifecycle.clients();
        if planted::when_any(Bug::LeaseReleasedTwice, clients) {
            let has_arrived = false;
            Entry::on(&self.watch.entry, Event::Leave { has_arrived });
        }
    }
}

/// A task's registration as a watcher of a service.
pub(super) struct Watch<R: Runtime> {
    entry: Arc<Entry<R>>,
    /// The slot among the watchers; `None` before the first wait.
    place: Option<WaiterSlot>,
    /// The client's slot at a home; kept here, where it takes no extra memory.
    spot: Option<Spot>,
    /// The value of `changes` when a task was parked here; `None` if no task is parked.
    parked: Option<NonZeroU64>,
}

impl<R: Runtime> Watch<R> {
    pub(super) fn new(entry: Arc<Entry<R>>) -> Self {
        Self {
            entry,
            place: None,
            spot: None,
            parked: None,
        }
    }

    /// Polls until `look` returns a value; parks the task meanwhile.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&Lifecycle) -> Option<T>,
    ) -> Poll<T> {
        let mut slot = self.entry.slot.lock();
        if let Some(found) = look(&slot.lifecycle) {
            self.parked = None;
            return Poll::Ready(found);
        }
        // Read under the lock, so that a later change wakes the task and has another number.
        self.parked = self.entry.changes();
        let place = self.place.get_or_insert_with(|| slot.watchers.enter());
        let replaced = slot.watchers.park(place, cx.waker());
        drop(slot);
        drop(replaced);
        Poll::Pending
    }

    /// Gives the client's slot at a home back.
    fn vacate(&mut self) {
        if let Some(spot) = self.spot.take() {
            self.entry.slot.lock().vacate(&spot);
        }
    }
}

impl<R: Runtime> Drop for Watch<R> {
    fn drop(&mut self) {
        self.vacate();
        if let Some(place) = self.place.take() {
            let waker = self.entry.slot.lock().watchers.leave(place);
            drop(waker);
        }
    }
}
