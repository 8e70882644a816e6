//! Topics of one bus, each with a subscriber that waits.

use std::task::{Context, Waker};

use busline::Limits;
use busline::bus::{Batch, InMemoryMessageBus, Message, MessageBus, Subscription, Topic};

use crate::{STRIDE, Turn};

/// Topics, and who is subscribed to each.
pub(crate) struct Topics {
    bus: InMemoryMessageBus,
    all: Vec<(Topic, Subscription)>,
    message: Message,
    /// Which is next.
    next: usize,
}

impl Topics {
    pub(crate) fn new(count: usize) -> Self {
        let limits = Limits::default();
        let bus = InMemoryMessageBus::new(limits.window, limits.topics);
        let topic = |number| {
            let topic: Topic = format!("topic-{number}").parse().expect("a valid name");
            let subscription = bus.subscribe(&topic).expect("there is room for the topic");
            (topic, subscription)
        };
        Self {
            all: (0..count).map(topic).collect(),
            bus,
            message: Message::text("0123456789abcdef0123456789abcdef"),
            next: 0,
        }
    }

    /// Publishes so many messages by the name of their topic, each of which its subscriber then
    /// reads; returns how many that are.
    pub(crate) fn run(&mut self, turn: Turn, messages: usize) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = 0;
        for _ in 0..messages {
            if let Turn::Each = turn {
                self.next = (self.next + STRIDE) % self.all.len();
            }
            let (topic, subscription) = &mut self.all[self.next];
            self.bus.publish(topic, self.message.clone().into());
            let mut sink = |batch: Batch| read += batch.len();
            while subscription
                .poll_batches(&mut cx, usize::MAX, &mut sink)
                .is_ready()
            {}
        }
        assert_eq!(read, messages, "each is read");
        read
    }
}
