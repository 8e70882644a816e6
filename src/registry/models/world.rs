//! A registry whose tasks the model polls, and the bounds that it checks.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use loom::future::block_on;
use loom::thread;

use crate::bus::InMemoryMessageBus;
use crate::limits::Limits;
use crate::registry::*;
use crate::rt::{Clock, Instant, Random, Sleep, Spawn};
use crate::service::Context;
use crate::sync::Mutex;

/// A runtime whose tasks are polled by [`drive`].
#[derive(Clone)]
pub(super) struct ModelRt {
    pub(super) now: StdArc<AtomicU64>,
    pub(super) queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) tasks: VecDeque<BoxFuture<'static, ()>>,
    /// The number of client threads that are not done.
    pub(super) clients: usize,
    pub(super) driver: Option<Waker>,
}

impl ModelRt {
    pub(super) fn new(clients: usize) -> Self {
        let queue = Queue {
            clients,
            ..Queue::default()
        };
        Self {
            now: StdArc::default(),
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        change(&mut queue);
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Starts a client's thread, counted until it is done.
    pub(super) fn client(&self, run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        let rt = self.clone();
        thread::spawn(move || {
            run();
            rt.change(|queue| queue.clients -= 1);
        })
    }

    /// Polls the tasks until no client and no task is left.
    pub(super) fn drive(&self) {
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        block_on(poll_fn(|cx| {
            loop {
                let mut queue = self.queue.lock();
                queue.driver = Some(cx.waker().clone());
                let clients = queue.clients;
                let new: Vec<_> = queue.tasks.drain(..).collect();
                drop(queue);
                let idle = new.is_empty();
                tasks.extend(new);
                tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                if idle {
                    let done = clients == 0 && tasks.is_empty();
                    return if done { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        }));
    }
}

/// Waits until a client is asked to leave.
pub(super) fn until_draining(lease: &mut Lease<ModelRt>) {
    let mut seen = lease.status();
    while !matches!(seen, Status::Draining(_)) {
        seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
    }
}

impl Clock for ModelRt {
    fn now(&self) -> Instant {
        Instant::from_start(Duration::from_nanos(self.now.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        let now = StdArc::clone(&self.now);
        Box::pin(async move {
            let at = u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX);
            now.fetch_max(at, Ordering::SeqCst);
        })
    }
}

impl Spawn for ModelRt {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.change(|queue| queue.tasks.push_back(future));
    }
}

impl Random for ModelRt {
    fn random(&self) -> u64 {
        7
    }
}

/// The behaviour of a modelled service.
#[derive(Clone, Copy)]
pub(super) enum Behaviour {
    /// Every instance returns when told to stop.
    Obeys,
    /// The first instance fails at once; the others return when told to stop.
    FailsFirst,
}

/// A service, and the number of its running instances.
pub(super) struct World {
    pub(super) rt: ModelRt,
    pub(super) registry: Registry<ModelRt>,
    pub(super) running: StdArc<AtomicUsize>,
    pub(super) leases: StdArc<Leases>,
}

/// The leases as their holders count them.
///
/// A holder joins or leaves at some moment between its two counts, so that the service's own count
/// lies between two bounds.
#[derive(Default)]
pub(super) struct Leases {
    pub(super) joining: AtomicUsize,
    pub(super) joined: AtomicUsize,
    pub(super) leaving: AtomicUsize,
    pub(super) left: AtomicUsize,
}

impl Leases {
    pub(super) fn join(&self, registry: &Registry<ModelRt>) -> Result<Lease<ModelRt>, JoinError> {
        self.joining.fetch_add(1, Ordering::SeqCst);
        let joined = registry.join("s");
        let counts = if joined.is_ok() {
            &self.joined
        } else {
            // A refused join is counted as left: no lease exists for it.
            &self.left
        };
        counts.fetch_add(1, Ordering::SeqCst);
        joined
    }

    pub(super) fn leave(&self, lease: Lease<ModelRt>) {
        self.leaving.fetch_add(1, Ordering::SeqCst);
        drop(lease);
        self.left.fetch_add(1, Ordering::SeqCst);
    }

    /// Checks that the reference count is the number of live leases, and that a holder of a lease
    /// has an instance, unless that has crashed.
    pub(super) fn check(&self, registry: &Registry<ModelRt>) {
        let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let (joined, left) = (load(&self.joined), load(&self.left));
        let status = registry.status("s").expect("registered");
        let (joining, leaving) = (load(&self.joining), load(&self.leaving));
        let clients = status.clients;
        assert!(
            clients + leaving >= joined,
            "a lease is not counted: {status:?}"
        );
        assert!(
            clients + left <= joining,
            "a lease is counted twice: {status:?}"
        );
        let instances = status.counts.starts - status.counts.exits;
        assert!(instances <= 1, "a second instance: {status:?}");
        let crashed = matches!(status.state, State::Backoff { .. } | State::Failed { .. });
        assert!(
            clients == 0 || instances == 1 || crashed,
            "nobody serves them: {status:?}"
        );
    }
}

pub(super) fn bus() -> StdArc<dyn MessageBus> {
    let limits = Limits::default();
    StdArc::new(InMemoryMessageBus::new(limits.window, limits.topics))
}

/// A registry with this registration, as `s`.
pub(super) fn registry(
    registration: Registration,
    bus: &StdArc<dyn MessageBus>,
    rt: &ModelRt,
) -> Registry<ModelRt> {
    let name: ServiceName = "s".parse().expect("a valid name");
    let bounds = RoomBounds::of(&Limits::default());
    Registry::new(BTreeMap::from([(name, registration)]), bounds, bus, rt)
}

impl World {
    pub(super) fn new(clients: usize, linger: Duration, behaviour: Behaviour) -> Self {
        Self::of(clients, linger, behaviour, false)
    }

    /// A world with a kind of rooms instead of a service.
    pub(super) fn with_rooms(clients: usize) -> Self {
        Self::of(clients, Duration::ZERO, Behaviour::Obeys, true)
    }

    pub(super) fn of(
        clients: usize,
        linger: Duration,
        behaviour: Behaviour,
        has_rooms: bool,
    ) -> Self {
        let rt = ModelRt::new(clients);
        let running = StdArc::new(AtomicUsize::new(0));
        let counted = StdArc::clone(&running);
        let service = move |mut ctx: Context| {
            let running = Running::new(&counted);
            async move {
                let first = ctx.generation() == Generation::new(1);
                match behaviour {
                    Behaviour::FailsFirst if first => return Err("planned"),
                    Behaviour::Obeys | Behaviour::FailsFirst => {}
                }
                while ctx.recv().await.is_some() {}
                drop(running);
                Ok(())
            }
        };
        let registration = Registration {
            service: Some(StdArc::new(service)),
            policy: LifecyclePolicy {
                linger,
                ..LifecyclePolicy::default()
            },
            has_rooms,
            has_members: false,
            presence: PresencePolicy::default(),
        };
        Self {
            registry: registry(registration, &bus(), &rt),
            rt,
            running,
            leases: StdArc::default(),
        }
    }

    /// Starts a client that joins, waits to be served and leaves.
    pub(super) fn served_client(&self) -> thread::JoinHandle<()> {
        let registry = self.registry.clone();
        let leases = StdArc::clone(&self.leases);
        self.rt.client(move || {
            let mut lease = leases.join(&registry).expect("not refused");
            let since = lease.since();
            let mut seen = lease.status();
            while !matches!(seen, Status::Running(_)) {
                seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
            }
            assert!(matches!(seen, Status::Running(generation) if generation >= since));
            leases.check(&registry);
            leases.leave(lease);
        })
    }

    /// Starts such a client that polls as a session does: only once there is a change.
    pub(super) fn served_session(&self) -> thread::JoinHandle<()> {
        let registry = self.registry.clone();
        self.rt.client(move || {
            let mut lease = registry.join("s").expect("not refused");
            let mut seen = Status::Waiting;
            block_on(poll_fn(|cx| {
                while !lease.is_quiet()
                    && let Poll::Ready(status) = lease.poll_status(cx, seen)
                {
                    seen = status;
                }
                match seen {
                    Status::Running(by) if by > Generation::new(1) => Poll::Ready(()),
                    Status::Draining(_) | Status::Failed => panic!("nothing ends it: {seen:?}"),
                    Status::Running(_) | Status::Waiting => Poll::Pending,
                }
            }));
        })
    }

    /// Checks that nothing is left, and that every start had its exit.
    pub(super) fn assert_over(&self) -> LifecycleCounts {
        let status = self.registry.status("s").expect("registered");
        assert_eq!((status.state, status.clients), (State::Stopped, 0));
        assert_eq!(status.counts.starts, status.counts.exits);
        assert_eq!(self.running.load(Ordering::SeqCst), 0);
        status.counts
    }
}

/// Counts an instance while it exists, and checks that no other exists.
pub(super) struct Running(StdArc<AtomicUsize>);

impl Running {
    pub(super) fn new(count: &StdArc<AtomicUsize>) -> Self {
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "a second instance");
        Self(StdArc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
