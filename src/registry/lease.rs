//! One client's share of a running service.

use std::num::NonZeroU64;
use std::task::{Context, Poll};

use super::entry::Entry;
use super::lifecycle::{Event, Lifecycle, State};
use super::placement::Spot;
use crate::bus::{Generation, ServiceName, Topic};
use crate::planted::{self, Bug};
use crate::rt::{Home, Runtime};
use crate::sync::{Arc, Place};

/// One client's share of a service: the number of live leases is the service's reference count.
///
/// It cannot be cloned; dropping it leaves, at once and whatever the service is doing.
pub struct Lease<R: Runtime> {
    watch: Watch<R>,
    since: Generation,
    /// Whether it is told that its client has arrived.
    has_arrived: bool,
}

/// What a lease is worth at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The application stops: leave soon. Until then the instance of this generation serves it, if
    /// there is one.
    Draining(Option<Generation>),
    /// The service crashed for good: leave.
    Failed,
    /// The instance of this generation serves it.
    Running(Generation),
    /// No instance serves it yet.
    Waiting,
}

impl Status {
    /// The generation that serves the lease, if one does.
    pub fn generation(self) -> Option<Generation> {
        match self {
            Self::Running(generation) => Some(generation),
            Self::Draining(generation) => generation,
            Self::Failed | Self::Waiting => None,
        }
    }

    pub(super) fn of(lifecycle: &Lifecycle) -> Self {
        let generation = lifecycle.generation();
        match lifecycle.state() {
            State::Running | State::Lingering { .. } if lifecycle.is_draining() => {
                Self::Draining(Some(generation))
            }
            _ if lifecycle.is_draining() => Self::Draining(None),
            State::Failed { .. } => Self::Failed,
            State::Running | State::Lingering { .. } => Self::Running(generation),
            State::Backoff { .. } | State::Stopped | State::Stopping { .. } => Self::Waiting,
        }
    }
}

impl<R: Runtime> Lease<R> {
    pub(super) fn new(watch: Watch<R>, since: Generation) -> Self {
        Self {
            watch,
            since,
            has_arrived: false,
        }
    }

    /// The service it is a lease of.
    pub fn service(&self) -> &ServiceName {
        &self.watch.entry.name
    }

    /// The topic on which the service receives what its clients send.
    pub fn inbox(&self) -> &Topic {
        &self.watch.entry.inbox
    }

    /// The oldest generation that serves this lease: what an older one publishes is not for it.
    pub fn since(&self) -> Generation {
        self.since
    }

    /// Where its client is best served, if its session can be taken there from here: with the
    /// service, as long as that has fewer than `home_clients` there.
    ///
    /// It counts as served there until it is dropped, or placed again.
    pub(crate) fn place(&mut self, home_clients: usize) -> Option<Home> {
        self.watch.vacate();
        let (home, spot) = self.watch.entry.place(home_clients)?;
        self.watch.spot = Some(spot);
        Some(home)
    }

    /// What it is worth at the moment.
    pub fn status(&self) -> Status {
        Status::of(&self.watch.entry.slot.lock().lifecycle)
    }

    /// Whether polling its status could do nothing: the task that polled it last is parked, and has
    /// not been woken by a change since.
    ///
    /// Only for the very task that polled it last; see [`moved`](Self::moved).
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.watch.parked.is_some() && self.watch.parked == self.watch.entry.changes()
    }

    /// From now on another task polls it.
    pub(crate) fn moved(&mut self) {
        self.watch.parked = None;
    }

    /// Its client has handed over all that it had sent when the application began to stop.
    pub(crate) fn arrived(&mut self) {
        if !std::mem::replace(&mut self.has_arrived, true) {
            Entry::on(&self.watch.entry, Event::Arrived);
        }
    }

    /// Ready as soon as that is so for each client of the service that is left.
    pub(crate) fn poll_all_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch
            .poll(cx, |lifecycle| lifecycle.have_all_arrived().then_some(()))
    }

    /// Ready as soon as the status is another one than `seen`.
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
        // Who sees that it has left may take its place.
        self.watch.vacate();
        let has_arrived = self.has_arrived;
        Entry::on(&self.watch.entry, Event::Leave { has_arrived });
        let clients = || self.watch.entry.slot.lock().lifecycle.clients();
        if planted::when_any(Bug::LeaseReleasedTwice, clients) {
            let has_arrived = false;
            Entry::on(&self.watch.entry, Event::Leave { has_arrived });
        }
    }
}

/// A place among those who wait for a service to change.
pub(super) struct Watch<R: Runtime> {
    entry: Arc<Entry<R>>,
    /// `None` until it first waits.
    place: Option<Place>,
    /// Where its client is served; here it takes no room that was not there anyway.
    spot: Option<Spot>,
    /// How often those who wait had been woken when a task was parked here.
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

    /// Ready with what `look` finds; parks the task while it finds nothing.
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
        self.parked = self.entry.changes();
        let place = self.place.get_or_insert_with(|| slot.watchers.enter());
        let replaced = slot.watchers.park(place, cx.waker());
        drop(slot);
        drop(replaced);
        Poll::Pending
    }

    /// Gives its client's place at a home back.
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
