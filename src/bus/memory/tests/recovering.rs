//! Histories and recovery on the bus, one promise a test.

use std::cell::Cell;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU64 as Clock, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use super::*;
use crate::bus::{
    BurstFilter, Delivery, Due, Generation, SharedCursor, Subscription, TopicCounts, next_in_order,
};
use crate::bus::{
    Epoch, HistoryError, Joined, Joining, Maker, Moment, Position, Reading, Received, Room, Since,
    Start, Why,
};
use crate::instant::Instant;
use crate::limits::{HistoryLimits, Retention};
use crate::wire::{Form, Frames};

/// A bus with histories, and the clock that it reads.
pub(super) struct World {
    pub(super) bus: InMemoryMessageBus,
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

    pub(super) fn join(&self, key: &str, start: Start) -> (Subscription, Joined) {
        let joining = Joining {
            is_provisional: false,
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

pub(super) fn topic(key: &str) -> Topic {
    Topic::from_service_to_ws(Room::new(&kind(), key).expect("valid"))
}

pub(super) fn world() -> World {
    World::new(4, 8, HistoryLimits::default())
}

pub(super) fn after(epoch: u64, offset: u64) -> Start {
    let epoch = Some(Epoch::from_bits(epoch));
    Start::After(Since { epoch, offset })
}

fn at(epoch: u64, offset: u64) -> Position {
    let epoch = Epoch::from_bits(epoch);
    Position { epoch, offset }
}

fn present(position: Position, messages: u64) -> Joined {
    Joined::Present { position, messages }
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
    assert_eq!(joined, present(at(1, 0), 0));
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

/// Lets a subscriber that reads nothing join, publishes as many messages, and reads.
fn read_late(recovers: bool, count: u64) -> (Vec<i64>, TopicCounts) {
    let world = world();
    let joining = Joining {
        is_provisional: false,
        recovers,
        ..Joining::default()
    };
    let joined = world.bus.subscribe_since(&topic("a"), &joining);
    let (mut reader, _) = joined.expect("there is room");
    (1..=count).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    let counts = world.bus.counts().messages;
    assert_eq!(
        (counts.pending, counts.lost_lagged),
        (count, 0),
        "undecided"
    );
    let read = drain(&mut reader);
    (read, world.bus.counts().messages)
}

#[test]
fn a_slow_subscriber_reads_on_from_the_history_and_is_told_what_is_gone_for_good() {
    // The window has four messages, the history eight.
    for (recovers, count, read, lost) in [
        (false, 6, vec![-2, 3, 4, 5, 6], 2),
        (true, 6, vec![1, 2, 3, 4, 5, 6], 0),
        (true, 10, vec![-2, 3, 4, 5, 6, 7, 8, 9, 10], 2),
    ] {
        let (seen, counts) = read_late(recovers, count);
        assert_eq!(seen, read);
        assert_eq!((counts.lost_lagged, counts.pending), (lost, 0));
        assert_eq!(counts.delivered, count - lost);
    }
}

#[test]
fn a_message_that_is_live_alone_takes_no_offset_and_is_lost_in_its_place() {
    let world = world();
    let joining = Joining {
        is_provisional: false,
        recovers: true,
        ..Joining::default()
    };
    let joined = world.bus.subscribe_since(&topic("a"), &joining);
    let (mut reader, _) = joined.expect("there is room");
    let live = |text: &str| {
        let batch = Batch::from(text).live();
        world.bus.publish_by(&topic("a"), batch, &Maker::default())
    };
    world.publish("a", "1");
    assert_eq!(
        (live("typing").subscribers, live("typing").position),
        (1, None)
    );
    (2..=6).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    live("typing");
    assert_eq!(drain(&mut reader), [1, -2, 2, 3, 4, 5, 6, 0]);
    let (mut reader, _) = world.join("a", after(1, 0));
    assert_eq!(drain(&mut reader), [1, 2, 3, 4, 5, 6]);
    drop(reader);
    assert_eq!(world.bus.position(&topic("a")), Some(at(1, 6)));
}

#[test]
fn readers_share_the_encoding_of_a_recorded_message_and_its_history_keeps_none() {
    let world = world();
    let made = Cell::new(0);
    let read = |reader: &mut Subscription| {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(batch)) = reader.poll_batch(&mut cx) else {
            panic!("there is one");
        };
        let encode = |frames: &Frames| {
            made.set(made.get() + 1);
            frames.clone()
        };
        let encodings = batch.encodings();
        encodings.encoded(batch.frames(), Form::Events, [1, 1, 0], encode);
        made.get()
    };
    let (mut first, _) = world.join("a", Start::Next);
    let (mut second, _) = world.join("a", Start::Next);
    world.publish("a", "x");
    assert_eq!([read(&mut first), read(&mut second)], [1, 1]);
    let (mut late, _) = world.join("a", after(1, 0));
    assert_eq!(read(&mut late), 2, "it comes from the history");
    // A lone reader shares with nobody.
    let (mut alone, _) = world.join("b", Start::Next);
    world.publish("b", "x");
    assert_eq!(read(&mut alone), 3);
}

#[test]
fn a_recovery_brings_a_client_the_messages_that_others_were_to_get_without_it() {
    let world = world();
    let ann = ClientId::new(7);
    let batch = Batch::from("x").delivered(Delivery::Except(ann));
    world.bus.publish(&topic("a"), batch);
    let (mut reader, _) = world.join("a", after(1, 0));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(batch)) = reader.poll_batch(&mut cx) else {
        panic!("there is one");
    };
    assert_eq!(batch.delivery(), &Delivery::Everyone);
    assert!(reader.poll_batch(&mut cx).is_pending());
}

#[test]
fn a_subscriber_that_recovers_shares_no_burst_and_reads_before_messages_to_it_alone() {
    let world = world();
    (1..=2).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    let (mut first, _) = world.join("a", Start::Next);
    let (mut second, _) = world.join("a", after(1, 1));
    let mut shared = SharedCursor::beside(&first);
    assert!(!shared.join(&mut second), "it is behind");
    let filter = BurstFilter {
        bytes_max: 100,
        since: Generation::default(),
    };
    let mut cx = Context::from_waker(Waker::noop());
    let burst = second.poll_burst(&mut cx, filter);
    assert!(matches!(burst, Poll::Ready(None)));
    let direct: Topic = "one".parse().expect("a valid name");
    let direct = world.bus.subscribe(&direct).expect("there is room");
    let due = next_in_order(&second, &direct);
    assert!(matches!(due, Due::Broadcast { .. }));
    let mut read = 0;
    let polled = second.poll_batches_before(&mut cx, 0, 100, |batch| read += batch.len());
    assert_eq!((polled, read), (Poll::Ready(0), 1));
    assert_eq!(next_in_order(&second, &direct), Due::Neither);
    assert!(shared.join(&mut second) && shared.join(&mut first));
    shared.leave(&mut second);
    shared.leave(&mut first);
}

#[test]
fn the_newest_message_comes_first_if_it_is_still_there() {
    let world = world();
    let (mut reader, joined) = world.join("a", Start::Newest);
    assert_eq!(joined, present(at(1, 0), 0));
    assert_eq!(drain(&mut reader), [] as [i64; 0]);
    (1..=3).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    let (mut reader, joined) = world.join("a", Start::Newest);
    assert_eq!(joined, present(at(1, 3), 1));
    world.publish("a", "x");
    assert_eq!(drain(&mut reader), [3, 4]);
    world.pass(60);
    let (mut reader, _) = world.join("a", Start::Newest);
    assert_eq!(drain(&mut reader), [] as [i64; 0]);
}

/// A world with bounds in which each message has 1,000 bytes, as history counts them nearly.
fn bounded(messages: u64, positions: usize) -> World {
    let limits = HistoryLimits {
        history_bytes: messages * 1_300,
        positions,
        position_ttl: Duration::from_secs(100),
        history_read_max: 2,
    };
    World::new(4, 8, limits)
}

fn maker(subject: &str) -> Maker {
    let subject = Some(subject.into());
    let address = None;
    Maker { address, subject }
}

/// Publishes a message of 1,000 bytes.
fn fill(world: &World, key: &str, subject: &str) {
    let batch = "x".repeat(1_000).into();
    world.bus.publish_by(&topic(key), batch, &maker(subject));
}

/// The number of messages in the history of each room.
fn kept<const N: usize>(world: &World, keys: [&str; N]) -> [usize; N] {
    let reading = Reading {
        since: None,
        limit: 100,
        reverse: false,
    };
    keys.map(|key| {
        let page = world.bus.history(&topic(key), &reading).expect("a page");
        page.messages.len()
    })
}

#[test]
fn above_the_bound_of_bytes_the_oldest_of_the_same_maker_goes_first() {
    let world = bounded(3, 100);
    fill(&world, "a", "ann");
    fill(&world, "b", "bob");
    fill(&world, "c", "ann");
    assert_eq!(kept(&world, ["a", "b", "c"]), [1, 1, 1]);
    fill(&world, "d", "bob");
    assert_eq!(kept(&world, ["a", "b", "c", "d"]), [1, 0, 1, 1]);
    // A maker without messages of its own displaces the oldest of all.
    fill(&world, "e", "cid");
    assert_eq!(kept(&world, ["a", "c", "d", "e"]), [0, 1, 1, 1]);
    let counts = world.bus.histories();
    assert_eq!((counts.dropped.evicted, counts.shelved), (2, 5));
    assert!(counts.bytes <= 3 * 1_300);
    let (_reader, joined) = world.join("a", after(1, 1));
    assert!(matches!(joined, Joined::Recovered { .. }), "positions stay");
}

#[test]
fn live_rooms_count_too_and_a_room_gives_its_own_oldest_if_the_shelf_has_none() {
    let world = bounded(3, 100);
    let _readers = ["a", "b"].map(|key| world.join(key, Start::Next));
    fill(&world, "c", "cid");
    fill(&world, "a", "ann");
    fill(&world, "a", "ann");
    assert_eq!(kept(&world, ["a", "b"]), [2, 0]);
    fill(&world, "b", "bob");
    assert_eq!((kept(&world, ["a", "b", "c"])), [2, 1, 0]);
    fill(&world, "b", "bob");
    assert_eq!((kept(&world, ["a", "b", "c"])), [2, 1, 0]);
    assert_eq!(world.bus.position(&topic("b")).map(|it| it.offset), Some(2));
    drop(_readers);
    assert_eq!(world.bus.histories().shelved, 3);
}

#[test]
fn above_the_bound_of_positions_the_oldest_of_the_same_maker_is_forgotten() {
    let world = bounded(100, 3);
    for (key, subject) in [("a", "ann"), ("b", "bob"), ("c", "ann"), ("d", "ann")] {
        fill(&world, key, subject);
    }
    assert_eq!(kept(&world, ["a", "b", "c", "d"]), [0, 1, 1, 1]);
    fill(&world, "e", "eve");
    assert_eq!(kept(&world, ["b", "c", "d", "e"]), [0, 1, 1, 1]);
    fill(&world, "c", "ann");
    fill(&world, "f", "fay");
    assert_eq!(
        kept(&world, ["d", "e", "c", "f"]),
        [0, 1, 2, 1],
        "by last use"
    );
    let counts = world.bus.histories();
    assert_eq!((counts.shelved, counts.forgotten), (3, 3));
}

#[test]
fn an_expired_message_is_freed_and_a_position_is_forgotten_at_its_time() {
    let world = bounded(100, 100);
    let reader = world.join("live", Start::Next);
    fill(&world, "live", "ann");
    fill(&world, "a", "ann");
    fill(&world, "b", "ann");
    assert_eq!(world.bus.expire(10), Some(moment(60).at));
    world.pass(60);
    assert_eq!(kept(&world, ["live", "a", "b"]), [0, 0, 0], "not served");
    assert_eq!(world.bus.histories().dropped.expired, 0);
    assert_eq!(world.bus.expire(1), Some(moment(60).at), "more is due");
    assert_eq!(world.bus.expire(10), Some(moment(100).at));
    let counts = world.bus.histories();
    assert_eq!((counts.dropped.expired, counts.bytes), (3, 0));
    assert_eq!((counts.live, counts.shelved), (1, 2));
    world.pass(39);
    // The room is used once more: its time begins anew.
    drop(world.join("a", Start::Next));
    world.pass(1);
    assert_eq!(
        world.bus.expire(10),
        Some(moment(120).at),
        "of the live room"
    );
    let counts = world.bus.histories();
    assert_eq!((counts.shelved, counts.forgotten), (1, 1));
    drop(reader);
    let (_reader, joined) = world.join("b", after(3, 1));
    assert!(matches!(
        joined,
        Joined::NotRecovered {
            why: Why::Epoch,
            ..
        }
    ));
    world.pass(200);
    assert_eq!(world.bus.expire(10), Some(moment(360).at));
    assert_eq!(world.bus.histories().shelved, 0, "memory is gone");
}

#[test]
fn a_reading_is_bounded_and_goes_on_in_either_direction() {
    let world = bounded(100, 100);
    (1..=5).for_each(|n| assert_eq!(world.publish("a", "x"), n));
    let epoch = Some(Epoch::from_bits(1));
    for (since, reverse, offsets) in [
        (None, false, vec![1, 2]),
        (Some(2), false, vec![3, 4]),
        (Some(4), false, vec![5]),
        (None, true, vec![5, 4]),
        (Some(4), true, vec![3, 2]),
        (Some(2), true, vec![1]),
    ] {
        let since = since.map(|offset| Since { epoch, offset });
        let limit = usize::MAX;
        let reading = Reading {
            since,
            limit,
            reverse,
        };
        let page = world.bus.history(&topic("a"), &reading).expect("a page");
        let read = page.messages.iter().filter_map(|it| it.message.offset());
        assert_eq!(read.collect::<Vec<_>>(), offsets);
        assert_eq!(page.position, at(1, 5));
    }
    let since = Some(Since {
        epoch: Some(Epoch::from_bits(2)),
        offset: 1,
    });
    let reading = Reading {
        since,
        limit: 1,
        reverse: false,
    };
    let present = at(1, 5);
    let read = world.bus.history(&topic("a"), &reading);
    assert_eq!(read, Err(HistoryError::WrongEpoch { present }));
}

#[test]
fn saved_histories_come_back_with_their_positions_and_ages() {
    let world = bounded(100, 100);
    let _reader = world.join("live", Start::Next);
    fill(&world, "live", "ann");
    world.pass(50);
    fill(&world, "a", "bob");
    world.bus.remove_history(&topic("a"));
    fill(&world, "a", "bob");
    let saved = world.bus.export();
    assert_eq!(saved.len(), 2);
    let next = bounded(100, 100);
    assert_eq!(next.bus.import(&saved), 2);
    assert_eq!(next.bus.import(&saved), 0, "they are there");
    assert_eq!(kept(&next, ["live", "a"]), [1, 1]);
    for key in ["live", "a"] {
        let [before, after] = [&world, &next].map(|world| world.bus.position(&topic(key)));
        assert_eq!(after, before);
    }
    next.pass(10);
    assert_eq!(kept(&next, ["live", "a"]), [0, 1], "ages count on");
    let (_reader, joined) = next.join("a", after(2, 0));
    let (why, position) = (Why::Removed, at(2, 2));
    assert_eq!(joined, Joined::NotRecovered { why, position });
    let none = InMemoryMessageBus::new(Window::default(), 8);
    assert_eq!((none.import(&saved), none.export()), (0, vec![]));
}
