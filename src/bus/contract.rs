//! The contract of a [`MessageBus`] as tests, for every implementation.
//!
//! Each function panics where the given bus breaks the contract. The tests need no runtime: they
//! poll by hand, and poll again to give time to a bus that delivers from elsewhere.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use super::{Batch, Message, MessageBus, Offered, Received, Subscription, Topic};
use crate::limits::Window;

/// Makes a bus with the given window and room for the given number of topics.
pub trait Make: Fn(Window, usize) -> Self::Bus {
    /// The type of bus to test.
    type Bus: MessageBus;
}

impl<F, B> Make for F
where
    F: Fn(Window, usize) -> B,
    B: MessageBus,
{
    type Bus = B;
}

/// Checks every promise of the contract, one after the other.
pub fn check(make: &impl Make) {
    subscribers_see_one_order(make);
    nothing_before_subscribe_and_nothing_after_unsubscribe(make);
    a_slow_subscriber_loses_the_oldest_and_is_told_how_many(make);
    a_slow_subscriber_costs_the_others_nothing(make);
    publish_tells_how_many_subscribers_there_were(make);
    topics_are_apart(make);
    topics_are_bounded(make);
    a_batch_is_as_one_message_after_the_other(make);
    a_waiting_publisher_loses_nobody_a_message(make);
    a_waiting_publisher_does_not_wait_for_nobody(make);
}

/// Subscribers of a topic see its messages in one order, and no message twice.
pub fn subscribers_see_one_order(make: &impl Make) {
    let bus = make(window(16), 16);
    let mut subscriptions = [(); 3].map(|()| subscribe(&bus, "a"));
    for n in 0..16 {
        bus.publish(&topic("a"), text(n));
    }
    for subscription in &mut subscriptions {
        assert_eq!(
            drain(subscription),
            (0..16).map(message).collect::<Vec<_>>()
        );
    }
}

/// A subscription starts after `subscribe` and ends with `unsubscribe`.
pub fn nothing_before_subscribe_and_nothing_after_unsubscribe(make: &impl Make) {
    let bus = make(window(16), 16);
    bus.publish(&topic("a"), text(0));
    let mut early = subscribe(&bus, "a");
    bus.publish(&topic("a"), text(1));
    let mut late = subscribe(&bus, "a");
    bus.publish(&topic("a"), text(2));
    assert_eq!(drain(&mut early), [message(1), message(2)]);
    assert_eq!(drain(&mut late), [message(2)]);
    bus.unsubscribe(early);
    assert_eq!(bus.publish(&topic("a"), text(3)), 1);
    drop(late);
    assert_eq!(bus.publish(&topic("a"), text(4)), 0);
    let mut again = subscribe(&bus, "a");
    assert_eq!(
        drain(&mut again),
        [],
        "a topic without subscribers keeps nothing"
    );
}

/// A full window loses nothing; each further message evicts the oldest unread one, and the
/// subscriber learns of the loss.
pub fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many(make: &impl Make) {
    for published in 0..12 {
        let bus = make(window(4), 16);
        let mut slow = subscribe(&bus, "a");
        for n in 0..published {
            bus.publish(&topic("a"), text(n));
        }
        let lost = published.saturating_sub(4);
        let lagged = (lost > 0).then_some(Received::Lagged(lost));
        let expected = lagged.into_iter().chain((lost..published).map(message));
        assert_eq!(
            drain(&mut slow),
            expected.collect::<Vec<_>>(),
            "{published} published"
        );
    }
}

/// A slow subscriber does not shrink the window of another subscriber.
pub fn a_slow_subscriber_costs_the_others_nothing(make: &impl Make) {
    let bus = make(window(2), 16);
    let mut slow = subscribe(&bus, "a");
    let mut fast = subscribe(&bus, "a");
    for n in 0..10 {
        assert_eq!(bus.publish(&topic("a"), text(n)), 2);
        assert_eq!(drain(&mut fast), [message(n)]);
    }
    assert_eq!(
        drain(&mut slow),
        [Received::Lagged(8), message(8), message(9)]
    );
}

/// `publish` returns the number of subscribers.
pub fn publish_tells_how_many_subscribers_there_were(make: &impl Make) {
    let bus = make(window(4), 16);
    let mut subscriptions = Vec::new();
    for count in 0..4 {
        assert_eq!(bus.publish(&topic("a"), text(0)), count);
        subscriptions.push(subscribe(&bus, "a"));
    }
}

/// No message crosses from one topic to another.
pub fn topics_are_apart(make: &impl Make) {
    let bus = make(window(4), 16);
    let mut a = subscribe(&bus, "a");
    let mut b = subscribe(&bus, "b");
    bus.publish(&topic("a"), text(1));
    bus.publish(&topic("b"), text(2));
    assert_eq!(drain(&mut a), [message(1)]);
    assert_eq!(drain(&mut b), [message(2)]);
}

/// The bus refuses a topic beyond its limit; a topic without subscribers makes room.
pub fn topics_are_bounded(make: &impl Make) {
    let bus = make(window(4), 2);
    let a = subscribe(&bus, "a");
    let _b = subscribe(&bus, "b");
    assert!(bus.subscribe(&topic("c")).is_err(), "a third topic");
    let _a = subscribe(&bus, "a");
    drop(a);
    assert!(
        bus.subscribe(&topic("c")).is_err(),
        "`a` still has a subscriber"
    );
    drop(_a);
    assert!(bus.subscribe(&topic("c")).is_ok());
}

/// The messages of a batch reach every subscriber in order, with the losses that single messages
/// would cause.
pub fn a_batch_is_as_one_message_after_the_other(make: &impl Make) {
    let bus = make(window(4), 16);
    let publisher = bus.publisher(&topic("a"));
    check_batch(&bus, |batch| publisher.publish(batch));
    check_batch(&bus, |batch| bus.publish(&topic("a"), batch));
}

fn check_batch(bus: &impl MessageBus, publish: impl Fn(Batch) -> usize) {
    let publish = |numbers: Range<u64>| {
        let messages = numbers.map(|n| Message::text(n.to_string()));
        publish(Batch::join(messages).expect("one at least"))
    };
    assert_eq!(publish(0..2), 0, "nobody is subscribed");
    let mut fast = subscribe(bus, "a");
    let mut slow = subscribe(bus, "a");
    assert_eq!(publish(0..3), 2);
    assert_eq!(drain(&mut fast), [message(0), message(1), message(2)]);
    assert_eq!(publish(3..8), 2);
    let newest = [message(4), message(5), message(6), message(7)];
    for (reader, lost) in [(&mut fast, 1), (&mut slow, 4)] {
        let all = drain(reader);
        assert_eq!((&all[0], &all[1..]), (&Received::Lagged(lost), &newest[..]));
    }
}

/// A waiting publisher is ready as soon as no subscriber would lose a message, and not before.
pub fn a_waiting_publisher_loses_nobody_a_message(make: &impl Make) {
    let bus = make(window(2), 16);
    let mut slow = subscribe(&bus, "a");
    let mut fast = subscribe(&bus, "a");
    let mut publisher = bus.publisher(&topic("a"));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(publisher.offer(&mut cx, text(0)), Offered::Published(2));
    assert_eq!(publisher.offer(&mut cx, text(1)), Offered::Published(2));
    assert_eq!(publisher.offer(&mut cx, text(2)), Offered::Full(text(2)));
    drain(&mut fast);
    assert_eq!(
        publisher.offer(&mut cx, text(2)),
        Offered::Full(text(2)),
        "slow has read nothing"
    );
    assert_eq!(slow.poll_recv(&mut cx), Poll::Ready(message(0)));
    assert_eq!(publisher.offer(&mut cx, text(2)), Offered::Published(2));
    assert_eq!(drain(&mut slow), [message(1), message(2)]);
    assert_eq!(drain(&mut fast), [message(2)]);
}

/// A waiting publisher is ready once the last subscriber has left.
pub fn a_waiting_publisher_does_not_wait_for_nobody(make: &impl Make) {
    let bus = make(window(1), 16);
    let full = subscribe(&bus, "a");
    let mut publisher = bus.publisher(&topic("a"));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(publisher.offer(&mut cx, text(0)), Offered::Published(1));
    assert_eq!(publisher.offer(&mut cx, text(1)), Offered::Full(text(1)));
    drop(full);
    assert_eq!(
        publisher.offer(&mut cx, text(1)),
        Offered::NoSubscribers(text(1))
    );
}

fn window(messages: usize) -> Window {
    Window {
        messages: NonZeroUsize::new(messages).expect("a window is not empty"),
        ..Window::default()
    }
}

fn topic(name: &str) -> Topic {
    name.parse().expect("a valid name")
}

fn text(n: u64) -> Batch {
    n.to_string().into()
}

fn message(n: u64) -> Received {
    Received::Message(n.to_string().into())
}

fn subscribe(bus: &impl MessageBus, name: &str) -> Subscription {
    bus.subscribe(&topic(name))
        .expect("there is room for the topic")
}

/// Reads until nothing is left.
fn drain(subscription: &mut Subscription) -> Vec<Received> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(received) = subscription.poll_recv(&mut cx) {
        all.push(received);
        assert!(all.len() < 1000, "it goes on for ever");
    }
    all
}
