//! Taps that begin and end while their topic is made, published on and removed.

use futures::FutureExt;

use super::*;
use crate::bus::{Tap, Tapped};

fn tap(bus: &InMemoryMessageBus) -> Tap {
    bus.tap(Tapped::Topic(topic())).expect("there is room")
}

/// Counts the events that a tap has seen.
fn events(tap: &mut Tap) -> usize {
    std::iter::from_fn(|| tap.next().now_or_never()).count()
}

/// A tap begins while another thread makes its topic; preemptions unbounded.
///
/// Catches: a topic that is looked up before the tap is listed and made after the look-up, so that
/// it is never marked as tapped.
#[test]
fn a_tap_is_told_of_all_that_is_published_once_it_has_begun() {
    model(None, || {
        let bus = bus(4);
        let maker = thread::spawn({
            let bus = bus.clone();
            move || subscribe(&bus)
        });
        let mut tap = tap(&bus);
        let reader = maker.join().expect("no panic");
        assert_eq!(publish(&bus, "a"), 1);
        assert_eq!(events(&mut tap), 1);
        drop((reader, tap));
        assert_empty(&bus);
    });
}

/// A tap ends while another tap begins on the same topic; bound 3.
///
/// Catches: a topic whose span follows the last change of a tap, not the list of taps.
#[test]
fn a_tap_goes_on_when_another_one_ends_and_the_last_leaves_no_mark() {
    model(Some(3), || {
        let bus = bus(4);
        let reader = subscribe(&bus);
        let first = tap(&bus);
        let ender = thread::spawn(move || drop(first));
        let mut second = tap(&bus);
        ender.join().expect("no panic");
        assert_eq!(publish(&bus, "a"), 1);
        assert_eq!(events(&mut second), 1);
        drop(second);
        assert_eq!(bus.taps(), 0);
        assert!(!bus.is_marked(&topic()));
        drop(reader);
        assert_empty(&bus);
    });
}

/// A message is published while a tap of its topic ends; bound 3.
///
/// Catches: an event published under a lock that the end of the tap takes (loom reports the
/// deadlock), and events that stay behind.
#[test]
fn a_tap_that_ends_while_it_is_told_leaves_nothing_behind() {
    model(Some(3), || {
        let bus = bus(4);
        let mut reader = subscribe(&bus);
        let tap = tap(&bus);
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || publish(&bus, "a")
        });
        drop(tap);
        assert_eq!(publisher.join().expect("no panic"), 1);
        assert_eq!(texts(&mut reader, 1), ["a"]);
        drop(reader);
        let counts = bus.counts();
        assert_eq!((counts.topics, counts.bytes), (0, 0));
    });
}
