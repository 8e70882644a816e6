//! A service: applies events to its [`Lifecycle`] and carries out the effects.
//!
//! An event is applied, and an instance is prepared, under the service's lock. Spawning, aborting
//! and waking happen after the lock is released, so the effects of two events may be carried out in
//! any order. An instance may therefore be told to stop before its task is spawned; no instance can
//! exit before that, as its task reports the exit.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::panic::AssertUnwindSafe;
use std::sync::Arc as StdArc;

use futures::future::{AbortHandle, Abortable, BoxFuture, FutureExt};
use tracing::{debug, error, warn};

use super::Registration;
use super::exit::{Crash, Exit, Run};
use super::lifecycle::{Effect, Event, Lifecycle, Refusal, State};
use super::placement::{Placement, Spot};
use super::status::Status;
use crate::bus::{Generation, MessageBus, ServiceName, SubscribeError, Subscription, Topic};
use crate::limits::BLOCKED_AFTER;
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime, WorkerId};
use crate::service::{Context, Seed, Service, Stop};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Waiters};

/// A registered service.
pub(crate) struct Entry<R: Runtime> {
    pub(super) name: ServiceName,
    pub(super) inbox: Topic,
    service: StdArc<dyn Service>,
    bus: StdArc<dyn MessageBus>,
    rt: R,
    /// The number of polls that kept the thread from other tasks for too long.
    pub(super) blocked: AtomicU64,
    /// The number of times that the watchers were woken, plus one; raised under the lock, before
    /// the watchers are woken.
    changes: AtomicU64,
    pub(super) slot: Mutex<Slot>,
}

/// The data behind the lock of a service.
pub(super) struct Slot {
    pub(super) lifecycle: Lifecycle,
    placement: Placement,
    pub(super) last_crash: Option<Crash>,
    instance: Option<Instance>,
    timer: Option<Timer>,
    pub(super) watchers: Waiters,
}

impl Slot {
    fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            placement: Placement::default(),
            last_crash: None,
            instance: None,
            timer: None,
            watchers: Waiters::default(),
        }
    }

    /// Checks the instance and the timer against the lifecycle, in builds with debug assertions.
    fn check(&self) {
        let state = self.lifecycle.state();
        debug_assert!(
            self.instance.is_some() == self.lifecycle.has_instance(),
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
    /// The reason of a refusal; only a join can be refused.
    refused: Option<Refusal>,
}

/// The consequences of an event, to be carried out once the lock is released.
#[derive(Default)]
struct Afterwards {
    abort: Option<AbortHandle>,
    disarm: Option<AbortHandle>,
    stop: Option<Stop>,
    spawn: Vec<BoxFuture<'static, ()>>,
    exited: Option<Instance>,
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
        drop(self.exited);
    }
}

impl<R: Runtime> Entry<R> {
    pub(super) fn new(
        name: ServiceName,
        registration: Registration,
        bus: &StdArc<dyn MessageBus>,
        rt: &R,
    ) -> Self {
        let Registration { service, policy } = registration;
        Self {
            inbox: Topic::from_ws_to_service(&name),
            name,
            service,
            bus: StdArc::clone(bus),
            blocked: AtomicU64::new(0),
            changes: AtomicU64::new(1),
            slot: Mutex::new(Slot::new(Lifecycle::new(policy, rt.random()))),
            rt: rt.clone(),
        }
    }

    /// A version number, which changes before the watchers are woken.
    #[inline]
    pub(super) fn changes(&self) -> Option<NonZeroU64> {
        // In one order with the increments: a woken task sees the increment that preceded its wake.
        NonZeroU64::new(self.changes.load(Ordering::SeqCst))
    }

    /// Joins a client; returns the oldest generation that serves it.
    pub(super) fn join(this: &Arc<Self>) -> Result<Generation, Refusal> {
        let turn = Self::on(this, Event::Join);
        turn.refused.map_or(Ok(turn.since), Err)
    }

    /// Chooses a home for a joined client; returns the home and the client's slot there.
    pub(super) fn place(&self, home_clients: usize) -> Option<(WorkerId, Spot)> {
        let accepted = self.rt.worker()?;
        Some(self.slot.lock().placement.enter(accepted, home_clients))
    }

    /// Applies an event and carries out its effect.
    pub(super) fn on(this: &Arc<Self>, event: Event) -> Turn {
        let now = this.rt.now();
        let mut slot = this.slot.lock();
        let before = (
            Status::of(&slot.lifecycle),
            slot.lifecycle.have_all_arrived(),
        );
        let state = slot.lifecycle.state();
        let generation = slot.lifecycle.generation();
        let since = slot.lifecycle.next_to_serve();
        let effect = slot.lifecycle.on(now, event);
        let mut afterwards = Afterwards::default();
        let refused = match effect {
            Some(Effect::Refuse(refusal)) => Some(refusal),
            Some(effect) => {
                Self::prepare(this, &mut slot, effect, &mut afterwards);
                None
            }
            None => None,
        };
        if !slot.lifecycle.has_instance() {
            afterwards.exited = slot.instance.take();
        }
        Self::arm(this, &mut slot, &mut afterwards);
        slot.check();
        let after = (
            Status::of(&slot.lifecycle),
            slot.lifecycle.have_all_arrived(),
        );
        let changed = after != before || slot.lifecycle.is_idle();
        let changed = planted::none(Bug::StatusWakesNobody, changed);
        let watchers = changed.then(|| {
            // Under the lock, and before the wakes: a watcher that parks reads `changes` under the
            // lock, so that it takes no later change for one it has seen.
            this.changes.fetch_add(1, Ordering::SeqCst);
            slot.watchers.unpark()
        });
        let (state_now, generation_now) = (slot.lifecycle.state(), slot.lifecycle.generation());
        drop(slot);
        if (state_now, generation_now) != (state, generation) {
            // A client that joins a lingering service starts nothing, which is not worth a line.
            if (state_now, generation_now) != (State::Running, generation) {
                this.log(state_now, generation_now);
            }
        }
        // With no lock held: wakers and tasks are foreign code, which may come back for the lock.
        watchers.unwrap_or_default().wake();
        afterwards.carry_out(&this.rt);
        Turn { since, refused }
    }

    fn prepare(this: &Arc<Self>, slot: &mut Slot, effect: Effect, afterwards: &mut Afterwards) {
        match effect {
            Effect::Abort(_) => {
                afterwards.abort = slot.instance.as_ref().map(|i| i.abort.clone());
            }
            Effect::Refuse(_) => {}
            Effect::Start(generation) => {
                let (instance, task) = Self::start(this, generation);
                afterwards.exited = slot.instance.replace(instance);
                slot.placement.starts(this.rt.worker());
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
        let inbox = this.bus.subscribe(&this.inbox);
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
            service: self.name.clone(),
            generation,
            inbox,
            stop,
        };
        let clock = StdArc::new(self.rt.clone());
        let context = Context::new(seed, StdArc::clone(&self.bus), clock);
        self.run_polls(self.service.run(context)).await
    }

    /// Polls an instance; warns if a poll blocks the thread, which the system cannot detect.
    async fn run_polls(&self, mut run: BoxFuture<'static, Run>) -> Run {
        poll_fn(|cx| {
            let begun = self.rt.now();
            let polled = run.as_mut().poll(cx);
            let took = self.rt.now().saturating_since(begun);
            if took >= BLOCKED_AFTER {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                let service = self.name.as_str();
                warn!(
                    service,
                    ?took,
                    "blocks its thread, and all who share it: spawn_blocking"
                );
            }
            polled
        })
        .await
    }

    pub(super) fn exited(this: &Arc<Self>, generation: Generation, exit: &Exit) {
        let service = this.name.as_str();
        match exit {
            Exit::Returned => debug!(service, %generation, "instance returned"),
            Exit::Aborted | Exit::Error(_) | Exit::Panicked(_) => {
                warn!(service, %generation, reason = %exit, "instance ended");
                let crash = Crash::new(generation, exit, this.rt.wall());
                this.slot.lock().last_crash = Some(crash);
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

    /// Logs the new state of the service.
    fn log(&self, state: State, generation: Generation) {
        let service = self.name.as_str();
        match state {
            State::Backoff { until } => {
                let wait = until.saturating_since(self.rt.now());
                warn!(
                    service,
                    ?wait,
                    "service crashed, it is started again after a wait"
                );
            }
            State::Failed { until } => {
                let wait = until.saturating_since(self.rt.now());
                error!(
                    service,
                    ?wait,
                    "service failed, it takes no clients for a while"
                );
            }
            State::Lingering { .. } => debug!(service, %generation, "service lingers"),
            State::Running => debug!(service, %generation, "service started"),
            State::Stopped => debug!(service, %generation, "service stopped"),
            State::Stopping { until: Some(_) } => debug!(service, %generation, "service stops"),
            State::Stopping { until: None } => {
                warn!(service, %generation, "service did not return in its grace, it is aborted");
            }
        }
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
                entry.rt.sleep_until(at).await;
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
