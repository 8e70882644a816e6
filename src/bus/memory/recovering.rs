//! Histories and recovery on the bus, one promise a test.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU64 as Clock, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use super::*;
use crate::bus::Subscription;
use crate::bus::{
    Epoch, HistoryError, Joined, Joining, Maker, Moment, Position, Reading, Received, Room, Since,
    Start, Why,
};
use crate::instant::Instant;
use crate::limits::{HistoryLimits, Retention};

/// A bus with histories, and the clock that it reads.
struct World {
    bus: InMemoryMessageBus,
    seconds: StdArc<Clock>,
}

impl World {
    fn new(window: usize, messages: usize, limits: HistoryLimits) -> Self {
        let seconds = StdArc::new(Clock::new(0));
        let clock = StdArc::clone(&seconds);
        let epochs = Clock::new(1);
        let retention = Retention {
            messages: nonzero(messages),
            bytes: 1 << 20,
            ttl: Duration::from_secs(60),
            recovery_max: None,
        };
        let histories = Histories {
            kinds: [(kind(), retention)].into(),
            limits,
            now: StdArc::new(move || moment(clock.load(Ordering::Relaxed))),
            random: StdArc::new(move || epochs.fetch_add(1, Ordering::Relaxed)),
        };
        let window = Window {
            messages: nonzero(window),
            ..Window::default()
        };
        let bus = InMemoryMessageBus::with_histories(window, BTreeMap::new(), 100, histories);
        Self { bus, seconds }
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    fn publish(&self, key: &str, text: &str) -> u64 {
        let published = self
            .bus
            .publish_by(&topic(key), text.into(), &Maker::default());
        published.position.expect("it is recorded").offset
    }

    fn join(&self, key: &str, start: Start) -> (Subscription, Joined) {
        let joining = Joining {
            start,
            ..Joining::default()
        };
        let joined = self.bus.subscribe_since(&topic(key), &joining);
        joined.expect("there is room")
    }
}

fn nonzero(number: usize) -> std::num::NonZeroUsize {
    number.try_into().expect("not zero")
}

fn moment(seconds: u64) -> Moment {
    let since = Duration::from_secs(seconds);
    Moment {
        at: Instant::from_start(since),
        wall: SystemTime::UNIX_EPOCH + since,
    }
}

fn kind() -> ServiceName {
    "chat".parse().expect("valid")
}

fn topic(key: &str) -> Topic {
    Topic::from_service_to_ws(Room::new(&kind(), key).expect("valid"))
}

fn world() -> World {
    World::new(4, 8, HistoryLimits::default())
}

fn after(epoch: u64, offset: u64) -> Start {
    let epoch = Some(Epoch::from_bits(epoch));
    Start::After(Since { epoch, offset })
}

fn at(epoch: u64, offset: u64) -> Position {
    let epoch = Epoch::from_bits(epoch);
    Position { epoch, offset }
}

/// Reads all, as offsets; a loss is a negative number.
fn drain(reader: &mut Subscription) -> Vec<i64> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(received) = reader.poll_recv(&mut cx) {
        let number = |n: u64| i64::try_from(n).expect("small");
        all.push(match received {
            Received::Lagged(lost) => -number(lost),
            Received::Message(message) => message.offset().map_or(0, number),
        });
    }
    all
}

#[test]
fn a_client_that_comes_back_gets_each_message_that_it_missed_and_then_live_ones() {
    let world = world();
    let (reader, joined) = world.join("a", Start::Next);
    assert_eq!(joined, Joined::Present(at(1, 0)));
    world.publish("a", "1");
    drop(reader);
    (2..=6).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    let (mut reader, joined) = world.join("a", after(1, 1));
    let position = at(1, 6);
    let messages = 5;
    assert_eq!(joined, Joined::Recovered { position, messages });
    world.publish("a", "7");
    assert!(reader.catches_up());
    assert_eq!(reader.pending(), 6);
    assert_eq!(drain(&mut reader), [2, 3, 4, 5, 6, 7]);
    assert!(!reader.catches_up());
    let counts = world.bus.counts().messages;
    assert_eq!((counts.delivered, counts.pending), (6, 0));
    assert_eq!(counts.owed, counts.accounted());
}

#[test]
fn a_client_that_cannot_recover_is_told_why_and_where_it_is() {
    let world = world();
    (1..=9).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    for (start, why) in [
        (after(2, 8), Why::Epoch),
        (after(1, 10), Why::Ahead),
        (after(1, 0), Why::Evicted),
    ] {
        let (mut reader, joined) = world.join("a", start);
        let position = at(1, 9);
        assert_eq!(joined, Joined::NotRecovered { why, position });
        assert_eq!(drain(&mut reader), [] as [i64; 0]);
    }
    world.pass(60);
    let (_reader, joined) = world.join("a", after(1, 8));
    let position = at(1, 9);
    let why = Why::Expired;
    assert_eq!(joined, Joined::NotRecovered { why, position });
    let (_reader, joined) = world.join("a", after(1, 9));
    let messages = 0;
    assert_eq!(joined, Joined::Recovered { position, messages });
    world.publish("a", "10");
    assert_eq!(world.bus.remove_history(&topic("a")), Some(at(1, 10)));
    let (_reader, joined) = world.join("a", after(1, 9));
    let (why, position) = (Why::Removed, at(1, 10));
    assert_eq!(joined, Joined::NotRecovered { why, position });
}

#[test]
fn a_room_that_is_not_known_is_read_as_empty_and_leaves_nothing() {
    let world = world();
    let reading = Reading {
        since: None,
        limit: 10,
        reverse: false,
    };
    let page = world.bus.history(&topic("a"), &reading).expect("a page");
    assert_eq!((page.messages, page.position), (vec![], at(1, 0)));
    assert_eq!(world.bus.position(&topic("a")), Some(at(2, 0)));
    let counts = world.bus.histories();
    assert_eq!((counts.live, counts.shelved), (0, 0));
    let service = Topic::from_ws_to_service(Room::new(&kind(), "a").expect("valid"));
    assert_eq!(world.bus.position(&service), None);
    let read = world.bus.history(&service, &reading);
    assert_eq!(read, Err(HistoryError::Unrecorded));
}
