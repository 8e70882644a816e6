//! loom models of the bus: every interleaving of a few threads, within the stated bound.
//!
//! Each model asks one question and names the bug it catches; docs/proofs.md tells which planted
//! bug made it fail.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::thread;

use crate::bus::{
    Batch, BurstFilter, Generation, InMemoryMessageBus, Message, MessageBus, Offered, Publisher,
    Received, SharedCursor, Subscription, Topic,
};
use crate::limits::Window;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, model};

mod batches;
mod end;
mod history;
mod order;
mod taps;

/// Conditions that each message of these models meets.
const TERMS: BurstFilter = BurstFilter {
    bytes_max: 100,
    since: Generation::new(1),
};

fn bus(window: usize) -> InMemoryMessageBus {
    let messages = NonZeroUsize::new(window).expect("a window is not empty");
    let window = Window {
        messages,
        ..Window::default()
    };
    InMemoryMessageBus::new(window, 8)
}

fn topic() -> Topic {
    "t".parse().expect("a valid name")
}

fn subscribe(bus: &InMemoryMessageBus) -> Subscription {
    bus.subscribe(&topic())
        .expect("there is room for the topic")
}

fn publish(bus: &InMemoryMessageBus, text: &str) -> usize {
    bus.publish(&topic(), text.into())
}

/// Waits until no subscriber would lose a message, publishes, and returns how many are subscribed.
fn publish_with_room(publisher: &mut Publisher, text: &str) -> usize {
    block_on(poll_fn(|cx| match publisher.offer(cx, text.into()) {
        Offered::Full(_) => Poll::Pending,
        Offered::NoSubscribers(_) => Poll::Ready(0),
        Offered::Published(subscribers) => Poll::Ready(subscribers),
    }))
}

/// Starts a thread with a publisher that waits for room for one message.
fn publisher_with_room(bus: &InMemoryMessageBus, text: &'static str) -> thread::JoinHandle<usize> {
    let mut publisher = bus.publisher(&topic());
    thread::spawn(move || publish_with_room(&mut publisher, text))
}

/// Reads without waiting.
fn poll(subscription: &mut Subscription) -> Option<Received> {
    let mut cx = Context::from_waker(Waker::noop());
    match subscription.poll_recv(&mut cx) {
        Poll::Ready(received) => Some(received),
        Poll::Pending => None,
    }
}

/// Waits for the texts of `count` messages and losses; a loss has no text.
fn texts(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        match block_on(subscription.recv()) {
            Received::Message(message) => texts.extend(message.as_text().map(str::to_owned)),
            Received::Lagged(lost) => panic!("{lost} lost inside of the window"),
        }
    }
    texts
}

fn assert_conserved(bus: &InMemoryMessageBus) {
    let counts = bus.counts().messages;
    let done = counts.delivered + counts.lost_lagged + counts.lost_unsubscribed;
    assert_eq!(counts.owed, done + counts.pending, "{counts:?}");
}

fn assert_empty(bus: &InMemoryMessageBus) {
    let counts = bus.counts();
    assert_eq!(
        (counts.topics, counts.subscriptions, counts.bytes),
        (0, 0, 0)
    );
    assert_eq!(counts.messages.pending, 0);
    assert_conserved(bus);
}

/// 2 publishers x 2 messages, 2 readers after them; preemptions unbounded.
///
/// Catches: an append that is not atomic with its offset (an order swap, a message twice or lost).
#[test]
fn two_publishers_make_one_order_for_all_readers() {
    model(None, || {
        let bus = bus(4);
        let mut readers = [subscribe(&bus), subscribe(&bus)];
        let publisher = |texts: [&'static str; 2]| {
            let bus = bus.clone();
            thread::spawn(move || texts.map(|text| publish(&bus, text)))
        };
        let publishers = [publisher(["a", "b"]), publisher(["c", "d"])];
        for publisher in publishers {
            assert_eq!(publisher.join().expect("no panic"), [2, 2]);
        }
        let [first, second] = readers.each_mut().map(|reader| texts(reader, 4));
        assert_eq!(first, second, "one order");
        let position = |text| first.iter().position(|t| t == text).expect("not lost");
        assert!(position("a") < position("b") && position("c") < position("d"));
        drop(readers);
        assert_empty(&bus);
    });
}

/// 2 publishers x 1 message against a reader that parks; bound 3.
///
/// Catches: a wake before the append, and a park after the look under another lock (lost wakeup:
/// loom reports the deadlock).
#[test]
fn a_parked_reader_is_woken_by_every_append() {
    model(Some(3), || {
        let bus = bus(4);
        let mut reader = subscribe(&bus);
        let publishers = ["a", "b"].map(|text| {
            let bus = bus.clone();
            thread::spawn(move || publish(&bus, text))
        });
        assert_eq!(texts(&mut reader, 2).len(), 2);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        drop(reader);
        assert_empty(&bus);
    });
}

/// A batch of 2 messages and 1 message, against a reader that parks; bound 3.
///
/// Catches: a batch that is appended in two steps, or wakes nobody.
#[test]
fn a_batch_wakes_a_parked_reader_and_nothing_comes_into_it() {
    model(Some(3), || {
        let bus = bus(4);
        let mut reader = subscribe(&bus);
        let publisher = bus.publisher(&topic());
        let batch = Batch::join(["a", "b"].map(Message::text)).expect("two");
        let batch = thread::spawn(move || publisher.publish(batch));
        let publishing = bus.clone();
        let other = thread::spawn(move || publish(&publishing, "c"));
        let texts = [(); 3].map(|()| block_on(reader.recv()));
        let [a, b] = ["a", "b"].map(|text| Received::Message(text.into()));
        assert!(texts.windows(2).any(|two| two == [a.clone(), b.clone()]));
        let told = [batch, other].map(|publisher| publisher.join().expect("no panic"));
        assert_eq!(told, [1, 1]);
        drop(reader);
        assert_empty(&bus);
    });
}

/// 1 publisher x 4 messages through a window of 2 against a reader; bound 3.
///
/// Catches: an off-by-one at the edge of the window, and a loss that is counted twice or not.
#[test]
fn what_is_read_and_what_is_reported_lost_is_what_was_published() {
    model(Some(3), || {
        let bus = bus(2);
        let mut reader = subscribe(&bus);
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || (0..4).map(|n| publish(&bus, &n.to_string())).sum::<usize>())
        };
        let mut next = 0;
        while next < 4 {
            match block_on(reader.recv()) {
                Received::Lagged(lost) => next += lost,
                Received::Message(message) => {
                    assert_eq!(message.as_text(), Some(next.to_string().as_str()));
                    next += 1;
                }
            }
        }
        publisher.join().expect("no panic");
        assert_eq!(next, 4);
        let counts = bus.counts().messages;
        assert_eq!(counts.delivered + counts.lost_lagged, 4);
        drop(reader);
        assert_empty(&bus);
    });
}

/// 1 publisher x 2 messages against a reader that unsubscribes; preemptions unbounded.
///
/// Catches: a topic or subscriber that stays behind, a delivery after the unsubscribe, a message of
/// a topic under removal that no counter has.
#[test]
fn unsubscribing_while_publishing_leaves_nothing_behind() {
    model(None, || {
        let bus = bus(4);
        let mut reader = subscribe(&bus);
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || publish(&bus, "a") + publish(&bus, "b"))
        };
        let received = u64::from(poll(&mut reader).is_some());
        bus.unsubscribe(reader);
        assert_eq!(publish(&bus, "after"), 0, "nobody is subscribed any more");
        let to_reader = publisher.join().expect("no panic");
        let counts = bus.counts().messages;
        assert_eq!(counts.published, 3);
        assert_eq!(counts.owed, to_reader as u64);
        assert_eq!(counts.delivered, received);
        assert_empty(&bus);
    });
}

/// The last unsubscribe against a new subscribe on the same topic; preemptions unbounded.
///
/// Catches: a topic removed outside of the map's lock, so that the new subscriber is at a removed
/// topic.
#[test]
fn a_new_subscriber_is_never_attached_to_a_dead_topic() {
    model(None, || {
        let bus = bus(4);
        let last = subscribe(&bus);
        let leaver = thread::spawn(move || drop(last));
        let mut new = subscribe(&bus);
        assert!(publish(&bus, "a") >= 1);
        assert_eq!(texts(&mut new, 1), ["a"]);
        leaver.join().expect("no panic");
        assert_eq!(publish(&bus, "b"), 1);
        assert_eq!(texts(&mut new, 1), ["b"]);
        drop(new);
        assert_empty(&bus);
    });
}

/// 2 publishers wait for room in a window of 1 against the reader; bound 2.
///
/// Catches: a publisher that is not woken when there is room, and two publishers that take one
/// slot.
#[test]
fn publishers_that_wait_for_room_all_get_it_and_lose_nothing() {
    model(Some(2), || {
        let bus = bus(1);
        let mut reader = subscribe(&bus);
        let publishers = ["a", "b"].map(|text| publisher_with_room(&bus, text));
        let mut all = texts(&mut reader, 2);
        all.sort_unstable();
        assert_eq!(all, ["a", "b"]);
        for publisher in publishers {
            assert_eq!(publisher.join().expect("no panic"), 1);
        }
        drop(reader);
        assert_empty(&bus);
    });
}

/// A publisher waits for room while the only reader leaves; preemptions unbounded.
///
/// Catches: a publisher that waits for ever for a reader that has left.
#[test]
fn a_publisher_does_not_wait_for_a_reader_that_left() {
    model(None, || {
        let bus = bus(1);
        let reader = subscribe(&bus);
        assert_eq!(publish(&bus, "full"), 1);
        let waiter = publisher_with_room(&bus, "a");
        drop(reader);
        assert_eq!(waiter.join().expect("no panic"), 0);
        assert_empty(&bus);
    });
}

/// A waiting publisher is dropped while the reader makes room for the other; bound 3.
///
/// Catches: a wake that is spent on a dropped waiter, and a waiter's slot that is never given back.
#[test]
fn a_waiter_that_is_dropped_takes_nobodys_room() {
    model(Some(3), || {
        let bus = bus(1);
        let mut reader = subscribe(&bus);
        assert_eq!(publish(&bus, "full"), 1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut dropped = bus.publisher(&topic());
        let offered = dropped.offer(&mut cx, "a".into());
        assert_eq!(offered, Offered::Full("a".into()));
        let waiter = publisher_with_room(&bus, "b");
        let dropper = thread::spawn(move || drop(dropped));
        assert_eq!(texts(&mut reader, 2), ["full", "b"]);
        assert_eq!(waiter.join().expect("no panic"), 1);
        dropper.join().expect("no panic");
        drop(reader);
        assert_empty(&bus);
    });
}

/// A publisher, a reader and a reader that leaves, while a thread reads the counts; bound 2.
///
/// Catches: a count that is changed without the lock that guards the counted state.
#[test]
fn the_counts_are_conserved_at_every_moment() {
    model(Some(2), || {
        let bus = bus(1);
        let mut stays = subscribe(&bus);
        let leaves = subscribe(&bus);
        let publisher = {
            let bus = bus.clone();
            thread::spawn(move || {
                for n in 0..3 {
                    publish(&bus, &n.to_string());
                }
            })
        };
        let leaver = thread::spawn(move || drop(leaves));
        let observer = {
            let bus = bus.clone();
            thread::spawn(move || assert_conserved(&bus))
        };
        while poll(&mut stays).is_some() {}
        assert_conserved(&bus);
        for thread in [publisher, leaver, observer] {
            thread.join().expect("no panic");
        }
        drop(stays);
        assert_empty(&bus);
        assert_eq!(bus.counts().messages.published, 3);
    });
}

/// 2 messages against a reader that polls only while `is_quiet` is false; bound 3.
///
/// Catches: a tail that is written after the wakes, which leaves the reader asleep.
#[test]
fn a_reader_that_asks_only_for_what_is_new_misses_nothing() {
    model(Some(3), || {
        let bus = bus(8);
        let mut reader = subscribe(&bus);
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || {
                publish(&bus, "a");
                publish(&bus, "b");
            }
        });
        let mut received = 0;
        block_on(poll_fn(|cx| {
            while received < 2 && !reader.is_quiet() {
                match reader.poll_recv(cx) {
                    Poll::Pending => {}
                    Poll::Ready(_) => received += 1,
                }
            }
            if received < 2 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }));
        publisher.join().expect("the publisher does not panic");
        assert_conserved(&bus);
    });
}

/// 2 messages against two members of a shared cursor, which leave it after a burst; bound 3.
///
/// Catches: a member that is not at the cursor's offset, and so gets a message twice or not.
#[test]
fn a_shared_cursor_and_who_leaves_it_get_every_message_once() {
    model(Some(3), || {
        let bus = bus(8);
        let mut members = [subscribe(&bus), subscribe(&bus)];
        let mut cursor = SharedCursor::beside(&members[0]);
        assert!(members.iter_mut().all(|member| cursor.join(member)));
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || {
                publish(&bus, "a");
                publish(&bus, "b");
            }
        });
        let burst = block_on(poll_fn(|cx| cursor.poll_burst(cx, TERMS)));
        let given = burst.expect("it suits").messages();
        let rest: Vec<_> = members
            .iter_mut()
            .map(|member| {
                cursor.leave(member);
                texts(member, 2 - given)
            })
            .collect();
        let expected = ["a", "b"].map(str::to_owned)[given..].to_vec();
        assert_eq!(rest, [expected.clone(), expected]);
        publisher.join().expect("the publisher does not panic");
        assert_conserved(&bus);
        drop((cursor, members));
        assert_empty(&bus);
    });
}

/// A publisher waits until its messages are processed, against a reader that answers each message
/// before it polls for the next, or leaves after the last; preemptions unbounded.
///
/// Catches: a turn that is over before the answers are published, and a reader that polls again or
/// leaves without a wake for the waiting publisher.
#[test]
fn a_turn_is_over_once_all_is_answered_and_who_waits_for_it_is_woken() {
    for leaves in [false, true] {
        model(None, move || {
            let bus = bus(4);
            let mut reader = subscribe(&bus);
            let answers = Arc::new(AtomicU64::new(0));
            let mut publisher = bus.publisher(&topic());
            let counted = Arc::clone(&answers);
            let service = thread::spawn(move || {
                for _ in 0..2 {
                    texts(&mut reader, 1);
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                if leaves {
                    return None;
                }
                assert_eq!(poll(&mut reader), None);
                Some(reader)
            });
            for text in ["a", "b"] {
                assert_eq!(publish_with_room(&mut publisher, text), 1);
            }
            block_on(poll_fn(|cx| publisher.poll_processed(cx)));
            assert_eq!(answers.load(Ordering::SeqCst), 2);
            drop(service.join().expect("no panic"));
            assert_empty(&bus);
        });
    }
}

/// A subscription joins a shared cursor while its task waits and a message is published; bound 3.
///
/// Catches: a message that wakes neither the cursor's task nor the member's, and a message that
/// both read, or neither reads.
#[test]
fn a_subscription_that_joins_a_waiting_cursor_gets_every_message_once() {
    model(Some(3), || {
        let bus = bus(8);
        let [mut first, mut second] = [subscribe(&bus), subscribe(&bus)];
        let mut cursor = SharedCursor::beside(&first);
        assert!(cursor.join(&mut first));
        let cursor = Arc::new(Mutex::new(cursor));
        let task = thread::spawn({
            let cursor = Arc::clone(&cursor);
            move || {
                let burst = poll_fn(|cx| cursor.lock().poll_burst(cx, TERMS));
                block_on(burst).expect("it suits").messages()
            }
        });
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || publish(&bus, "a")
        });
        let joined = cursor.lock().join(&mut second);
        if !joined {
            assert_eq!(texts(&mut second, 1), ["a"]);
        }
        assert_eq!(task.join().expect("no panic"), 1);
        assert_eq!(publisher.join().expect("no panic"), 2);
        cursor.lock().leave(&mut first);
        if joined {
            cursor.lock().leave(&mut second);
        }
        assert_eq!((poll(&mut first), poll(&mut second)), (None, None));
        assert_eq!(bus.counts().messages.delivered, 2);
        drop((cursor, first, second));
        assert_empty(&bus);
    });
}
