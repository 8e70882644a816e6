//! The core alone, without sockets, HTTP or tokio, on a runtime that draws the order of its tasks.
//!
//! Sessions run over pipes in memory; a peer at the other end is a task too. Which of the ready
//! tasks is polled next, the seed says, so that many seeds are many interleavings: in production,
//! and on our own network, tasks run first come, first served. Tasks are dropped, the clock jumps,
//! and whenever nothing is ready the `rules` say what must be true, exactly.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

mod annals;
mod client;
mod company;
mod ends;
mod executor;
mod guests;
mod halls;
mod journals;
mod observers;
mod offences;
mod peer;
mod pipe;
mod plan;
mod reader;
mod regulars;
mod rooms;
mod rules;
mod services;
mod shrink;
mod world;

pub use self::executor::Order;
pub use self::plan::{Plan, Step};
pub use self::shrink::shrink;
use self::world::World;
use crate::checker::{self, Checker, History, Violation, wild};
use crate::marks;
use crate::rt::panic_text;
use crate::trace::{LogTap, Recorder, Trace};

/// The hard situations that a batch of seeds must have reached, beside those of [`marks::ALL`] that
/// the core has too.
pub const MARKS: [&str; 73] = [
    "cause drained",
    "cause failed",
    "cause lost",
    "cause peer_closed",
    "cause protocol",
    "cause silent",
    "cause slow_consumer",
    "cause stalled",
    "cause unwritable",
    "client closed by its room",
    "client of a failed room refused",
    "client of a failed service refused",
    "client of a history without recovery",
    "client of a relay served",
    "client over the limit of a room refused",
    "client over the limit refused",
    "client refused a room by the drain",
    "clients of two rooms at one instant",
    "client that took the place of another",
    "clients that the crash of an instance has left",
    "crash with clients waiting",
    "drain of clients that only talked",
    "drain with rooms",
    "drain with sessions",
    "drain with something unread",
    "end told to a client that came later",
    "expiry while a client catches up",
    "inbox full",
    "instance aborted after its grace",
    "instance dropped",
    "instance of a room aborted after its grace",
    "instance of a room dropped",
    "join while a room lingers",
    "join while a room stops",
    "join while lingering",
    "join while stopping",
    "jump of the clock",
    "loss told although the client recovers",
    "loss told to an observer",
    "member left while its room starts again",
    "message at hand at the end",
    "message of a room whose client has gone",
    "message of an instance that has ended left out",
    "newest message first",
    "not recovered: ahead",
    "not recovered: epoch",
    "not recovered: evicted",
    "not recovered: expired",
    "not recovered: removed",
    "not recovered: too many",
    "nothing was left of a drain",
    "position forgotten",
    "publish at the seam of a recovery",
    "publish refused after the end",
    "recovered after the crash of an instance",
    "recovered from the shelf",
    "recovered",
    "request refused after the end",
    "reset during a blocked write",
    "room crashed with clients there",
    "room made again after its end",
    "room made again at the instant of its end",
    "room made",
    "room over the limit of a subject refused",
    "room over the limit of an address refused",
    "room over the limit refused",
    "room removed",
    "session dropped",
    "several clients of one instance",
    "slow client that read on from the history",
    "stream ended",
    "window overrun",
    "write blocked",
];

/// A run of the core that was judged.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to happen.
    pub plan: Plan,
    /// What happened.
    pub trace: Trace,
    /// The rules it broke.
    pub violations: Vec<Violation>,
    /// Which of [`MARKS`] it reached.
    pub marks: BTreeSet<&'static str>,
}

/// Carries the plan out on this thread and judges it.
pub fn run(plan: &Plan) -> Report {
    let recorder = Recorder::new(|| None);
    let logs = tracing::subscriber::set_default(LogTap::new(recorder.clone()));
    let mut world = World::new(plan, recorder.clone());
    let carried_out = catch_unwind(AssertUnwindSafe(|| world.carry_out()));
    if let Err(panic) = carried_out {
        let text = panic_text(panic.as_ref());
        world.judge("rest", Err(format!("panicked: {text}")));
    }
    // What is dropped with the world is no part of the run.
    let trace = recorder.finish();
    drop(logs);
    let mut marks = marks::reached(&rules::outline(&world), &trace);
    marks.extend(world.marks.iter().copied().chain(world.marks_at_end()));
    // A text after the end is refused, and is counted as one for which an inbox had no room.
    let may_refuse = world.journals.may_end();
    marks.retain(|mark| MARKS.contains(mark) && !(may_refuse && *mark == "inbox full"));
    let violations = judge(&mut world, &trace);
    Report {
        plan: plan.clone(),
        trace,
        violations,
        marks,
    }
}

/// What the rules of the run have found, or else what the checkers of its trace find.
fn judge(world: &mut World, trace: &Trace) -> Vec<Violation> {
    if world.violations.is_empty() {
        let outline = rules::outline(world);
        let history = History::new(&outline, trace);
        let checkers: [Box<dyn Checker>; 10] = [
            Box::new(checker::Members),
            Box::new(checker::Registry),
            Box::new(checker::Relays),
            Box::new(checker::Told),
            Box::new(wild::Closing),
            Box::new(wild::Conservation),
            Box::new(wild::Isolation),
            Box::new(wild::Order),
            Box::new(wild::Protocol),
            Box::new(wild::Rest),
        ];
        world.violations.extend(checker::judge(&checkers, &history));
    }
    std::mem::take(&mut world.violations)
}

impl Report {
    /// The first broken rule, with the command that shows it, in one line.
    ///
    /// # Errors
    ///
    /// That line, if a rule was broken.
    pub fn verdict(&self) -> Result<(), String> {
        match self.violations.first() {
            None => Ok(()),
            Some(violation) => {
                let seed = self.plan.seed;
                Err(format!(
                    "cargo run -p sim -- core --seed {seed}  # {violation}"
                ))
            }
        }
    }
}
