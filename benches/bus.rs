//! What a publish costs: `cargo bench --bench bus`.
//!
//! Each line is the time of one delivery (publish, read in a batch, free), for a number of
//! subscribers and a number of messages that wait when they read.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::task::{Context, Waker};
use std::time::Instant;

use busline::Limits;
use busline::bus::{InMemoryMessageBus, Message, MessageBus, Subscription, Topic};

/// Deliveries in one measurement.
const DELIVERIES: usize = 4_000_000;

/// Measurements of each kind; the fastest is the least disturbed.
const ROUNDS: usize = 5;

fn main() {
    println!("{:>12} {:>8} {:>14}", "subscribers", "batch", "ns/delivery");
    for subscribers in [1, 100, 10_000] {
        for batch in [1, 16, 256] {
            let fastest = (0..ROUNDS)
                .map(|_| measure(subscribers, batch))
                .fold(f64::MAX, f64::min);
            println!("{subscribers:>12} {batch:>8} {fastest:>14.1}");
        }
    }
}

/// Nanoseconds a delivery.
fn measure(subscribers: usize, batch: usize) -> f64 {
    let limits = Limits::default();
    let bus = InMemoryMessageBus::new(limits.window, limits.topics);
    let topic: Topic = "bench".parse().expect("a valid name");
    let subscribe = |_| bus.subscribe(&topic).expect("there is room for the topic");
    let mut subscriptions: Vec<_> = (0..subscribers).map(subscribe).collect();
    let message = Message::text("0123456789abcdef0123456789abcdef");
    let rounds = (DELIVERIES / subscribers / batch).max(1);
    let mut received = 0;
    let start = Instant::now();
    for _ in 0..rounds {
        for _ in 0..batch {
            bus.publish(&topic, message.clone());
        }
        received += subscriptions.iter_mut().map(read).sum::<usize>();
    }
    let elapsed = start.elapsed();
    assert_eq!(
        received,
        rounds * batch * subscribers,
        "every message was read"
    );
    elapsed.as_secs_f64() * 1e9 / received as f64
}

fn read(subscription: &mut Subscription) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut batch = Vec::new();
    while subscription
        .poll_batch(&mut cx, usize::MAX, &mut batch)
        .is_ready()
    {}
    batch.len()
}
