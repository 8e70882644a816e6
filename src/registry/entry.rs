//! A room or service: applies events to its [`Lifecycle`] and carries out the effects.
//!
//! An event is applied, and an instance is prepared, under the room's lock. Spawning, aborting
//! and waking happen after the lock is released, so the effects of two events may be carried out in
//! any order. An instance may therefore be told to stop before its task is spawned; no instance can
//! exit before that, as its task reports the exit.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::panic::AssertUnwindSafe;
use std::sync::Arc as StdArc;
use std::task::Waker;

use futures::future::{AbortHandle, Abortable, BoxFuture, FutureExt};
use tracing::{debug, warn};

use super::Arrival;
use super::exit::{Crash, Exit, Run};
use super::kind::{Kind, RoomPermit};
use super::lifecycle::{Effect, Event, ExitKind, Lifecycle, Refusal, State};
use super::placement::{Placement, Spot};
use super::seen::Seen;
use crate::bus::{Generation, Room, SubscribeError, Subscription, Topic};
use crate::limits::BLOCKED_AFTER;
use crate::planted::{self, Bug};
use crate::presence::Presence;
use crate::rt::{Instant, Runtime, WorkerId};
use crate::service::{Context, Members, Seed, Stop};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Waiters};

/// A room of a kind, or a registered service.
pub(crate) struct Entry<R: Runtime> {
    pub(super) room: Room,
    pub(super) inbox: Topic,
    pub(super) kind: Arc<Kind<R>>,
    /// The number of times that the watchers were woken, plus one; raised under the lock, before
    /// the watchers are woken.
    changes: AtomicU64,
    /// The clients as the instance knows them; `None` if it does not. Its lock is taken after that
    /// of the slot.
    pub(super) members: Option<Arc<Members>>,
    /// The clients as others see them; `None` in a kind that keeps no presence. Its lock is taken
    /// after that of the slot.
    pub(super) presence: Option<Arc<Presence<R>>>,
    pub(super) slot: Mutex<Slot>,
}

/// The data behind the lock of a room.
pub(super) struct Slot {
    pub(super) lifecycle: Lifecycle,
    placement: Placement,
    instance: Option<Instance>,
    timer: Option<Timer>,
    pub(super) watchers: Waiters,
    /// The room's share of the bounded number of rooms; `None` for a service.
    permit: Option<RoomPermit>,
    /// Whether the room is over: it is removed from its kind, and takes no client.
    is_gone: bool,
}

impl Slot {
    fn new(lifecycle: Lifecycle, permit: Option<RoomPermit>) -> Self {
        Self {
            lifecycle,
            placement: Placement::default(),
            instance: None,
            timer: None,
            watchers: Waiters::default(),
            permit,
            is_gone: false,
        }
    }

    /// Checks the instance and the timer against the lifecycle, in builds with debug assertions.
    fn check(&self, has_instances: bool) {
        let state = self.lifecycle.state();
        debug_assert!(
            self.instance.is_some() == (has_instances && self.lifecycle.has_instance()),
            "the service is {state:?}, but the handle of its instance is not there, or is left over"
        );
        let (armed, due) = (
            self.timer.as_ref().map(|timer| timer.at),
            self.lifecycle.deadline(),
        );
        debug_assert!(
            planted::is(Bug::TimerKept) || armed == due,
            "the service is {state:?} until {due:?}, but its timer is set for {armed:?}"
        );
    }

    /// Gives a client's slot at a home back.
    pub(super) fn vacate(&mut self, spot: &Spot) {
        self.placement.leave(spot);
    }
}

/// The handles of the running instance.
struct Instance {
    stop: Stop,
    abort: AbortHandle,
}

/// The task that waits for the lifecycle's deadline.
struct Timer {
    at: Instant,
    abort: AbortHandle,
}

/// The result of an event.
pub(super) struct Turn {
    /// The oldest generation that serves a client which joined with the event.
    since: Generation,
    /// The reason why a client has not joined; only a join can be rejected.
    rejected: Option<Rejection>,
}

/// The reason why a client has not joined a room.
pub(super) enum Rejection {
    /// The room is over; a new one may be made.
    Gone,
    /// The room takes no clients now.
    Refused(Refusal),
}

/// The consequences of an event, to be carried out once the lock is released.
#[derive(Default)]
struct Afterwards {
    abort: Option<AbortHandle>,
    disarm: Option<AbortHandle>,
    stop: Option<Stop>,
    spawn: Vec<BoxFuture<'static, ()>>,
    exited: Option<Instance>,
    /// The instance, which is to be told of a join.
    told: Option<Waker>,
    /// The task of an instance that has ended, which need not be told any more.
    ended: Option<Waker>,
    /// The permit of a room that is over.
    over: Option<RoomPermit>,
}

impl Afterwards {
    fn carry_out<R: Runtime>(self, rt: &R) {
        if let Some(stop) = self.stop
            && !planted::is(Bug::StopNotSignalled)
        {
            stop.raise();
        }
        for handle in [self.abort, self.disarm].into_iter().flatten() {
            handle.abort();
        }
        for task in self.spawn {
            rt.spawn(task);
        }
        if let Some(told) = self.told {
            told.wake();
        }
        drop((self.exited, self.ended));
    }
}

impl<R: Runtime> Entry<R> {
    /// Makes a room whose generations begin after `last`.
    pub(super) fn new(
        kind: &Arc<Kind<R>>,
        room: Room,
        last: Generation,
        permit: Option<RoomPermit>,
    ) -> Self {
        let policy = StdArc::clone(&kind.policy);
        let lifecycle = Lifecycle::new(policy, kind.rt.random()).after(last);
        Self {
            inbox: Self::inbox(kind, &room),
            presence: Presence::new(&room, &kind.presence),
            room,
            kind: Arc::clone(kind),
            changes: AtomicU64::new(1),
            members: kind.has_members.then(Arc::default),
            slot: Mutex::new(Slot::new(lifecycle, permit)),
        }
    }

    fn inbox(kind: &Kind<R>, room: &Room) -> Topic {
        if planted::is(Bug::InboxShared) {
            return Topic::from_ws_to_service(&kind.name);
        }
        Topic::from_ws_to_service(room)
    }

    /// A version number, which changes before the watchers are woken.
    #[inline]
    pub(super) fn changes(&self) -> Option<NonZeroU64> {
        // In one order with the increments: a woken task sees the increment that preceded its wake.
        NonZeroU64::new(self.changes.load(Ordering::SeqCst))
    }

    /// Joins a client; returns the oldest generation that serves it.
    pub(super) fn join(this: &Arc<Self>, arrival: &Arrival) -> Result<Generation, Rejection> {
        let turn = Self::apply(this, Event::Join, Some(arrival));
        turn.rejected.map_or(Ok(turn.since), Err)
    }

    /// Chooses a home for a joined client; returns the home and the client's slot there.
    pub(super) fn place(&self, home_clients: usize) -> Option<(WorkerId, Spot)> {
        let accepted = self.kind.rt.worker()?;
        Some(self.slot.lock().placement.enter(accepted, home_clients))
    }

    /// Applies an event and carries out its effect.
    pub(super) fn on(this: &Arc<Self>, event: Event) -> Turn {
        Self::apply(this, event, None)
    }

    /// Applies an event, which is a join if there is an arrival, and carries out its effect.
    fn apply(this: &Arc<Self>, event: Event, arrival: Option<&Arrival>) -> Turn {
        let now = this.kind.rt.now();
        let mut slot = this.slot.lock();
        let since = slot.lifecycle.next_to_serve();
        if slot.is_gone {
            let rejected = Some(Rejection::Gone);
            return Turn { since, rejected };
        }
        let before = Seen::of(&slot.lifecycle);
        let effect = slot.lifecycle.on(now, event);
        let effect = match this.kind.service {
            Some(_) => effect,
            None => this.without_instance(&mut slot.lifecycle, effect),
        };
        let mut afterwards = Afterwards::default();
        let rejected = match effect {
            Some(Effect::Refuse(refusal)) => Some(Rejection::Refused(refusal)),
            Some(effect) => {
                afterwards.told = this.enter(&slot, now, arrival);
                Self::prepare(this, &mut slot, effect, &mut afterwards);
                None
            }
            None => {
                afterwards.told = this.enter(&slot, now, arrival);
                None
            }
        };
        if !slot.lifecycle.has_instance() {
            afterwards.exited = slot.instance.take();
            afterwards.ended = this.members.as_ref().and_then(|members| members.end());
        }
        Self::arm(this, &mut slot, &mut afterwards);
        slot.check(this.kind.service.is_some());
        let is_over = this.end(&mut slot, &mut afterwards);
        let after = Seen::of(&slot.lifecycle);
        this.kind.totals.add(before.figures, after.figures);
        let changed = after.differs(&before) || slot.lifecycle.is_idle();
        let changed = planted::none(Bug::StatusWakesNobody, changed);
        let watchers = changed.then(|| {
            // Under the lock, and before the wakes: a watcher that parks reads `changes` under the
            // lock, so that it takes no later change for one it has seen.
            this.changes.fetch_add(1, Ordering::SeqCst);
            slot.watchers.unpark()
        });
        drop(slot);
        after.log_change(&before, &this.room, now);
        if is_over {
            if !planted::is(Bug::RoomKept) {
                this.kind.forget(this);
            }
            // Before the wakes: a task that waits for the end of the room finds its permit
            // returned.
            drop(afterwards.over.take());
        }
        // With no lock held: wakers and tasks are foreign code, which may come back for the lock.
        watchers.unwrap_or_default().wake();
        afterwards.carry_out(&this.kind.rt);
        Turn { since, rejected }
    }

    /// Carries the effect out in a relay, which runs from its first client to its last without an
    /// instance: what would be told to stop has ended.
    fn without_instance(
        &self,
        lifecycle: &mut Lifecycle,
        effect: Option<Effect>,
    ) -> Option<Effect> {
        match effect? {
            Effect::Start(generation) => self.kind.started(generation),
            Effect::Stop(generation) => {
                let exit = ExitKind::Returned;
                let after = lifecycle.on(self.kind.rt.now(), Event::Exited { generation, exit });
                debug_assert_eq!(after, None, "a relay without clients needs no instance");
            }
            refused @ Effect::Refuse(_) => return Some(refused),
            Effect::Abort(_) => unreachable!("a relay that stops has ended"),
        }
        None
    }

    /// Adds a joined client to those that the instance knows. Before an instance is started for it,
    /// so that the client is there at its start. An instance that stops does not serve the client,
    /// and is not told of it.
    fn enter(&self, slot: &Slot, now: Instant, arrival: Option<&Arrival>) -> Option<Waker> {
        let Arrival { member, entering } = arrival?;
        if let (Some(presence), Some(entering)) = (&self.presence, entering) {
            presence.enter(now, entering.clone());
        }
        let (members, client) = (self.members.as_ref()?, member.as_ref()?);
        let stops = matches!(slot.lifecycle.state(), State::Stopping { .. });
        let stops = stops && !planted::is(Bug::NextToldToPresent);
        let at = (!stops).then(|| self.position());
        members.join(client.clone(), at)
    }

    /// The position of the inbox behind the last message so far.
    pub(super) fn position(&self) -> u64 {
        self.kind.bus.publisher(&self.inbox).position()
    }

    /// Notes that a room without clients and without an instance is over; a service never is.
    fn end(&self, slot: &mut Slot, afterwards: &mut Afterwards) -> bool {
        let is_over = slot.lifecycle.is_over()
            || planted::is(Bug::RoomTakenFromJoined) && !slot.lifecycle.has_instance();
        slot.is_gone = self.kind.has_rooms() && is_over;
        if slot.is_gone {
            afterwards.over = planted::kept(Bug::RoomPermitKept, slot.permit.take());
        }
        slot.is_gone
    }

    fn prepare(this: &Arc<Self>, slot: &mut Slot, effect: Effect, afterwards: &mut Afterwards) {
        match effect {
            Effect::Abort(_) => {
                afterwards.abort = slot.instance.as_ref().map(|i| i.abort.clone());
            }
            Effect::Refuse(_) => {}
            Effect::Start(generation) => {
                this.kind.started(generation);
                this.members.iter().for_each(|members| members.begin());
                let (instance, task) = Self::start(this, generation);
                afterwards.exited = slot.instance.replace(instance);
                slot.placement.starts(this.kind.rt.worker());
                afterwards.spawn.push(task);
            }
            Effect::Stop(_) => afterwards.stop = slot.instance.as_ref().map(|i| i.stop.clone()),
        }
    }

    /// Makes an instance and its task; the task reports the exit, whichever way it ends.
    fn start(this: &Arc<Self>, generation: Generation) -> (Instance, BoxFuture<'static, ()>) {
        let stop = Stop::new();
        let (abort, registration) = AbortHandle::new_pair();
        // Subscribed here, not in the task: the inbox exists before a client learns of the
        // instance.
        let inbox = this.kind.bus.subscribe(&this.inbox);
        let mut guard = ExitGuard::new(Arc::clone(this), generation, inbox);
        let instance = Instance {
            stop: stop.clone(),
            abort,
        };
        let task = async move {
            let run = AssertUnwindSafe(guard.run(stop)).catch_unwind();
            let exit = Abortable::new(run, registration).await;
            guard.exited(&Exit::from_result(exit));
        };
        (instance, task.boxed())
    }

    /// Runs an instance to its end.
    pub(super) async fn run(&self, generation: Generation, inbox: Subscription, stop: Stop) -> Run {
        let seed = Seed {
            room: self.room.clone(),
            generation,
            inbox,
            members: self.members.clone(),
            stop,
        };
        let rt = StdArc::new(self.kind.rt.clone());
        let context = Context::new(seed, StdArc::clone(&self.kind.bus), rt);
        match &self.kind.service {
            Some(service) => self.run_polls(service.run(context)).await,
            // A relay starts no instance.
            None => Ok(()),
        }
    }

    /// Polls an instance; warns if a poll blocks the thread, which the system cannot detect.
    async fn run_polls(&self, mut run: BoxFuture<'static, Run>) -> Run {
        poll_fn(|cx| {
            let begun = self.kind.rt.now();
            let polled = run.as_mut().poll(cx);
            let took = self.kind.rt.now().saturating_since(begun);
            if took >= BLOCKED_AFTER {
                self.kind.totals.blocked.fetch_add(1, Ordering::Relaxed);
                warn!(
                    service = %self.room,
                    ?took,
                    "the service blocked its thread, which others share: use spawn_blocking"
                );
            }
            polled
        })
        .await
    }

    pub(super) fn exited(this: &Arc<Self>, generation: Generation, exit: &Exit) {
        let service = &this.room;
        match exit {
            Exit::Returned => debug!(%service, %generation, "instance returned"),
            Exit::Aborted | Exit::Error(_) | Exit::Panicked(_) => {
                warn!(%service, %generation, reason = %exit, "instance ended");
                let crash = Crash::new(service, generation, exit, this.kind.rt.wall());
                let before = this.kind.last_crash.lock().replace(crash);
                drop(before);
            }
        }
        let exit = exit.kind();
        Self::on(this, Event::Exited { generation, exit });
    }

    /// Handles the end of a timer; a timer that fired too early is armed again.
    fn fired(this: &Arc<Self>, at: Instant) {
        let mut slot = this.slot.lock();
        let own = slot.timer.as_ref().is_some_and(|timer| timer.at == at);
        let timer = if own { slot.timer.take() } else { None };
        drop(slot);
        drop(timer);
        Self::on(this, Event::Timer);
    }

    /// Keeps a single timer task for the lifecycle's deadline, or no task without a deadline.
    fn arm(this: &Arc<Self>, slot: &mut Slot, afterwards: &mut Afterwards) {
        let armed = slot.timer.as_ref().map(|timer| timer.at);
        let deadline = planted::or(Bug::TimerKept, armed, slot.lifecycle.deadline());
        if armed == deadline {
            return;
        }
        afterwards.disarm = slot.timer.take().map(|timer| timer.abort);
        let Some(at) = deadline else {
            return;
        };
        let (abort, registration) = AbortHandle::new_pair();
        slot.timer = Some(Timer { at, abort });
        let entry = Arc::clone(this);
        let timer = Abortable::new(
            async move {
                entry.kind.rt.sleep_until(at).await;
                Self::fired(&entry, at);
            },
            registration,
        );
        afterwards.spawn.push(timer.map(drop).boxed());
    }
}

/// Reports the exit of an instance exactly once, after its inbox is gone: with the given exit, or
/// as aborted if the instance's task is dropped.
struct ExitGuard<R: Runtime> {
    entry: Arc<Entry<R>>,
    generation: Generation,
    /// `None` once the instance has taken it.
    inbox: Option<Result<Subscription, SubscribeError>>,
    reported: bool,
}

impl<R: Runtime> ExitGuard<R> {
    fn new(
        entry: Arc<Entry<R>>,
        generation: Generation,
        inbox: Result<Subscription, SubscribeError>,
    ) -> Self {
        Self {
            entry,
            generation,
            inbox: Some(inbox),
            reported: false,
        }
    }

    /// Runs the instance; to be called once.
    async fn run(&mut self, stop: Stop) -> Run {
        match self.inbox.take() {
            Some(Ok(inbox)) => self.entry.run(self.generation, inbox, stop).await,
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    fn exited(&mut self, exit: &Exit) {
        self.reported = true;
        drop(self.inbox.take());
        Entry::exited(&self.entry, self.generation, exit);
    }
}

impl<R: Runtime> Drop for ExitGuard<R> {
    fn drop(&mut self) {
        if !self.reported && !planted::is(Bug::DroppedNotReported) {
            self.exited(&Exit::Aborted);
        }
    }
}
