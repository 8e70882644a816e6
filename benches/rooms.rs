//! What a room costs: `cargo bench --bench rooms`.
//!
//! Each room has one client: a lease and the two subscriptions of a session, without its socket.
//! Memory is the growth of the resident set for the entry, the instance, and their topics, beside
//! the topic that every connection has for itself. A life
//! is the time from a join over a running instance to a room that is gone, while so many other
//! rooms exist; a message is the time from a client's publish over the instance to the client. A
//! drain is the call of `App::drain`, which keeps its thread, and the time until no room is left.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::time::{Duration, Instant};

use busline::bus::{ClientId, MessageBus, Subscription, Topic};
use busline::registry::{Arrival, Lease, Status};
use busline::rt::Tokio;
use busline::{App, Context, Limits, Message, Peer, ServicePolicy};
use tokio::task::yield_now;

/// Lives in one measurement.
const LIVES: usize = 2_000;

/// Messages in one measurement.
const MESSAGES: usize = 20_000;

/// Measurements of each kind; the fastest is the least disturbed.
const ROUNDS: usize = 5;

async fn chat(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        ctx.publish(message);
    }
}

/// The share of a session in a room.
struct Client {
    lease: Lease<Tokio>,
    _own: Subscription,
    all: Subscription,
}

struct Hall {
    app: App<Tokio>,
    clients: u64,
}

impl Hall {
    fn new() -> Self {
        let limits = Limits {
            rooms: usize::MAX,
            rooms_per_address: usize::MAX,
            ..Limits::default()
        };
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.linger = Duration::ZERO;
        let app = App::builder(Tokio::current()).limits(limits);
        let app = app.room_with("chat", chat, policy).expect("a valid name");
        Self {
            app: app.build(),
            clients: 0,
        }
    }

    /// The topic of one more client for itself, which is part of its connection.
    fn connect(&mut self, key: &str) -> Subscription {
        let room = self.app.registry().room("chat", Some(key)).expect("a key");
        self.clients += 1;
        let own = Topic::from_service_to_client(&room, ClientId::new(self.clients));
        self.app.bus().subscribe(&own).expect("few")
    }

    async fn enter(&mut self, key: &str) -> Client {
        let own = self.connect(key);
        self.join(key, own).await
    }

    async fn join(&self, key: &str, own: Subscription) -> Client {
        let (registry, bus) = (self.app.registry(), self.app.bus());
        let room = registry.room("chat", Some(key)).expect("a key");
        let client = Client {
            all: bus
                .subscribe(&Topic::from_service_to_ws(&room))
                .expect("few"),
            _own: own,
            lease: registry
                .join_room(&room, &Peer::default(), Arrival::default())
                .expect("not refused"),
        };
        while !matches!(client.lease.status(), Status::Running(_)) {
            yield_now().await;
        }
        client
    }

    /// Waits until only so many rooms are left.
    async fn left(&self, rooms: usize) {
        while self.app.registry().rooms_open() > rooms {
            yield_now().await;
        }
    }

    /// The time of one life.
    async fn life(&mut self, others: usize) -> Duration {
        let begun = Instant::now();
        for life in 0..LIVES {
            drop(self.enter(&format!("life {life}")).await);
            self.left(others).await;
        }
        begun.elapsed() / u32::try_from(LIVES).expect("few")
    }

    /// The time of one message.
    async fn message(&self, client: &mut Client) -> Duration {
        let inbox = client.lease.inbox().clone();
        let publisher = self.app.bus().publisher(&inbox);
        let begun = Instant::now();
        for _ in 0..MESSAGES {
            publisher.publish(Message::text("hello").into());
            std::future::poll_fn(|cx| client.all.poll_recv(cx)).await;
        }
        begun.elapsed() / u32::try_from(MESSAGES).expect("few")
    }
}

/// The resident set in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    4096 * pages.unwrap_or(0_usize)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("  rooms   bytes a room   us a life   us a message   ms a drain   ms to the end");
    for rooms in [1, 10, 1_000, 100_000] {
        let mut hall = Hall::new();
        let key = |number: usize| format!("room {number}");
        let own: Vec<_> = (0..rooms).map(|room| hall.connect(&key(room))).collect();
        let mut clients = Vec::with_capacity(rooms);
        let before = resident();
        for (room, own) in own.into_iter().enumerate() {
            clients.push(hall.join(&key(room), own).await);
        }
        yield_now().await;
        // The handles are part of a session.
        let bytes = resident().saturating_sub(before) / rooms;
        let bytes = bytes.saturating_sub(size_of::<Client>());
        let (mut life, mut message) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            life = life.min(hall.life(rooms).await);
            message = message.min(hall.message(&mut clients[rooms / 2]).await);
        }
        let begun = Instant::now();
        hall.app.drain();
        let told = begun.elapsed();
        drop(clients);
        hall.app.drained().await;
        let gone = begun.elapsed();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{rooms:>7} {bytes:>14} {:>11.2} {:>14.2} {:>12.2} {:>15.2}",
            micros(life),
            micros(message),
            micros(told) / 1e3,
            micros(gone) / 1e3,
        );
    }
}
