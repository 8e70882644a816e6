//! What a client receives: the service's topic to everybody and its topic to this client.

use std::task::{Context, Poll};

use super::outbox::Outbox;
use crate::bus::{Generation, Message, Origin, Subscription};
use crate::metrics::Metrics;

/// The two subscriptions of one client.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) to_all: Subscription,
    pub(super) to_one: Subscription,
    /// The oldest generation that serves this client.
    pub(super) since: Generation,
    /// Bytes gathered for one write.
    pub(super) outbox_bytes: usize,
}

impl Feed {
    /// Moves what is due into the outbox, up to its limit, and returns how many messages were lost.
    ///
    /// The task is parked on both subscriptions, unless the outbox has something to be sent first.
    pub(super) fn pull(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        metrics: &Metrics,
    ) -> u64 {
        let mut lost = 0;
        let mut batch = Vec::new();
        for subscription in [&mut self.to_one, &mut self.to_all] {
            // Until there is no more: what is left out fills nothing, and must not end the reading.
            while outbox.is_empty() || outbox.len() < self.outbox_bytes {
                let room = self.outbox_bytes.saturating_sub(outbox.len());
                match subscription.poll_batch(cx, room, &mut batch) {
                    Poll::Ready(lagged) => lost += lagged,
                    Poll::Pending => break,
                }
                push(&mut batch, self.since, outbox, metrics);
            }
        }
        lost
    }

    /// Whether messages to this client alone wait for its socket.
    pub(super) fn owes_answers(&self) -> bool {
        self.to_one.pending() > 0
    }
}

/// Moves the batch into the outbox, but for what an instance said that this client has not joined.
fn push(batch: &mut Vec<Message>, since: Generation, outbox: &mut Outbox, metrics: &Metrics) {
    let all = batch.len();
    batch.retain(|message| match message.origin() {
        Origin::Service(generation) => generation >= since,
        Origin::Client(_) | Origin::Unknown => true,
    });
    metrics.stale.add((all - batch.len()) as u64);
    let bytes = batch
        .iter()
        .map(|message| message.frame().as_bytes().len())
        .sum();
    outbox.reserve(batch.len(), bytes);
    for message in batch.drain(..) {
        outbox.push(message.frame());
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::bus::{InMemoryMessageBus, MessageBus, Topic};
    use crate::limits::Window;

    struct World {
        bus: InMemoryMessageBus,
        feed: Feed,
        outbox: Outbox,
        metrics: Metrics,
    }

    fn topic(name: &str) -> Topic {
        name.parse().expect("a valid name")
    }

    impl World {
        fn new(outbox_bytes: usize) -> Self {
            let bus = InMemoryMessageBus::new(Window::default(), 2);
            let subscribe = |name| bus.subscribe(&topic(name)).expect("there is room");
            let feed = Feed {
                to_all: subscribe("all"),
                to_one: subscribe("one"),
                since: Generation::new(1),
                outbox_bytes,
            };
            Self {
                bus,
                feed,
                outbox: Outbox::default(),
                metrics: Metrics::default(),
            }
        }

        /// Publishes so many messages, of which each is a frame of six bytes.
        fn publish(&self, name: &str, count: usize) {
            for _ in 0..count {
                self.bus.publish(&topic(name), "four".into());
            }
        }

        /// Bytes in the outbox after a pull.
        fn pull(&mut self) -> usize {
            let mut cx = Context::from_waker(Waker::noop());
            let lost = self.feed.pull(&mut cx, &mut self.outbox, &self.metrics);
            assert_eq!(lost, 0);
            self.outbox.len()
        }
    }

    #[test]
    fn a_pull_gathers_up_to_the_limit_and_takes_at_least_one() {
        // The limit counts payloads while it reads, and frames where it stops.
        for (limit, frames) in [(0, 1), (6, 1), (7, 2), (10, 2), (12, 3)] {
            let mut world = World::new(limit);
            world.publish("one", 5);
            assert_eq!(world.pull(), frames * 6, "a limit of {limit}");
            assert_eq!(world.feed.owes_answers(), frames < 5);
        }
    }

    #[test]
    fn answers_come_before_what_everybody_gets_and_both_in_one_write() {
        let mut world = World::new(1000);
        world.publish("all", 1);
        world.bus.publish(&topic("one"), "an answer".into());
        assert_eq!(world.pull(), 11 + 6);
        assert!(!world.feed.owes_answers());
        let mut written = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = futures::io::Cursor::new(&mut written);
        let sent = world.outbox.poll_send(&mut cx, &mut stream, &world.metrics);
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        assert_eq!(written, b"\x81\x09an answer\x81\x04four");
    }
}
