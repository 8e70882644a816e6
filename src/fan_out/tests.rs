//! Fan-outs with sockets and a runtime that a test controls.

use std::task::Waker;
use std::time::{Duration, SystemTime};

use super::*;
use crate::bus::{Batch, Generation, Message, MessageBus, Origin, Received, Tapped};
use crate::limits::Window;
use crate::rt::{Clock, Random, Sleep, Spawn};
use crate::sync::{AtomicU64, Ordering};

/// A runtime whose tasks run when a test polls them.
#[derive(Clone)]
struct Still {
    list: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
    /// The number of readings of the clock, each of which takes a microsecond.
    looks: Arc<AtomicU64>,
}

impl Still {
    fn new() -> Self {
        Self {
            list: Arc::new(Mutex::new(Vec::new())),
            looks: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Polls every task once.
    fn turn(&self) {
        let tasks = std::mem::take(&mut *self.list.lock());
        let mut cx = Context::from_waker(Waker::noop());
        for mut task in tasks {
            if task.as_mut().poll(&mut cx).is_pending() {
                self.list.lock().push(task);
            }
        }
    }

    fn tasks(&self) -> usize {
        self.list.lock().len()
    }
}

impl Clock for Still {
    fn now(&self) -> Instant {
        let looks = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        Instant::from_start(Duration::from_micros(looks))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, _at: Instant) -> Sleep {
        Box::pin(std::future::pending())
    }
}

impl Spawn for Still {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.list.lock().push(future);
    }

    fn worker(&self) -> Option<WorkerId> {
        Some(WorkerId(7))
    }
}

impl Random for Still {
    fn random(&self) -> u64 {
        0
    }
}

/// A socket that takes a given number of further bursts.
struct Socket(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    room: usize,
    messages: usize,
    is_released: bool,
    wakes: usize,
    panics: bool,
    /// Whether the socket counts its writes itself.
    counts: bool,
    /// The number of messages kept after a panic.
    kept: usize,
}

impl Socket {
    fn of(room: usize) -> Self {
        Self(Mutex::new(Taken {
            room,
            ..Taken::default()
        }))
    }
}

impl Sink for Socket {
    fn write(&self, burst: &Arc<Burst>, _metrics: &Metrics, _now: Instant) -> Written {
        let mut taken = self.0.lock();
        assert!(!taken.panics, "on purpose");
        taken.messages += burst.messages();
        match taken.room.checked_sub(1) {
            Some(room) => {
                taken.room = room;
                if taken.counts {
                    Written::Counted
                } else {
                    Written::Uncounted
                }
            }
            None => Written::Incomplete,
        }
    }

    fn keep(&self, burst: &Arc<Burst>) {
        self.0.lock().kept += burst.messages();
    }

    fn release(&self) {
        self.0.lock().is_released = true;
    }

    fn wake(&self) {
        self.0.lock().wakes += 1;
    }
}

struct World {
    rt: Still,
    bus: InMemoryMessageBus,
    fan_outs: FanOuts<Still>,
    metrics: Arc<Shards<Metrics>>,
    /// The number of the next client.
    clients: AtomicU64,
}

fn topic() -> Topic {
    "t".parse().expect("a valid name")
}

impl World {
    fn new() -> Self {
        let rt = Still::new();
        let bus = InMemoryMessageBus::new(Window::default(), 8);
        let metrics = Arc::<Shards<Metrics>>::default();
        let fan_outs = FanOuts::new(rt.clone(), bus.clone(), Arc::clone(&metrics));
        Self {
            rt,
            bus,
            fan_outs,
            metrics,
            clients: AtomicU64::new(0),
        }
    }

    /// Adds a subscriber whose socket takes `room` bursts.
    fn follow(&self, room: usize) -> (Arc<Socket>, Membership) {
        self.follow_with(room, 100)
    }

    fn follow_with(&self, room: usize, bytes_max: usize) -> (Arc<Socket>, Membership) {
        self.follow_since(room, bytes_max, 2)
    }

    /// Adds a subscriber that was admitted to generation `since`.
    fn follow_since(&self, room: usize, bytes_max: usize, since: u64) -> (Arc<Socket>, Membership) {
        let socket = Arc::new(Socket::of(room));
        let client = self.clients.fetch_add(1, Ordering::SeqCst);
        let subscriber = Subscriber {
            client: ClientId::new(client),
            sink: Arc::clone(&socket) as Arc<dyn Sink>,
            subscription: self.bus.subscribe(&topic()).expect("there is room"),
            filter: BurstFilter {
                bytes_max,
                since: Generation::new(since),
            },
        };
        let membership = self
            .fan_outs
            .join(subscriber)
            .map_err(|_| ())
            .expect("it may follow");
        (socket, membership)
    }

    fn publish(&self, texts: &[&str]) {
        for text in texts {
            self.bus.publish(&topic(), (*text).into());
        }
    }

    fn pending(&self) -> u64 {
        self.bus.counts().messages.pending
    }
}

fn taken(socket: &Socket) -> (usize, bool, usize) {
    let taken = socket.0.lock();
    (taken.messages, taken.is_released, taken.wakes)
}

/// The texts of the messages that a subscription has to receive.
fn texts(subscription: &mut Subscription) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut texts = Vec::new();
    while let Poll::Ready(Received::Message(message)) = subscription.poll_recv(&mut cx) {
        texts.extend(message.as_text().map(str::to_owned));
    }
    texts
}

#[test]
fn all_who_keep_up_are_given_what_there_is_and_none_is_woken() {
    let world = World::new();
    let members = [(); 3].map(|()| world.follow(9));
    assert_eq!(world.rt.tasks(), 1, "one task for all");
    world.publish(&["a", "b"]);
    world.rt.turn();
    world.publish(&["c"]);
    world.rt.turn();
    world.rt.turn();
    for (socket, _) in &members {
        assert_eq!(taken(socket), (3, false, 0));
    }
    assert_eq!(world.pending(), 0);
}

#[test]
fn who_is_behind_goes_on_by_itself_with_what_comes_after() {
    let world = World::new();
    let (slow, slow_member) = world.follow(1);
    let (fast, _fast_member) = world.follow(9);
    for text in ["a", "b", "c"] {
        world.publish(&[text]);
        world.rt.turn();
    }
    assert_eq!(taken(&fast), (3, false, 0));
    assert_eq!(
        taken(&slow),
        (2, true, 1),
        "the second is its session's matter"
    );
    let mut subscription = slow_member.leave().expect("it was lent");
    assert_eq!(texts(&mut subscription), ["c"]);
}

#[test]
fn who_leaves_gets_what_the_others_get_after_it_by_itself() {
    let world = World::new();
    let (socket, membership) = world.follow(9);
    let (_, other) = world.follow(9);
    world.publish(&["a"]);
    world.rt.turn();
    world.publish(&["b"]);
    let mut subscription = membership.leave().expect("it was lent");
    world.rt.turn();
    assert_eq!(taken(&socket), (1, false, 0));
    assert_eq!(texts(&mut subscription), ["b"]);
    drop(other);
    world.rt.turn();
    assert_eq!(world.rt.tasks(), 0, "the last one ends the fan-out");
    assert!(
        world.fan_outs.map.lock().is_empty(),
        "nothing of it is left"
    );
    drop(subscription);
    assert_eq!(world.bus.counts().topics, 0);
}

#[test]
fn what_does_not_suit_all_each_receives_by_itself() {
    let world = World::new();
    let (socket, membership) = world.follow(9);
    let stale = Message::text("old").from_origin(Origin::Service(Generation::new(1)));
    world.bus.publish(&topic(), stale.into());
    world.rt.turn();
    assert_eq!(taken(&socket), (0, true, 1));
    assert_eq!(world.rt.tasks(), 0);
    assert_eq!(
        texts(&mut membership.leave().expect("it was lent")),
        ["old"]
    );

    let (socket, membership) = world.follow_with(9, 10);
    world.publish(&["12345", "123456"]);
    world.rt.turn();
    assert_eq!(taken(&socket), (0, true, 1), "more than is written at once");
    drop(membership);
}

#[test]
fn what_an_older_instance_says_is_given_to_nobody_once_a_newer_client_follows() {
    for (newer, given) in [(2, 1), (3, 0)] {
        let world = World::new();
        let (older, _older_member) = world.follow(9);
        let (socket, membership) = world.follow_since(9, 100, newer);
        let by_older = Message::text("a").from_origin(Origin::Service(Generation::new(2)));
        world.bus.publish(&topic(), by_older.into());
        world.rt.turn();
        // The session of each subscriber then decides which messages its client receives.
        let is_released = given == 0;
        let expected = (given, is_released, usize::from(is_released));
        assert_eq!([&older, &socket].map(|socket| taken(socket)), [expected; 2]);
        let mut subscription = membership.leave().expect("it was lent");
        assert_eq!(texts(&mut subscription).len(), 1 - given);
    }
}

#[test]
fn who_stands_elsewhere_joins_once_it_stands_where_the_others_do() {
    let world = World::new();
    let (first, _member) = world.follow(9);
    world.publish(&["a"]);
    let socket = Arc::new(Socket::of(9));
    let subscriber = Subscriber {
        client: ClientId::new(1),
        sink: Arc::clone(&socket) as Arc<dyn Sink>,
        subscription: world.bus.subscribe(&topic()).expect("there is room"),
        filter: BurstFilter {
            bytes_max: 100,
            since: Generation::new(1),
        },
    };
    let Err(subscriber) = world.fan_outs.join(subscriber) else {
        panic!("the others still have something to receive");
    };
    assert_eq!(
        world.rt.tasks(),
        1,
        "it waits rather than follow another fan-out"
    );
    world.rt.turn();
    let Ok(_member) = world.fan_outs.join(subscriber) else {
        panic!("all stand at one place");
    };
    world.publish(&["b"]);
    world.rt.turn();
    assert_eq!((taken(&first).0, taken(&socket).0), (2, 1));
}

#[test]
fn a_client_that_is_tapped_goes_on_by_itself_and_the_others_do_not() {
    let world = World::new();
    let [(tapped, membership), (other, _other)] = [(); 2].map(|()| world.follow(9));
    world.publish(&["a"]);
    world.rt.turn();
    let client = ClientId::new(0);
    let taps = [Tapped::Client(ClientId::new(999)), Tapped::Topic(topic())];
    let taps = taps.map(|tapped| world.bus.tap(tapped).expect("there is room"));
    world.publish(&["b"]);
    world.rt.turn();
    assert_eq!(taken(&tapped), (2, false, 0), "other taps change nothing");
    let tap = world
        .bus
        .tap(Tapped::Client(client))
        .expect("there is room");
    world.publish(&["c"]);
    world.rt.turn();
    assert_eq!(taken(&tapped), (2, true, 1));
    assert_eq!(taken(&other), (3, false, 0));
    let mut subscription = membership.leave().expect("it was lent");
    assert_eq!(texts(&mut subscription), ["c"], "its session receives it");
    drop((tap, taps));
}

#[test]
fn a_fan_out_is_full_at_its_limit_and_the_next_one_has_another() {
    let world = World::new();
    let mut members: Vec<_> = (0..SUBSCRIBERS_MAX).map(|_| world.follow(1)).collect();
    assert_eq!(world.rt.tasks(), 1);
    let (socket, _member) = world.follow(1);
    assert_eq!(world.rt.tasks(), 2);
    world.publish(&["a"]);
    world.rt.turn();
    assert_eq!(taken(&socket), (1, false, 0));
    let all = members
        .iter()
        .all(|(socket, _)| taken(socket) == (1, false, 0));
    assert!(all);
    let _rest: Vec<_> = (1..SUBSCRIBERS_MAX).map(|_| world.follow(1)).collect();
    assert_eq!(world.rt.tasks(), 2);
    members.pop();
    let _in_its_place = world.follow(1);
    assert_eq!(world.rt.tasks(), 2, "an older one has room");
    let _one_too_many = world.follow(1);
    assert_eq!(world.rt.tasks(), 3);
}

#[test]
fn a_fan_out_whose_task_is_dropped_gives_all_back() {
    let world = World::new();
    let (socket, membership) = world.follow(9);
    drop(std::mem::take(&mut *world.rt.list.lock()));
    assert_eq!(taken(&socket), (0, true, 1));
    world.publish(&["a"]);
    assert_eq!(texts(&mut membership.leave().expect("it was lent")), ["a"]);
    let (socket, _member) = world.follow(9);
    world.publish(&["b"]);
    world.rt.turn();
    assert_eq!(taken(&socket), (1, false, 0), "the next has a new one");
}

#[test]
fn where_tasks_run_at_no_one_place_nobody_follows() {
    #[derive(Clone)]
    struct Anywhere(Still);
    impl Clock for Anywhere {
        fn now(&self) -> Instant {
            self.0.now()
        }
        fn wall(&self) -> SystemTime {
            self.0.wall()
        }
        fn sleep_until(&self, at: Instant) -> Sleep {
            self.0.sleep_until(at)
        }
    }
    impl Spawn for Anywhere {
        fn spawn(&self, future: BoxFuture<'static, ()>) {
            self.0.spawn(future);
        }
    }
    impl Random for Anywhere {
        fn random(&self) -> u64 {
            0
        }
    }
    let bus = InMemoryMessageBus::new(Window::default(), 8);
    let fan_outs = FanOuts::new(Anywhere(Still::new()), bus.clone(), Arc::default());
    let subscriber = Subscriber {
        client: ClientId::new(1),
        sink: Arc::new(Socket::of(0)),
        subscription: bus.subscribe(&topic()).expect("there is room"),
        filter: BurstFilter {
            bytes_max: 100,
            since: Generation::new(1),
        },
    };
    assert!(fan_outs.join(subscriber).is_err());
}

#[test]
fn a_fan_out_without_subscribers_takes_nobody_who_stands_behind_it() {
    let world = World::new();
    let (_socket, _member) = world.follow(0);
    let late = Subscriber {
        client: ClientId::new(1),
        sink: Arc::new(Socket::of(9)),
        subscription: world.bus.subscribe(&topic()).expect("there is room"),
        filter: BurstFilter {
            bytes_max: 100,
            since: Generation::new(1),
        },
    };
    world.publish(&["a"]);
    world.rt.turn();
    // The other subscriber is behind, and messages that are published already wake the fan-out no
    // more.
    let Err(mut late) = world.fan_outs.join(late) else {
        panic!("it would wait for what comes after that");
    };
    assert_eq!(texts(&mut late.subscription), ["a"]);
    assert!(
        world.fan_outs.join(late).is_ok(),
        "now it stands where the fan-out does"
    );
}

#[test]
fn a_socket_that_panics_keeps_nothing_from_the_others() {
    let world = World::new();
    let members = [(); 3].map(|()| world.follow(9));
    members[1].0.0.lock().panics = true;
    world.publish(&["a"]);
    world.rt.turn();
    world.publish(&["b"]);
    world.rt.turn();
    let told = members.each_ref().map(|(socket, _)| taken(socket));
    assert_eq!(told, [(2, false, 0), (0, true, 1), (2, false, 0)]);
    let kept = members.each_ref().map(|(socket, _)| socket.0.lock().kept);
    assert_eq!(kept, [0, 1, 0], "what it was not given is its session's");
}

#[test]
fn a_fan_is_forgotten_with_its_last_member_and_others_of_its_topic_are_not() {
    let world = World::new();
    let first = world.follow(1);
    let other = world.follow_with(1, 50);
    assert_eq!(world.rt.tasks(), 2, "they are written different amounts");
    let fan_outs = || {
        world
            .fan_outs
            .map
            .lock()
            .values()
            .map(Vec::len)
            .sum::<usize>()
    };
    assert_eq!(fan_outs(), 2);
    drop(first);
    assert_eq!(fan_outs(), 1);
    drop(other);
    assert!(world.fan_outs.map.lock().is_empty());
}

#[test]
fn what_has_passed_is_counted_and_nothing_twice() {
    let world = World::new();
    let slots: Vec<_> = (0..2 * WRITES_PER_TIME + 1)
        .map(|_| world.follow(1))
        .collect();
    slots[0].0.0.lock().counts = true;
    slots[1].0.0.lock().room = 0;
    let message = Batch::from("a").stamped(Origin::Unknown, Instant::ZERO);
    world.bus.publish(&topic(), message);
    world.rt.turn();
    let counts = world.metrics.counts();
    let passed = slots.len() as u64 - 2;
    assert_eq!(
        (counts.messages_out, counts.bytes_out),
        (passed, 3 * passed)
    );
    assert_eq!(counts.written_after.count(), passed);
    // The first reading of the clock serves `at_once` writes, two of which are not counted here;
    // the second serves as many, and the third a single write.
    let at_once = WRITES_PER_TIME as u64;
    let took = Duration::from_micros((at_once - 2) + at_once * 2 + 3);
    assert_eq!(counts.written_after.sum, took);
}
