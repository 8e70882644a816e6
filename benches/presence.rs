//! What presence costs in one large room: `cargo bench --bench presence`.
//!
//! A join is the admission of one more client to a room, all of it but its socket and its task; a
//! leave is the end of it. Both are measured in a room without presence, too. A page lists
//! the clients for the question who is there: the first one after a change, and further ones, which
//! share it. Its JSON is made once, too, and is not in these times.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::time::{Duration, Instant};

use busline::limits::{Keep, PresencePolicy, RelayPolicy, Tell};
use busline::rt::Tokio;
use busline::session::Admission;
use busline::{App, Limits, Peer, ServicePolicy};

/// Joins, leaves and pages in one measurement.
const TIMES: usize = 1_000;

/// Measurements of each kind; the fastest is the least disturbed.
const ROUNDS: usize = 5;

fn app(presence: PresencePolicy) -> App<Tokio> {
    let mut policy = ServicePolicy {
        presence,
        ..ServicePolicy::of_relay(RelayPolicy::default())
    };
    policy.lifecycle.clients_max = usize::MAX;
    let limits = Limits {
        sessions: usize::MAX,
        sessions_per_address: usize::MAX,
        ..Limits::default()
    };
    let app = App::builder(Tokio::current()).limits(limits);
    let app = app.relay_with("news", policy).expect("a valid policy");
    app.build()
}

fn join(app: &App<Tokio>) -> Admission<Tokio> {
    let room = app.registry().room("news", Some("a")).expect("a key");
    Admission::request_room(app, &room, Peer::default()).expect("admitted")
}

/// The time of each of so many steps.
fn each(mut step: impl FnMut()) -> Duration {
    let begun = Instant::now();
    (0..TIMES).for_each(|_| step());
    begun.elapsed() / u32::try_from(TIMES).expect("few")
}

/// The times of a join and of a leave.
fn come_and_go(app: &App<Tokio>) -> [Duration; 2] {
    let mut more = Vec::with_capacity(TIMES);
    let joined = each(|| more.push(join(app)));
    [joined, each(|| drop(more.pop()))]
}

/// The times of a page after a change, and of one after no change.
fn pages(app: &App<Tokio>) -> [Duration; 2] {
    let room = app.room("news", "a").expect("a key");
    let mut built = Duration::ZERO;
    for _ in 0..TIMES {
        drop(join(app));
        let begun = Instant::now();
        assert!(room.presence(None).is_some(), "presence is kept");
        built += begun.elapsed();
    }
    let shared = each(|| assert!(room.presence(None).is_some(), "presence is kept"));
    [built / u32::try_from(TIMES).expect("few"), shared]
}

/// The fastest times of several rounds, in microseconds.
fn fastest(mut round: impl FnMut() -> [Duration; 2]) -> [f64; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let now = round();
        best = std::array::from_fn(|of| best[of].min(now[of]));
    }
    best.map(|time| time.as_secs_f64() * 1e6)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let list = PresencePolicy {
        keep: Keep::List,
        tell: Tell::All,
        ..PresencePolicy::default()
    };
    println!(
        "clients   us a join (without)   us a leave (without)   us a new page   us a shared page"
    );
    for clients in [1_000, 10_000, 100_000] {
        let [with, without] = [list.clone(), PresencePolicy::default()].map(app);
        let there: Vec<_> = (0..clients)
            .map(|_| [join(&with), join(&without)])
            .collect();
        let [join, leave] = fastest(|| come_and_go(&with));
        let [plain_join, plain_leave] = fastest(|| come_and_go(&without));
        let [built, shared] = fastest(|| pages(&with));
        println!(
            "{clients:>7} {join:>11.2} ({plain_join:>7.2}) {leave:>13.2} ({plain_leave:>7.2}) \
             {built:>15.2} {shared:>18.2}"
        );
        drop(there);
    }
}
