//! What the bus does that its contract leaves open.

use std::task::{Context, Waker};

use super::super::contract;
use super::super::subscription::Offered;
use super::*;
use crate::limits::Limits;
use crate::wakes::Wakes;

#[test]
fn the_bus_keeps_its_contract() {
    contract::check(&|window, topics| InMemoryMessageBus::new(window, topics));
}

#[test]
fn a_topic_counts_for_itself_while_it_has_subscribers() {
    let limits = Limits::default();
    let bus = InMemoryMessageBus::new(limits.window, limits.topics);
    let topic: Topic = "t".parse().expect("a valid name");
    assert_eq!(bus.topic_counts(&topic), None);
    let readers = [(); 2].map(|()| bus.subscribe(&topic));
    bus.publish(&topic, "x".into());
    let counts = bus.topic_counts(&topic).expect("it has subscribers");
    assert_eq!((counts.published, counts.owed, counts.pending), (1, 2, 2));
    assert_eq!(bus.counts().messages, counts);
    drop(readers);
    assert_eq!(bus.topic_counts(&topic), None);
}

#[test]
fn a_reply_finds_the_topic_as_it_is_now() {
    let limits = Limits::default();
    let [bus, other] = [(); 2].map(|()| InMemoryMessageBus::new(limits.window, limits.topics));
    let topic: Topic = "t".parse().expect("a valid name");
    let is_there = |reader: &mut Subscription| {
        let mut cx = Context::from_waker(Waker::noop());
        reader.poll_recv(&mut cx).is_ready()
    };
    let mut first = bus.subscribe(&topic).expect("there is room");
    let sender = bus.sender(ClientId::new(7), Identity::default(), topic.clone());
    let renewed = sender.renewed(Identity::default());
    assert!([&sender, &renewed].iter().all(|to| to.route().is_some()));
    assert_eq!(bus.reply(&sender, "a".into()), 1);
    assert!(is_there(&mut first));
    assert_eq!(other.reply(&sender, "b".into()), 0, "nobody is there");
    assert!(!is_there(&mut first), "the other bus has its own topics");
    let events = bus
        .tap(Tapped::Topic(topic.clone()))
        .expect("there is room");
    assert_eq!(bus.reply(&sender, "c".into()), 1);
    drop((events, first));
    assert_eq!(bus.reply(&sender, "d".into()), 0);
    let mut second = bus.subscribe(&topic).expect("there is room");
    assert_eq!(bus.reply(&sender, "e".into()), 1);
    assert!(is_there(&mut second), "the topic is a new one");
    let published = bus.counts().messages.published;
    drop(second);
    // Four replies, each counted once whoever got it, and what the tap was told of one.
    assert_eq!((published, bus.counts().messages.published), (5, 5));
}

#[test]
fn the_topics_there_are_are_told_by_name() {
    let bus = InMemoryMessageBus::new(Limits::default().window, 8);
    let topics = ["b", "a"].map(|name| name.parse::<Topic>().expect("a valid name"));
    let readers = topics.clone().map(|topic| bus.subscribe(&topic));
    bus.publish(&topics[0], "four".into());
    let told = bus.topics();
    let names: Vec<_> = told.iter().map(|status| status.topic.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let [a, b] = [&told[0], &told[1]].map(|of| (of.subscribers, of.messages, of.bytes));
    assert_eq!((a, b), ((1, 0, 0), (1, 1, 4)));
    assert_eq!(Some(told[1].counts), bus.topic_counts(&topics[0]));
    drop(readers);
    assert_eq!(bus.topics(), []);
}

#[test]
fn a_publisher_that_waits_is_woken_by_a_read_and_by_the_last_reader_that_leaves() {
    for reads in [true, false] {
        let window = Window {
            messages: std::num::NonZeroUsize::MIN,
            ..Window::default()
        };
        let bus = InMemoryMessageBus::new(window, 1);
        let topic: Topic = "t".parse().expect("a valid name");
        let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut publisher = bus.publisher(&topic);
        let message = || Message::text("x");
        let mut offer = || publisher.offer(&mut cx, message());
        assert_eq!(offer(), Offered::Published(1));
        assert_eq!(offer(), Offered::Full(message()));
        let (reader, offered) = if reads {
            read(&mut reader);
            (Some(reader), Offered::Published(1))
        } else {
            drop(reader);
            (None, Offered::Nobody(message()))
        };
        assert_eq!(wakes.count(), 1);
        assert_eq!(offer(), offered);
        drop(reader);
    }
}

#[test]
fn a_publisher_publishes_as_the_bus_does_wherever_the_topic_was_found() {
    let bus = InMemoryMessageBus::new(Window::default(), 1);
    let topic: Topic = "t".parse().expect("a valid name");
    let before = bus.publisher(&topic);
    assert_eq!(before.publish("nobody hears this".into()), 0);
    assert_eq!(bus.counts().messages.published, 1);
    let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
    let publishers = [before, bus.publisher(&topic)];
    for publisher in &publishers {
        assert_eq!(publisher.publish("first".into()), 1);
        read(&mut reader);
    }
    drop(reader);
    for publisher in &publishers {
        assert_eq!(publisher.publish("nobody hears this".into()), 0);
    }
    let mut reader = bus.subscribe(&topic).expect("the topic was left");
    for publisher in &publishers {
        assert_eq!(publisher.publish("second".into()), 1, "it is another topic");
        read(&mut reader);
    }
    assert_eq!(bus.counts().messages.published, 7);
}

/// A publisher and its task.
struct Waiting {
    publisher: Publisher,
    wakes: Arc<Wakes>,
    waker: Waker,
}

impl Waiting {
    fn is_full(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        match self.publisher.offer(&mut cx, Message::text("y")) {
            Offered::Full(_) => true,
            Offered::Nobody(_) | Offered::Published(_) => false,
        }
    }
}

/// Publishers that wait for room in a window of so many.
fn crowded(messages: usize) -> (Subscription, [Waiting; 3], InMemoryMessageBus) {
    let window = Window {
        messages: std::num::NonZeroUsize::new(messages).expect("not zero"),
        ..Window::default()
    };
    let bus = InMemoryMessageBus::new(window, 1);
    let topic: Topic = "t".parse().expect("a valid name");
    let reader = bus.subscribe(&topic).expect("there is room for the topic");
    for _ in 0..messages {
        bus.publish(&topic, "x".into());
    }
    let waiting = [(); 3].map(|()| {
        let publisher = bus.publisher(&topic);
        let (wakes, waker) = Wakes::new();
        let mut waiting = Waiting {
            publisher,
            wakes,
            waker,
        };
        assert!(waiting.is_full());
        waiting
    });
    (reader, waiting, bus)
}

fn read(reader: &mut Subscription) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reader.poll_recv(&mut cx).is_ready());
}

fn woken(waiting: &[Waiting; 3]) -> [u64; 3] {
    std::array::from_fn(|index| waiting[index].wakes.count())
}

/// The messages of a batch, which it has still.
fn left(batch: &mut Batch) -> Vec<Message> {
    let messages: Vec<_> = std::mem::take(batch).into_iter().collect();
    *batch = messages.clone().into();
    messages
}

#[test]
fn of_several_messages_as_many_are_published_as_there_is_room_for() {
    for is_tapped in [false, true] {
        let window = Window {
            messages: std::num::NonZeroUsize::new(2).expect("not zero"),
            ..Window::default()
        };
        let bus = InMemoryMessageBus::new(window, 3);
        let topic: Topic = "t".parse().expect("a valid name");
        let mut publisher = bus.publisher(&topic);
        let _tap = is_tapped.then(|| bus.tap(Tapped::Topic(topic.clone())));
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut messages: Batch = ["a", "b", "c", "d"]
            .into_iter()
            .map(Message::text)
            .collect();
        publisher.offer_all(&mut cx, &mut messages);
        assert_eq!(messages.len(), 4, "nobody is subscribed");
        let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
        publisher.offer_all(&mut cx, &mut messages);
        assert_eq!(left(&mut messages), ["c", "d"].map(Message::text));
        assert_eq!(wakes.count(), 0);
        read(&mut reader);
        assert_eq!(wakes.count(), 1);
        publisher.offer_all(&mut cx, &mut messages);
        assert_eq!(left(&mut messages), [Message::text("d")]);
        read(&mut reader);
        read(&mut reader);
        publisher.offer_all(&mut cx, &mut messages);
        assert!(messages.is_empty());
        read(&mut reader);
        assert_eq!(wakes.count(), 2, "who has nothing to offer waits no more");
        publisher.offer_all(&mut cx, &mut messages);
        assert_eq!(
            bus.counts().messages.published,
            4 + u64::from(is_tapped) * 4
        );
        assert_eq!(bus.counts().messages.lost_lagged, 0);
    }
}

#[test]
fn no_message_overtakes_one_for_which_there_is_no_room() {
    for is_tapped in [false, true] {
        let window = Window {
            bytes: 4,
            ..Window::default()
        };
        let bus = InMemoryMessageBus::new(window, 3);
        let topic: Topic = "t".parse().expect("a valid name");
        let _tap = is_tapped.then(|| bus.tap(Tapped::Topic(topic.clone())));
        let reader = bus.subscribe(&topic).expect("there is room for the topic");
        let mut cx = Context::from_waker(Waker::noop());
        let texts = ["abc", "de", "f"].map(Message::text);
        let mut batch: Batch = texts.iter().cloned().collect();
        bus.publisher(&topic).offer_all(&mut cx, &mut batch);
        assert_eq!(left(&mut batch), texts[1..], "{is_tapped}");
        assert_eq!(reader.pending(), 1);
    }
}

#[test]
fn a_reply_to_who_has_left_is_counted_as_gone_and_nothing_else_is() {
    let bus = InMemoryMessageBus::new(Window::default(), 3);
    let topic: Topic = "t".parse().expect("a valid name");
    let reader = bus.subscribe(&topic).expect("there is room");
    let sender = bus.sender(ClientId::new(7), Identity::default(), topic.clone());
    let batch = || Batch::from(["b", "c"]);
    let gone = || bus.counts().messages.lost_gone;
    assert_eq!(bus.reply(&sender, "a".into()), 1);
    assert_eq!(bus.reply_batch(&sender, batch()), 1);
    assert_eq!(gone(), 0, "the reader has left none");
    drop(reader);
    assert_eq!(bus.publish(&topic, "to nobody".into()), 0);
    assert_eq!(gone(), 0, "it was for nobody in particular");
    for (is_tapped, replies) in [(false, 3), (true, 6)] {
        let tap = is_tapped.then(|| bus.tap(Tapped::Topic(topic.clone())));
        assert_eq!(bus.reply(&sender, "d".into()), 0);
        assert_eq!(bus.reply_batch(&sender, batch()), 0);
        assert_eq!(bus.reply_batch(&sender, Batch::new()), 0);
        assert_eq!(gone(), replies, "tapped: {is_tapped}");
        drop(tap);
    }
}

#[test]
fn several_messages_wake_a_reader_once() {
    let bus = InMemoryMessageBus::new(Window::default(), 1);
    let topic: Topic = "t".parse().expect("a valid name");
    let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
    let (wakes, waker) = Wakes::new();
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_recv(&mut cx).is_pending() && reader.is_quiet());
    let mut messages = ["a", "b"].into_iter().map(Message::text).collect();
    let mut noop = Context::from_waker(Waker::noop());
    bus.publisher(&topic).offer_all(&mut noop, &mut messages);
    assert_eq!((wakes.count(), reader.is_quiet()), (1, false));
    assert_eq!(reader.pending(), 2);
}

#[test]
fn as_many_publishers_are_woken_as_there_is_room_for() {
    let (mut reader, mut waiting, _bus) = crowded(4);
    read(&mut reader);
    assert_eq!(woken(&waiting), [1, 0, 0]);
    read(&mut reader);
    assert_eq!(
        woken(&waiting).iter().sum::<u64>(),
        2,
        "the first has not come back"
    );
    assert!(!waiting[0].is_full());
    read(&mut reader);
    assert_eq!(woken(&waiting), [1, 1, 1]);
}

#[test]
fn who_is_woken_and_does_not_publish_leaves_its_room_to_another() {
    for is_dropped in [false, true] {
        let (mut reader, mut waiting, bus) = crowded(1);
        read(&mut reader);
        assert_eq!(woken(&waiting), [1, 0, 0]);
        if is_dropped {
            waiting[0].publisher = bus.publisher(reader.topic());
        } else {
            waiting[0].publisher.withdraw();
        }
        assert_eq!(
            woken(&waiting).iter().sum::<u64>(),
            2,
            "dropped: {is_dropped}"
        );
    }
}

#[test]
fn the_last_reader_that_leaves_wakes_all_publishers() {
    let (reader, waiting, _bus) = crowded(1);
    drop(reader);
    assert_eq!(woken(&waiting), [1, 1, 1]);
}

#[test]
fn a_publisher_that_gives_up_leaves_no_place_behind() {
    let limits = Limits::default();
    let bus = InMemoryMessageBus::new(limits.window, limits.topics);
    let topic: Topic = "t".parse().expect("a valid name");
    let reader = bus.subscribe(&topic).expect("there is room for the topic");
    let mut cx = Context::from_waker(Waker::noop());
    let mut publisher = bus.publisher(&topic);
    for _ in 0..limits.window.messages.get() {
        let offered = publisher.offer(&mut cx, "x".into());
        assert_eq!(offered, Offered::Published(1));
    }
    let offered = publisher.offer(&mut cx, "x".into());
    assert_eq!(offered, Offered::Full("x".into()));
    let cell = bus.shared.cell(&topic).expect("it has a subscriber");
    let waiting = || {
        cell.lock()
            .publishers
            .as_ref()
            .map_or(0, |waiting| waiting.room.len())
    };
    assert_eq!(waiting(), 1);
    drop(publisher);
    assert_eq!(waiting(), 0);
    drop(reader);
    assert_eq!(cell.lock().subscribers.len(), 0);
}
