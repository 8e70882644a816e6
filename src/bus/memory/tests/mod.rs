//! Behaviour of the in-memory bus that the contract leaves open.

use std::task::{Context, Waker};

use futures::FutureExt;

use crate::bus::Message;
use crate::bus::contract;
use crate::bus::memory::*;
use crate::bus::publisher::Offered;
use crate::limits::Limits;
use crate::wakes::Wakes;

mod recovering;
mod tagged;

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
fn the_topics_there_are_are_told_by_name() {
    let bus = InMemoryMessageBus::new(Limits::default().window, 8);
    let topics = ["b", "a"].map(|name| name.parse::<Topic>().expect("a valid name"));
    let readers = topics.clone().map(|topic| bus.subscribe(&topic));
    bus.publish(&topics[0], "four".into());
    let told = bus.topics();
    let names: Vec<_> = told.iter().map(|status| status.topic.to_string()).collect();
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
        let message = || Batch::from("x");
        let mut offer = || publisher.offer(&mut cx, message());
        assert_eq!(offer(), Offered::Published(1));
        assert_eq!(offer(), Offered::Full(message()));
        let (reader, offered) = if reads {
            read(&mut reader);
            (Some(reader), Offered::Published(1))
        } else {
            drop(reader);
            (None, Offered::NoSubscribers(message()))
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
        match self.publisher.offer(&mut cx, "y".into()) {
            Offered::Full(_) => true,
            Offered::NoSubscribers(_) | Offered::Published(_) => false,
        }
    }
}

/// Makes publishers that wait for room in a window of `messages`.
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

/// Joins texts in one batch.
fn joined(texts: &[&str]) -> Batch {
    let messages = texts.iter().map(Message::text);
    Batch::join(messages).expect("one at least")
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
        let mut tap = is_tapped.then(|| {
            let tap = bus.tap(Tapped::Topic(topic.clone()));
            tap.expect("there is room")
        });
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut offer = |batch: Batch| publisher.offer(&mut cx, batch);
        let all = joined(&["a", "b", "c", "d"]);
        assert_eq!(offer(all.clone()), Offered::NoSubscribers(all.clone()));
        let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
        let left = joined(&["c", "d"]);
        assert_eq!(offer(all), Offered::Full(left.clone()));
        assert_eq!(wakes.count(), 0);
        read(&mut reader);
        assert_eq!(wakes.count(), 1);
        assert_eq!(offer(left), Offered::Full("d".into()));
        read(&mut reader);
        read(&mut reader);
        assert_eq!(offer("d".into()), Offered::Published(1));
        read(&mut reader);
        assert_eq!(
            wakes.count(),
            2,
            "a publisher with nothing to offer waits no more"
        );
        let counts = bus.topic_counts(&topic).expect("it has a subscriber");
        assert_eq!((counts.published, counts.lost_lagged), (4, 0));
        let told = || tap.as_mut().and_then(|tap| tap.next().now_or_never());
        let told: Vec<_> = std::iter::from_fn(told).collect();
        assert_eq!(told.len(), if is_tapped { 4 } else { 0 });
        for (number, event) in told.iter().enumerate() {
            assert!(event.contains(&format!("\"number\":{number},")), "{event}");
        }
    }
}

#[test]
fn no_message_overtakes_one_for_which_there_is_no_room() {
    let window = Window {
        bytes: 4,
        ..Window::default()
    };
    let bus = InMemoryMessageBus::new(window, 3);
    let topic: Topic = "t".parse().expect("a valid name");
    let reader = bus.subscribe(&topic).expect("there is room for the topic");
    let mut cx = Context::from_waker(Waker::noop());
    let offered = bus
        .publisher(&topic)
        .offer(&mut cx, joined(&["abc", "de", "f"]));
    assert_eq!(offered, Offered::Full(joined(&["de", "f"])));
    assert_eq!(reader.pending(), 1);
}

#[test]
fn a_message_to_a_client_that_has_left_is_counted_as_gone_and_no_other_is() {
    let bus = InMemoryMessageBus::new(Window::default(), 3);
    let service: ServiceName = "s".parse().expect("a valid name");
    let topic = Topic::from_service_to_client(&service, ClientId::new(7));
    let reader = bus.subscribe(&topic).expect("there is room");
    let publisher = bus.publisher(&topic);
    let batch = || Batch::join(["b", "c"].map(Message::text)).expect("there are some");
    let gone = || bus.counts().messages.lost_gone;
    assert_eq!(bus.publish(&topic, batch()), 1);
    assert_eq!(gone(), 0, "the reader has left none");
    drop(reader);
    let to_all = Topic::from_service_to_ws(&service);
    assert_eq!(bus.publish(&to_all, batch()), 0);
    assert_eq!(gone(), 0, "it was for no client in particular");
    for (is_tapped, messages) in [(false, 4), (true, 8)] {
        let tap = is_tapped.then(|| bus.tap(Tapped::Topic(topic.clone())));
        assert_eq!(bus.publish(&topic, batch()), 0);
        assert_eq!(publisher.publish(batch()), 0);
        assert_eq!(gone(), messages, "tapped: {is_tapped}");
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
    let mut noop = Context::from_waker(Waker::noop());
    let offered = bus.publisher(&topic).offer(&mut noop, joined(&["a", "b"]));
    assert_eq!(offered, Offered::Published(1));
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
    let state = bus.topics.find(&topic).expect("it has a subscriber");
    let waiting = || state.lock().waiting_publishers().0;
    assert_eq!(waiting(), 1);
    drop(publisher);
    assert_eq!(waiting(), 0);
    drop(reader);
    assert_eq!(state.lock().subscribers.len(), 0);
}
