//! What clients have sent to one instance of a service.
//!
//! Within one poll of the instance everything that is there is taken at once, and what is left at
//! the end of the poll is put back. So a message costs no lock, and one that the service has not
//! received waits in its topic: no other thread, and no client, is kept from anything by it.

use std::cell::RefCell;
use std::task::{Context, Poll};

use crate::bus::{Ahead, Batch, Message, Origin, Refill, Subscription};
use crate::sync::thread_local;

thread_local! {
    /// What the instance that this thread polls has taken ahead.
    static POLLED: RefCell<Option<Ahead>> = const { RefCell::new(None) };
}

/// The inbox of one instance; dropping it unsubscribes.
#[derive(Debug)]
pub(super) struct Inbox(Subscription);

/// The polls of one instance, in which its inbox is taken ahead.
#[derive(Debug)]
pub(crate) struct Polls {
    /// `None` only during one.
    ahead: Option<Ahead>,
}

/// Ends a poll, however it ends.
struct One<'a> {
    polls: &'a mut Polls,
    /// That of the instance within whose poll this one is.
    outer: Option<Ahead>,
}

impl Inbox {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self(subscription)
    }

    /// The next message of those that were taken ahead.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Message> {
        with_ahead(|ahead| self.0.next_ahead(ahead.as_mut()?))
    }

    /// What one origin has said together, or in a row, of those that were taken ahead: that origin,
    /// which none of them names, and the messages.
    #[inline]
    pub(super) fn next_batch(&mut self) -> Option<(Origin, Batch)> {
        with_ahead(|ahead| self.0.next_batch_ahead(ahead.as_mut()?))
    }

    /// Takes ahead what there is, once there is nothing ahead.
    pub(super) fn poll_refill(&mut self, cx: &mut Context<'_>) -> Poll<Refill> {
        // Taken out meanwhile: to wake publishers is to run foreign code.
        match with_ahead(Option::take) {
            Some(mut ahead) => {
                let refill = self.0.poll_ahead(cx, &mut ahead);
                with_ahead(|polled| polled.replace(ahead));
                refill
            }
            // It is polled elsewhere than its instance.
            None => self.0.poll_recv(cx).map(Refill::Received),
        }
    }
}

/// What `act` does with what this thread's instance has ahead; a thread that ends has nothing.
fn with_ahead<T>(act: impl FnOnce(&mut Option<Ahead>) -> Option<T>) -> Option<T> {
    let done = POLLED.try_with(|polled| act(&mut polled.borrow_mut()));
    done.ok().flatten()
}

impl Polls {
    /// Those of the instance that gets this inbox.
    pub(crate) fn of(inbox: &Subscription) -> Self {
        Self {
            ahead: Some(inbox.ahead()),
        }
    }

    /// Runs one of them.
    pub(crate) fn run<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        let own = self.ahead.take();
        let outer = with_ahead(|polled| std::mem::replace(polled, own));
        let _one = One { polls: self, outer };
        poll()
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let mut own = with_ahead(|polled| std::mem::replace(polled, outer));
        if let Some(ahead) = &mut own {
            ahead.settle();
        }
        self.polls.ahead = own;
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::num::NonZeroUsize;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;

    use super::*;
    use crate::bus::{
        Generation, InMemoryMessageBus, MessageBus, Offered, Publisher, Received, Topic, Train,
    };
    use crate::limits::Window;
    use crate::wakes::Wakes;

    /// An instance whose inbox has room for three messages.
    struct World {
        bus: InMemoryMessageBus,
        polls: Polls,
        inbox: Option<Inbox>,
        publisher: Publisher,
    }

    impl World {
        fn of(bus: &InMemoryMessageBus, name: &str) -> Self {
            let topic: Topic = name.parse().expect("a valid name");
            let inbox = bus.subscribe(&topic).expect("there is room");
            Self {
                polls: Polls::of(&inbox),
                inbox: Some(Inbox::new(inbox)),
                publisher: bus.publisher(&topic),
                bus: bus.clone(),
            }
        }

        fn new() -> Self {
            let messages = NonZeroUsize::new(3).expect("not zero");
            let window = Window {
                messages,
                ..Window::default()
            };
            Self::of(&InMemoryMessageBus::new(window, 2), "in")
        }

        fn offer(&mut self, waker: &Waker, text: &str) -> bool {
            let mut cx = Context::from_waker(waker);
            match self.publisher.offer(&mut cx, text.into()) {
                Offered::Full(_) => false,
                Offered::Published(subscribers) => subscribers == 1,
                Offered::Nobody(_) => panic!("somebody is subscribed"),
            }
        }

        fn offer_each(&mut self, texts: &[&str]) {
            for text in texts {
                assert!(self.offer(Waker::noop(), text), "there is room for {text}");
            }
        }

        /// Runs a poll that receives so many messages.
        fn poll(&mut self, count: usize) -> Vec<String> {
            let inbox = self.inbox.as_mut().expect("it has not left");
            self.polls
                .run(|| (0..count).map_while(|_| recv(inbox)).collect())
        }

        /// Messages delivered, lost by lag, lost by leaving, and waiting.
        fn counts(&self) -> [u64; 4] {
            let counts = self.bus.counts().messages;
            let lost = counts.lost_lagged + counts.lost_unsubscribed;
            assert_eq!(counts.owed, counts.delivered + lost + counts.pending);
            [
                counts.delivered,
                counts.lost_lagged,
                counts.lost_unsubscribed,
                counts.pending,
            ]
        }
    }

    fn recv(inbox: &mut Inbox) -> Option<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let message = loop {
            if let Some(message) = inbox.next() {
                break message;
            }
            match inbox.poll_refill(&mut cx) {
                Poll::Ready(Refill::Ahead) => {}
                Poll::Ready(Refill::Received(Received::Message(message))) => break message,
                Poll::Ready(Refill::Received(Received::Lagged(lost))) => {
                    return Some(format!("{lost} lost"));
                }
                Poll::Pending => return None,
            }
        };
        message.as_text().map(str::to_owned)
    }

    #[test]
    fn what_a_poll_does_not_receive_waits_for_the_next_one() {
        let mut world = World::new();
        world.offer_each(&["a", "b", "c"]);
        assert_eq!(world.poll(1), ["a"]);
        assert_eq!(world.counts(), [1, 0, 0, 2]);
        world.offer_each(&["d"]);
        assert_eq!(world.poll(9), ["b", "c", "d"]);
        assert_eq!(world.counts(), [4, 0, 0, 0]);
        assert_eq!(world.poll(1), [""; 0]);
    }

    #[test]
    fn what_is_there_is_taken_with_one_lock_and_counted_at_the_end() {
        let mut world = World::new();
        world.offer_each(&["a", "b"]);
        let (bus, inbox) = (
            world.bus.clone(),
            world.inbox.as_mut().expect("it is there"),
        );
        let delivered = || bus.counts().messages.delivered;
        world.polls.run(|| {
            assert_eq!(recv(inbox).as_deref(), Some("a"));
            assert_eq!(recv(inbox).as_deref(), Some("b"));
            assert_eq!(delivered(), 0, "both were taken ahead");
        });
        assert_eq!(delivered(), 2);
    }

    #[test]
    fn what_is_received_keeps_its_room_until_the_poll_ends_and_then_wakes_who_waits() {
        let mut world = World::new();
        world.offer_each(&["a", "b", "c"]);
        let (wakes, waker) = Wakes::new();
        assert!(!world.offer(&waker, "d"));
        let mut inbox = world.inbox.take().expect("it has not left");
        let mut polls = std::mem::replace(&mut world.polls, Polls { ahead: None });
        polls.run(|| {
            assert_eq!(recv(&mut inbox).as_deref(), Some("a"));
            assert!(!world.offer(&waker, "d"));
            assert_eq!(world.counts(), [0, 0, 0, 3]);
        });
        assert_eq!(wakes.count(), 1);
        assert!(world.offer(&waker, "d"));
        polls.run(|| {
            let texts: Vec<_> = std::iter::from_fn(|| recv(&mut inbox)).collect();
            assert_eq!(texts, ["b", "c", "d"]);
        });
    }

    #[test]
    fn who_does_not_wait_for_room_pushes_out_what_would_have_been_pushed_out_without() {
        let mut world = World::new();
        world.offer_each(&["a", "b", "c"]);
        let bus = world.bus.clone();
        let inbox = world.inbox.as_mut().expect("it has not left");
        let topic: Topic = "in".parse().expect("a valid name");
        world.polls.run(|| {
            assert_eq!(recv(inbox).as_deref(), Some("a"));
            bus.publish(&topic, "d".into());
            bus.publish(&topic, "e".into());
        });
        assert_eq!(world.counts(), [1, 1, 0, 3]);
        assert_eq!(world.poll(9), ["1 lost", "c", "d", "e"]);
    }

    #[test]
    fn an_instance_that_ends_within_its_poll_has_lost_what_it_has_not_received() {
        for panics in [false, true] {
            let mut world = World::new();
            world.offer_each(&["a", "b", "c"]);
            let mut inbox = world.inbox.take();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                world.polls.run(|| {
                    assert_eq!(inbox.as_mut().and_then(recv).as_deref(), Some("a"));
                    assert!(!panics, "on purpose");
                    drop(inbox.take());
                });
            }));
            assert_eq!(ended.is_err(), panics);
            assert_eq!(inbox.is_some(), panics);
            drop(inbox);
            assert_eq!(world.counts(), [1, 0, 2, 0], "{panics}");
        }
    }

    #[test]
    fn one_that_is_received_elsewhere_waits_until_what_was_taken_is_put_back() {
        let mut world = World::new();
        world.offer_each(&["a", "b"]);
        let mut inbox = world.inbox.take().expect("it has not left");
        let (wakes, waker) = Wakes::new();
        let mut inbox = world.polls.run(|| {
            assert_eq!(recv(&mut inbox).as_deref(), Some("a"));
            std::thread::scope(|scope| {
                let there = scope.spawn(move || {
                    let mut cx = Context::from_waker(&waker);
                    assert!(inbox.next().is_none() && inbox.poll_refill(&mut cx).is_pending());
                    inbox
                });
                there.join().expect("no panic")
            })
        });
        assert_eq!(wakes.count(), 1);
        assert_eq!(recv(&mut inbox).as_deref(), Some("b"));
        assert_eq!(world.counts(), [2, 0, 0, 0]);
    }

    #[test]
    fn a_poll_within_another_ones_takes_its_own() {
        let bus = InMemoryMessageBus::new(Window::default(), 2);
        let (mut outer, mut inner) = (World::of(&bus, "outer"), World::of(&bus, "inner"));
        outer.offer_each(&["a", "b"]);
        inner.offer_each(&["1", "2"]);
        let inbox = outer.inbox.as_mut().expect("it has not left");
        outer.polls.run(|| {
            assert_eq!(recv(inbox).as_deref(), Some("a"));
            assert_eq!(inner.poll(1), ["1"]);
            // Neither its own poll nor within it.
            let other = inner.inbox.as_mut().expect("it has not left");
            assert_eq!(recv(other).as_deref(), Some("2"));
            assert_eq!(recv(inbox).as_deref(), Some("b"));
        });
        assert_eq!(outer.counts(), [4, 0, 0, 0]);
    }

    #[test]
    fn a_batch_is_what_one_has_said_in_a_row_and_the_rest_waits() {
        let mut world = World::new();
        world.offer_each(&["a", "b"]);
        let other = Message::text("c").from_origin(Origin::Service(Generation::new(1)));
        world
            .bus
            .publish(&"in".parse().expect("a valid name"), other);
        let inbox = world.inbox.as_mut().expect("it has not left");
        world.polls.run(|| {
            assert!(inbox.next_batch().is_none(), "nothing is ahead yet");
            assert_eq!(recv(inbox).as_deref(), Some("a"));
            let (origin, said) = inbox.next_batch().expect("it is ahead");
            assert_eq!(origin, Origin::Unknown);
            assert!(said.into_iter().eq(["b"].map(Message::text)));
        });
        assert_eq!(world.counts(), [2, 0, 0, 1]);
        assert_eq!(world.poll(9), ["c"]);
    }

    #[test]
    fn what_came_together_is_a_batch_by_itself_and_otherwise_as_any_messages() {
        for receives in [0, 1] {
            let mut world = World::new();
            let topic: Topic = "in".parse().expect("a valid name");
            let train = |texts: &[&str]| {
                world
                    .bus
                    .publisher(&topic)
                    .publish_batch(Train::of_texts(texts).into())
            };
            assert_eq!((train(&["a", "b"]), train(&["c"])), (1, 1));
            let inbox = world.inbox.as_mut().expect("it has not left");
            world.polls.run(|| {
                let mut cx = Context::from_waker(Waker::noop());
                assert_eq!(inbox.poll_refill(&mut cx), Poll::Ready(Refill::Ahead));
                for _ in 0..receives {
                    assert_eq!(recv(inbox).as_deref(), Some("a"));
                }
                let (_, said) = inbox.next_batch().expect("it is ahead");
                let expected = if receives == 0 {
                    ["a", "b"]
                } else {
                    ["b", "c"]
                };
                assert!(said.into_iter().eq(expected.map(Message::text)));
            });
            let received = 2 + receives;
            assert_eq!(world.counts(), [received, 0, 0, 3 - received]);
        }
    }

    #[test]
    fn a_batch_is_received_whatever_becomes_of_the_inbox_and_names_nobody() {
        let mut world = World::new();
        let topic: Topic = "in".parse().expect("a valid name");
        let by = Origin::Service(Generation::new(1));
        for text in ["a", "b"] {
            let message = Message::text(text).from_origin(by.clone());
            world.bus.publish(&topic, message);
        }
        world.offer_each(&["c"]);
        let mut inbox = world.inbox.take().expect("it has not left");
        world.polls.run(|| {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(inbox.poll_refill(&mut cx).is_ready());
            let (origin, said) = inbox.next_batch().expect("it is ahead");
            assert_eq!(origin, by);
            assert!(said.into_iter().eq(["a", "b"].map(Message::text)));
            drop(inbox);
        });
        assert_eq!(world.counts(), [2, 0, 1, 0]);
    }

    #[test]
    fn what_is_left_is_a_message_like_any_other() {
        let mut world = World::new();
        world.offer_each(&["a", "b"]);
        assert_eq!(world.poll(1), ["a"]);
        let status = world.bus.topics();
        assert_eq!((status[0].messages, status[0].bytes), (1, 1));
        let message = Message::from("a long one");
        let inbox = world.inbox.as_mut().expect("it has not left");
        let bus = world.bus.clone();
        world.polls.run(|| {
            assert_eq!(recv(inbox).as_deref(), Some("b"));
            let status = bus.topics();
            assert_eq!((status[0].messages, status[0].bytes), (1, 1), "not settled");
        });
        let topic: Topic = "in".parse().expect("a valid name");
        world.bus.publish(&topic, message);
        let status = world.bus.topics();
        assert_eq!((status[0].messages, status[0].bytes), (1, 10));
    }
}
