//! loom models of the registry: clients that come and go against an instance that starts and ends.
//!
//! The model's main thread polls the tasks that the registry spawns; a timer fires at its first
//! poll and advances the clock. Each model names the bug it catches.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use loom::future::block_on;
use loom::thread;

use super::*;
use crate::bus::{ClientId, InMemoryMessageBus, Message, Origin, Topic};
use crate::client::identity::Identity;
use crate::limits::Limits;
use crate::rt::{Clock, Instant, Random, Sleep, Spawn};
use crate::service::{Context, Event as Told};
use crate::sync::{Mutex, model};

/// A runtime whose tasks are polled by [`drive`].
#[derive(Clone)]
struct ModelRt {
    now: StdArc<AtomicU64>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<BoxFuture<'static, ()>>,
    /// The number of client threads that are not done.
    clients: usize,
    driver: Option<Waker>,
}

impl ModelRt {
    fn new(clients: usize) -> Self {
        let queue = Queue {
            clients,
            ..Queue::default()
        };
        Self {
            now: StdArc::default(),
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        change(&mut queue);
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Starts a client's thread, counted until it is done.
    fn client(&self, run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        let rt = self.clone();
        thread::spawn(move || {
            run();
            rt.change(|queue| queue.clients -= 1);
        })
    }

    /// Polls the tasks until no client and no task is left.
    fn drive(&self) {
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
enum Behaviour {
    /// Every instance returns when told to stop.
    Obeys,
    /// The first instance fails at once; the others return when told to stop.
    FailsFirst,
}

/// A service, and the number of its running instances.
struct World {
    rt: ModelRt,
    registry: Registry<ModelRt>,
    running: StdArc<AtomicUsize>,
    leases: StdArc<Leases>,
}

/// The leases as their holders count them.
///
/// A holder joins or leaves at some moment between its two counts, so that the service's own count
/// lies between two bounds.
#[derive(Default)]
struct Leases {
    joining: AtomicUsize,
    joined: AtomicUsize,
    leaving: AtomicUsize,
    left: AtomicUsize,
}

impl Leases {
    fn join(&self, registry: &Registry<ModelRt>) -> Result<Lease<ModelRt>, JoinError> {
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

    fn leave(&self, lease: Lease<ModelRt>) {
        self.leaving.fetch_add(1, Ordering::SeqCst);
        drop(lease);
        self.left.fetch_add(1, Ordering::SeqCst);
    }

    /// Checks that the reference count is the number of live leases, and that a holder of a lease
    /// has an instance, unless that has crashed.
    fn check(&self, registry: &Registry<ModelRt>) {
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

fn bus() -> StdArc<dyn MessageBus> {
    let limits = Limits::default();
    StdArc::new(InMemoryMessageBus::new(limits.window, limits.topics))
}

/// A registry with this registration, as `s`.
fn registry(
    registration: Registration,
    bus: &StdArc<dyn MessageBus>,
    rt: &ModelRt,
) -> Registry<ModelRt> {
    let name: ServiceName = "s".parse().expect("a valid name");
    let bounds = RoomBounds::of(&Limits::default());
    Registry::new(BTreeMap::from([(name, registration)]), bounds, bus, rt)
}

impl World {
    fn new(clients: usize, linger: Duration, behaviour: Behaviour) -> Self {
        Self::of(clients, linger, behaviour, false)
    }

    /// A world with a kind of rooms instead of a service.
    fn with_rooms(clients: usize) -> Self {
        Self::of(clients, Duration::ZERO, Behaviour::Obeys, true)
    }

    fn of(clients: usize, linger: Duration, behaviour: Behaviour, has_rooms: bool) -> Self {
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
        };
        Self {
            registry: registry(registration, &bus(), &rt),
            rt,
            running,
            leases: StdArc::default(),
        }
    }

    /// Starts a client that joins, waits to be served and leaves.
    fn served_client(&self) -> thread::JoinHandle<()> {
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
    fn served_session(&self) -> thread::JoinHandle<()> {
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
    fn assert_over(&self) -> LifecycleCounts {
        let status = self.registry.status("s").expect("registered");
        assert_eq!((status.state, status.clients), (State::Stopped, 0));
        assert_eq!(status.counts.starts, status.counts.exits);
        assert_eq!(self.running.load(Ordering::SeqCst), 0);
        status.counts
    }
}

/// Counts an instance while it exists, and checks that no other exists.
struct Running(StdArc<AtomicUsize>);

impl Running {
    fn new(count: &StdArc<AtomicUsize>) -> Self {
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "a second instance");
        Self(StdArc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// 2 clients x (join, wait to be served, leave) against the instance's start and exit; bound 2.
///
/// Catches: a start or stop outside of the lock (two instances, or none), a release that counts
/// twice, a client that is bound to a dying instance, a status change that wakes no watcher.
#[test]
fn clients_that_come_and_go_are_all_served_by_one_instance_at_a_time() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let clients = [world.served_client(), world.served_client()];
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        let counts = world.assert_over();
        assert!((1..=2).contains(&counts.starts), "{counts:?}");
        assert_eq!(counts.crashes, 0, "{counts:?}");
    });
}

/// 2 clients as above, with an instance that lingers, whose timer fires at once; bound 2.
///
/// Catches: a timer that is not disarmed by a join, and a stale timer that is taken for a new one.
#[test]
fn a_join_that_races_the_end_of_the_linger_is_served() {
    model(Some(2), || {
        let world = World::new(2, Duration::from_secs(1), Behaviour::Obeys);
        let clients = [world.served_client(), world.served_client()];
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}

/// 1 client that comes and goes at once against 1 client that waits for an instance after the
/// first, which fails; bound 2.
///
/// Catches: a crash after which a waiting client gets no new instance, an exit of an old generation
/// that ends the new instance.
#[test]
fn a_client_is_served_after_the_crash_of_the_first_instance() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::FailsFirst);
        let (registry, leases) = (world.registry.clone(), StdArc::clone(&world.leases));
        let passer = world.rt.client(move || {
            let lease = leases.join(&registry).expect("not refused");
            leases.leave(lease);
        });
        let (registry, leases) = (world.registry.clone(), StdArc::clone(&world.leases));
        let stayer = world.rt.client(move || {
            let mut lease = leases.join(&registry).expect("not refused");
            let mut seen = lease.status();
            let served = |seen| matches!(seen, Status::Running(by) if by > Generation::new(1));
            while !served(seen) {
                seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
            }
            leases.leave(lease);
        });
        world.rt.drive();
        for client in [passer, stayer] {
            client.join().expect("no panic");
        }
        let counts = world.assert_over();
        assert!(counts.crashes <= 1 && counts.starts >= 2, "{counts:?}");
    });
}

/// 1 session that polls only after a change, while its first instance fails; bound 3.
///
/// Catches: a watcher that notes that it is parked after it has unlocked, so that it takes a change
/// in between for one that it has seen.
#[test]
fn a_session_that_asks_only_for_news_misses_none() {
    model(Some(3), || {
        let world = World::new(1, Duration::ZERO, Behaviour::FailsFirst);
        let session = world.served_session();
        world.rt.drive();
        session.join().expect("no panic");
        world.assert_over();
    });
}

/// A client waits, in a drain, until all remaining clients have arrived, against a client that
/// leaves without having arrived; an arrived client has left before. Bound 2.
///
/// Catches: a client that leaves without a wake for the waiting client, a client that has left and
/// still counts as arrived, and a wait that is over too early.
#[test]
fn who_waits_for_all_to_arrive_is_woken_by_the_last_one() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let [mut waits, mut arrived, last] =
            [(); 3].map(|()| world.registry.join("s").expect("not refused"));
        world.registry.drain();
        arrived.arrived();
        drop(arrived);
        let is_left = StdArc::new(AtomicUsize::new(1));
        let left = StdArc::clone(&is_left);
        let waiter = world.rt.client(move || {
            waits.arrived();
            block_on(poll_fn(|cx| waits.poll_all_arrived(cx)));
            assert_eq!(left.load(Ordering::SeqCst), 0, "too early");
        });
        let leaver = world.rt.client(move || {
            is_left.store(0, Ordering::SeqCst);
            drop(last);
        });
        world.rt.drive();
        for client in [waiter, leaver] {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}

/// A drain against a join; bound 2.
///
/// Catches: a lease given out after the drain has looked at the leases, and a waiting `drained`
/// that is not woken.
#[test]
fn no_lease_survives_a_finished_drain() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let registry = world.registry.clone();
        let joiner = world.rt.client(move || {
            if let Ok(mut lease) = registry.join("s") {
                let mut seen = lease.status();
                while !matches!(seen, Status::Draining(_)) {
                    seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
                }
            }
        });
        let registry = world.registry.clone();
        let drainer = world.rt.client(move || {
            registry.drain();
            block_on(registry.drained());
            let status = registry.status("s").expect("registered");
            assert!(status.is_idle(), "{status:?}");
            assert!(registry.join("s").is_err(), "still joinable");
        });
        world.rt.drive();
        for client in [joiner, drainer] {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}

/// 2 clients x (join a room, wait to be served, leave) against the making and the removal of the
/// room; bound 2.
///
/// Catches: a room that is made twice, a client that joins a room that is over, a room that is
/// removed under a client, a permit or an entry that is kept, a generation that does not rise.
#[test]
fn clients_of_a_room_share_one_room_or_have_one_after_the_other() {
    model(Some(2), || {
        let world = World::with_rooms(2);
        let clients = [(); 2].map(|()| {
            let registry = world.registry.clone();
            world.rt.client(move || {
                let room = registry.room("s", Some("k")).expect("a key");
                let joined = registry.join_room(&room, &Peer::default(), None);
                let mut lease = joined.expect("not refused");
                let mut seen = lease.status();
                while !matches!(seen, Status::Running(_)) {
                    seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
                }
                assert!(seen.generation() >= Some(lease.since()));
                let there = registry.room_status(&room).expect("a client is in it");
                assert_eq!(Some(there.generation), seen.generation(), "another room");
            })
        });
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        assert_eq!(world.running.load(Ordering::SeqCst), 0);
        assert_eq!(world.registry.rooms_open(), 0, "a permit is kept");
        let status = world.registry.kind_status("s").expect("registered");
        assert_eq!((status.rooms, status.clients), (0, 0), "a room is kept");
        assert_eq!(status.counts.starts, status.counts.exits);
        assert!((1..=2).contains(&status.counts.starts), "{status:?}");
    });
}

/// A drain against the making of a room; bound 2.
///
/// Catches: a room that is made after the drain has looked at the rooms.
#[test]
fn no_room_is_made_behind_a_drain() {
    model(Some(2), || {
        let world = World::with_rooms(2);
        let registry = world.registry.clone();
        let joiner = world.rt.client(move || {
            let room = registry.room("s", Some("k")).expect("a key");
            if let Ok(mut lease) = registry.join_room(&room, &Peer::default(), None) {
                let mut seen = lease.status();
                while !matches!(seen, Status::Draining(_)) {
                    seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
                }
            }
        });
        let registry = world.registry.clone();
        let drainer = world.rt.client(move || {
            registry.drain();
            block_on(registry.drained());
            let status = registry.kind_status("s").expect("registered");
            assert!(status.is_idle(), "{status:?}");
        });
        world.rt.drive();
        for client in [joiner, drainer] {
            client.join().expect("no panic");
        }
        assert_eq!(world.registry.rooms_open(), 0, "a room is kept");
    });
}

/// A client that joins, says something and leaves, against an instance that receives the events of
/// its room and runs for another client; bound 2.
///
/// Catches: a message that is received before the join of its client, a leave that is told before
/// the message, and a change that wakes no waiting instance.
#[test]
fn an_instance_is_told_of_a_client_before_and_after_its_message() {
    model(Some(2), || {
        let (rt, bus) = (ModelRt::new(1), bus());
        let seen = StdArc::new(AtomicUsize::new(0));
        let counted = StdArc::clone(&seen);
        let service = move |mut ctx: Context| {
            let seen = StdArc::clone(&counted);
            async move {
                while let Some(event) = ctx.event().await {
                    // Each event must be the next of these three.
                    let (next, client) = match event {
                        Told::Joined(client) => (0, client),
                        Told::Message(client, _message) => (1, client),
                        Told::Left(client, _reason) => (2, client),
                    };
                    // The client that was there at the start leaves at any time.
                    if client.id() == ClientId::new(2) {
                        assert_eq!(seen.fetch_add(1, Ordering::SeqCst), next);
                    }
                }
            }
        };
        let registration = Registration {
            service: Some(StdArc::new(service)),
            policy: LifecyclePolicy::default(),
            has_rooms: true,
            has_members: true,
        };
        let registry = registry(registration, &bus, &rt);
        let room = registry.room("s", Some("k")).expect("a key");
        let join = |id| {
            let topic = Topic::from_service_to_client(&room, ClientId::new(id));
            let client = Client::new(ClientId::new(id), Identity::anonymous(), topic);
            let lease = registry.join_room(&room, &Peer::default(), Some(&client));
            (lease.expect("not refused"), client)
        };
        let (stays, _first) = join(1);
        let (mut lease, client) = join(2);
        let talks = rt.client(move || {
            lease.publishes();
            let said = Message::text("a").from_origin(Origin::Client(client));
            bus.publish(lease.inbox(), said.into());
            drop(lease);
            drop(stays);
        });
        rt.drive();
        talks.join().expect("no panic");
        assert_eq!(seen.load(Ordering::SeqCst), 3);
        assert_eq!(registry.rooms_open(), 0);
    });
}

/// The last client says something and leaves, against an instance that receives; bound 3.
///
/// Catches: an instance that takes the word to stop for the end of its messages, although a message
/// came between its look at the inbox and its look for the word.
#[test]
fn an_instance_receives_the_last_message_of_its_last_client() {
    model(Some(3), || {
        let (rt, bus) = (ModelRt::new(1), bus());
        let heard = StdArc::new(AtomicUsize::new(0));
        let counted = StdArc::clone(&heard);
        let service = move |mut ctx: Context| {
            let heard = StdArc::clone(&counted);
            async move {
                while ctx.recv().await.is_some() {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let registration = Registration {
            service: Some(StdArc::new(service)),
            policy: LifecyclePolicy::default(),
            has_rooms: false,
            has_members: false,
        };
        let registry = registry(registration, &bus, &rt);
        let lease = registry.join("s").expect("not refused");
        let talks = rt.client(move || {
            bus.publish(lease.inbox(), Message::text("a").into());
            drop(lease);
        });
        rt.drive();
        talks.join().expect("no panic");
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    });
}
