//! A history that is appended to, left and found again, by several threads.

use std::collections::BTreeMap;
use std::sync::Arc as StdArc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::bus::{Epoch, Histories, Joined, Joining, Maker, Moment, Position, Room, Since, Start};
use crate::instant::Instant;
use crate::limits::{HistoryLimits, Retention};

const EPOCH: Epoch = Epoch::from_bits(7);

pub(super) fn recorded() -> Topic {
    let kind = "chat".parse().expect("a valid name");
    Topic::from_service_to_ws(Room::new(&kind, "1").expect("a valid key"))
}

pub(super) fn bus_with_history(window: usize) -> InMemoryMessageBus {
    let nonzero = |number| NonZeroUsize::new(number).expect("not zero");
    let retention = Retention {
        messages: nonzero(8),
        bytes: 1 << 20,
        ttl: Duration::from_secs(60),
        recovery_max: None,
    };
    let histories = Histories {
        kinds: [("chat".parse().expect("a valid name"), retention)].into(),
        limits: HistoryLimits::default(),
        now: StdArc::new(|| Moment {
            at: Instant::ZERO,
            wall: SystemTime::UNIX_EPOCH,
        }),
        random: StdArc::new(|| EPOCH.bits()),
    };
    let window = Window {
        messages: nonzero(window),
        ..Window::default()
    };
    InMemoryMessageBus::with_histories(window, BTreeMap::new(), 8, histories)
}

fn say(bus: &InMemoryMessageBus, text: &str) -> Position {
    let published = bus.publish_by(&recorded(), text.into(), &Maker::default());
    published.position.expect("it is recorded")
}

/// Joins with the first position of all, and returns how many messages were recovered.
pub(super) fn join(bus: &InMemoryMessageBus) -> (Subscription, u64) {
    let (epoch, offset) = (Some(EPOCH), 0);
    let joining = Joining {
        is_provisional: false,
        start: Start::After(Since { epoch, offset }),
        recovers: true,
        maker: Maker::default(),
    };
    let joined = bus.subscribe_since(&recorded(), &joining);
    let (subscription, joined) = joined.expect("there is room");
    let Joined::Recovered { position, messages } = joined else {
        panic!("all is there: {joined:?}");
    };
    assert_eq!((position.epoch, position.offset), (EPOCH, messages));
    (subscription, messages)
}

/// A reader that recovers while 2 messages are published through a window of 1, at a topic that the
/// publisher has found before; bound 3.
///
/// Catches: a look at the history and a place in the log that are of two moments (a hole or a
/// duplicate at the seam); a message that falls out of the window before the reader comes to it.
#[test]
fn a_reader_that_recovers_while_others_publish_gets_every_message_once() {
    model(Some(3), || {
        let bus = bus_with_history(1);
        let first = bus.subscribe(&recorded()).expect("there is room");
        say(&bus, "1");
        let publisher = bus.publisher(&recorded());
        let publisher = thread::spawn(move || {
            ["2", "3"].map(|text| publisher.publish_by(text.into(), &Maker::default()))
        });
        let (mut reader, recovered) = join(&bus);
        assert!((1..=3).contains(&recovered));
        assert_eq!(texts(&mut reader, 3), ["1", "2", "3"]);
        let published = publisher.join().expect("no panic");
        let offsets = published.map(|it| it.position.map(|position| position.offset));
        assert_eq!(offsets, [Some(2), Some(3)]);
        assert_eq!(poll(&mut reader), None);
        assert_eq!(bus.counts().messages.delivered, 3);
        drop((first, reader));
        assert_empty(&bus);
    });
}

/// The last reader leaves, against a publish and a new reader; bound 3.
///
/// Catches: a history that is neither at its topic nor on the shelf for a moment, so that a message
/// or the epoch is lost; a message that is published at a topic that is over.
#[test]
fn a_history_that_moves_to_the_shelf_and_back_loses_nothing() {
    model(Some(3), || {
        let bus = bus_with_history(4);
        let (last, _) = join(&bus);
        let leaver = thread::spawn(move || drop(last));
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || say(&bus, "1")
        });
        let (mut reader, _) = join(&bus);
        assert_eq!(texts(&mut reader, 1), ["1"]);
        leaver.join().expect("no panic");
        let position = publisher.join().expect("no panic");
        assert_eq!((position.epoch, position.offset), (EPOCH, 1));
        assert_eq!(bus.position(&recorded()), Some(position));
        drop(reader);
        assert_empty(&bus);
        let counts = bus.histories();
        assert_eq!((counts.live, counts.shelved), (0, 1));
    });
}

/// Two publishers into a room without a reader, against a reader that comes; bound 3.
///
/// Catches: a history that is made twice, and an offset that is given twice.
#[test]
fn publishers_without_a_reader_make_one_history_with_one_order() {
    model(Some(3), || {
        let bus = bus_with_history(4);
        let publishers = ["a", "b"].map(|text| {
            let bus = bus.clone();
            thread::spawn(move || say(&bus, text).offset)
        });
        let (mut reader, _) = join(&bus);
        let read = texts(&mut reader, 2);
        let [a, b] = publishers.map(|publisher| publisher.join().expect("no panic"));
        assert_eq!(read, if a < b { ["a", "b"] } else { ["b", "a"] });
        assert_eq!(a + b, 3);
        drop(reader);
        assert_empty(&bus);
    });
}
