//! What a publish costs, here and with `tokio::sync::broadcast`: `cargo bench --bench bus`.
//!
//! A delivery is the time of publishing, of reading in a batch and of freeing, for each
//! subscriber; a publish is the publisher's part of it, which all subscribers share (with two
//! looks at the clock a batch, some 50 ns in all). Subscribers wait between batches, so a publish
//! also wakes them; their wakers do nothing. The message is of the same type in both. The fastest
//! of some rounds that alternate is the least disturbed.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use busline::Limits;
use busline::bus::{Batch, InMemoryMessageBus, Message, MessageBus, Subscription, Topic};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Deliveries in one measurement.
const DELIVERIES: usize = 2_000_000;

/// Measurements of each kind.
const ROUNDS: usize = 5;

fn main() {
    println!("ns                          busline              tokio broadcast");
    println!("subscribers  batch    publish   delivery    publish   delivery");
    for subscribers in [1, 100, 10_000] {
        for batch in [1, 16, 256] {
            let mut ours = Cost::MAX;
            let mut theirs = Cost::MAX;
            for _ in 0..ROUNDS {
                ours = ours.min(measure::<Ours>(subscribers, batch));
                theirs = theirs.min(measure::<Theirs>(subscribers, batch));
            }
            println!(
                "{subscribers:>11} {batch:>6} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
                ours.publish, ours.delivery, theirs.publish, theirs.delivery
            );
        }
    }
}

/// In nanoseconds.
#[derive(Clone, Copy)]
struct Cost {
    publish: f64,
    delivery: f64,
}

impl Cost {
    const MAX: Self = Self {
        publish: f64::MAX,
        delivery: f64::MAX,
    };

    fn min(self, other: Self) -> Self {
        Self {
            publish: self.publish.min(other.publish),
            delivery: self.delivery.min(other.delivery),
        }
    }
}

/// One topic with its subscribers.
trait Channel {
    fn new(subscribers: usize) -> Self;

    fn publish(&self, message: Message);

    /// Reads all there is for everybody, and returns how many messages that were.
    fn read(&mut self) -> usize;
}

struct Ours {
    bus: InMemoryMessageBus,
    topic: Topic,
    subscriptions: Vec<Subscription>,
}

impl Channel for Ours {
    fn new(subscribers: usize) -> Self {
        let limits = Limits::default();
        let bus = InMemoryMessageBus::new(limits.window, limits.topics);
        let topic: Topic = "bench".parse().expect("a valid name");
        let subscribe = |_| bus.subscribe(&topic).expect("there is room for the topic");
        Self {
            subscriptions: (0..subscribers).map(subscribe).collect(),
            topic,
            bus,
        }
    }

    fn publish(&self, message: Message) {
        self.bus.publish(&self.topic, message.into());
    }

    fn read(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut count = 0;
        for subscription in &mut self.subscriptions {
            let mut sink = |batch: Batch| count += batch.len();
            while subscription
                .poll_batches(&mut cx, usize::MAX, &mut sink)
                .is_ready()
            {}
        }
        count
    }
}

struct Theirs {
    sender: Sender<Message>,
    /// Each receives in a loop, and waits in between.
    readers: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    received: Rc<Cell<usize>>,
}

impl Theirs {
    async fn receive(mut receiver: Receiver<Message>, received: Rc<Cell<usize>>) {
        while receiver.recv().await.is_ok() {
            received.set(received.get() + 1);
        }
    }
}

impl Channel for Theirs {
    fn new(subscribers: usize) -> Self {
        let (sender, first) = channel(Limits::default().window.messages.get());
        let mut receivers = vec![first];
        receivers.resize_with(subscribers, || sender.subscribe());
        let received = Rc::new(Cell::new(0));
        let reader = |receiver| -> Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(Self::receive(receiver, Rc::clone(&received)))
        };
        Self {
            readers: receivers.into_iter().map(reader).collect(),
            sender,
            received,
        }
    }

    fn publish(&self, message: Message) {
        assert!(self.sender.send(message).is_ok(), "there are receivers");
    }

    fn read(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        for reader in &mut self.readers {
            assert!(reader.as_mut().poll(&mut cx).is_pending(), "it goes on");
        }
        self.received.take()
    }
}

fn measure<C: Channel>(subscribers: usize, batch: usize) -> Cost {
    let mut channel = C::new(subscribers);
    let message = Message::text("0123456789abcdef0123456789abcdef");
    let rounds = (DELIVERIES / subscribers / batch).max(1);
    channel.read();
    let (mut received, mut publishing) = (0, Duration::ZERO);
    let start = Instant::now();
    for _ in 0..rounds {
        let begin = Instant::now();
        for _ in 0..batch {
            channel.publish(message.clone());
        }
        publishing += begin.elapsed();
        received += channel.read();
    }
    let elapsed = start.elapsed();
    assert_eq!(received, rounds * batch * subscribers, "all was read");
    Cost {
        publish: publishing.as_secs_f64() * 1e9 / (rounds * batch) as f64,
        delivery: elapsed.as_secs_f64() * 1e9 / received as f64,
    }
}
