//! What a delivered message costs, however many topics, services and connections there are:
//! `cargo bench --bench scale`, or some of it: `cargo bench --bench scale -- topics services`.
//!
//! In one process, on one thread and without sockets. A topic: published by its name, read, freed.
//! A service or a connection: read from the client's stream, through the inbox of the service, and
//! back by the topic of that client (echo) or to all clients (broadcast), written to each one's
//! stream. So an echo of 100,000 connections has as many topics, which replies find by the route
//! that services take.
//!
//! One after the other means that a message meets memory which no cache holds any more, once there
//! is much of it; always the same leaves that out. The fastest of some rounds that alternate is the
//! least disturbed. With `-- --instructions` it counts these instead, which shows the algorithm and
//! not the memory; it needs valgrind, and takes some minutes.

mod clock;
mod counting;
mod crowd;
mod pipe;
mod sections;
mod topics;

use self::clock::cpu;
use self::crowd::Place;
use self::sections::{SECTIONS, Section};

/// Deliveries in one measurement, at least.
const DELIVERIES: usize = 200_000;

/// Measurements of each kind.
const ROUNDS: usize = 5;

/// How far apart those are who come one after the other, so that no processor guesses the next one;
/// it has no factor in common with a power of ten.
const STRIDE: usize = 61_803;

/// The columns of the table.
const COLUMNS: [usize; 5] = [1, 100, 1_000, 10_000, 100_000];

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Turn {
    /// One after the other.
    Each,
    Same,
}

/// Delivers so many messages, or some more, and returns how many.
type Run = Box<dyn FnMut(usize) -> usize>;

/// A number of the table: its row, its column, and what it costs to deliver a message there.
struct Cost {
    row: &'static str,
    size: usize,
    each: f64,
}

fn main() {
    // `cargo bench` adds a flag of its own.
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let ["--counted", name, row, size] = words.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        return counting::run(name, row, size);
    }
    let (flags, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.starts_with('-'));
    let (unit, measure): (_, fn(&Section) -> Vec<Cost>) =
        match flags.iter().any(|flag| *flag == "--instructions") {
            true => ("instructions", counting::count),
            false => ("ns", fastest),
        };
    println!(
        "{unit:<36}{}",
        COLUMNS.map(|size| format!("{size:>9}")).concat()
    );
    for section in &SECTIONS {
        if names.is_empty() || names.iter().any(|name| *name == section.name) {
            print(section, &measure(section));
        }
    }
}

/// The fastest of some rounds, in nanoseconds.
fn fastest(section: &Section) -> Vec<Cost> {
    let place = Place::new();
    let (mut costs, mut runs) = (Vec::new(), Vec::new());
    for &size in section.sizes {
        runs.extend((section.build)(&place, size));
        let each = f64::MAX;
        costs.extend(section.rows.iter().map(|row| Cost { row, size, each }));
    }
    for (cost, run) in costs.iter().zip(&mut runs) {
        warm_up(cost.size, run);
    }
    for _ in 0..ROUNDS {
        for (cost, run) in costs.iter_mut().zip(&mut runs) {
            let before = cpu();
            let deliveries = run(DELIVERIES);
            let nanos = (cpu() - before).as_nanos() as f64;
            cost.each = cost.each.min(nanos / deliveries as f64);
        }
    }
    costs
}

/// Everybody has had a message: what is made for the first one is there.
fn warm_up(size: usize, run: &mut Run) {
    run(2 * size);
}

fn print(section: &Section, costs: &[Cost]) {
    for row in section.rows {
        let cell = |size| {
            let mut costs = costs.iter();
            let cost = costs.find(|cost| cost.row == *row && cost.size == size);
            let text = cost.map(|cost| format!("{:.0}", cost.each));
            format!("{:>9}", text.unwrap_or_default())
        };
        println!("{row:<36}{}", COLUMNS.map(cell).concat());
    }
}
