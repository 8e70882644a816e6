//! The time of a planned restart for 100 MB of messages: `cargo bench --bench history_file`.
//!
//! `save` takes the histories from the bus, writes the file and syncs it; `open` reads it, checks
//! it, deletes it, and gives the histories to another bus. The file is in the directory that
//! `TMPDIR` names.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use busline::bus::{MessageBus, Room, ServiceName, Topic};
use busline::limits::{HistoryPolicy, Relay, Retention};
use busline::rt::Tokio;
use busline::server::HistoryFile;
use busline::{App, ServicePolicy};

/// Payload bytes of all messages together.
const BYTES: usize = 100_000_000;

/// Rooms, each with as many of the messages.
const ROOMS: usize = 1_000;

/// Measurements; the fastest is the least disturbed.
const ROUNDS: usize = 3;

fn app() -> App<Tokio> {
    let retention = Retention {
        messages: NonZeroUsize::MAX,
        bytes: usize::MAX,
        ttl: Duration::from_secs(3600),
        recovery_max: None,
    };
    let policy = ServicePolicy {
        history: Some(HistoryPolicy::from(retention)),
        relay: Some(Relay { echo: true }),
        ..ServicePolicy::of_rooms()
    };
    let app = App::builder(Tokio::current()).relay_with("news", policy);
    app.expect("a valid name").build()
}

/// Publishes the messages, and returns their number.
fn fill(app: &App<Tokio>, length: usize) -> usize {
    let kind: ServiceName = "news".parse().expect("valid");
    let text = "x".repeat(length);
    let messages = BYTES / ROOMS / length;
    for room in 0..ROOMS {
        let room = Room::new(&kind, &room.to_string()).expect("a valid key");
        let topic = Topic::from_service_to_ws(room);
        for _ in 0..messages {
            app.bus().publish(&topic, text.as_str().into());
        }
    }
    ROOMS * messages
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let name = format!("busline-{}-bench-histories", std::process::id());
    let path = std::env::temp_dir().join(name);
    println!("bytes a message   messages   MB in the file   ms to save   ms to open");
    for length in [100, 1_000, 10_000] {
        let full = app();
        let messages = fill(&full, length);
        let (mut save, mut open, mut bytes) = (Duration::MAX, Duration::MAX, 0);
        for _ in 0..ROUNDS {
            let round = measure(&path, &full);
            (save, open) = (save.min(round.save), open.min(round.open));
            bytes = round.bytes;
        }
        println!(
            "{length:>15} {messages:>10} {:>16} {:>12} {:>12}",
            bytes / 1_000_000,
            save.as_millis(),
            open.as_millis()
        );
    }
    for ending in ["", ".lock"] {
        drop(std::fs::remove_file(path.with_extension(ending)));
    }
}

/// The figures of one restart.
struct Round {
    save: Duration,
    open: Duration,
    bytes: u64,
}

fn measure(path: &Path, full: &App<Tokio>) -> Round {
    let first = HistoryFile::open(path, &app()).expect("a directory for all");
    let begun = Instant::now();
    let saved = first.save(full).expect("there is room");
    let save = begun.elapsed();
    assert_eq!((saved.histories, saved.left_out), (ROOMS, 0));
    let next = app();
    let begun = Instant::now();
    let file = HistoryFile::open(path, &next);
    let open = begun.elapsed();
    assert_eq!(next.bus().histories().shelved, ROOMS);
    assert_eq!(next.bus().histories().bytes, full.bus().histories().bytes);
    drop(file);
    Round {
        save,
        open,
        bytes: saved.bytes,
    }
}
