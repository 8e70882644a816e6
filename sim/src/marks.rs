//! Marks: hard situations that a batch of runs must have reached to be worth something.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::Action;
use crate::trace::{Event, Held, Trace};
use crate::wild::Deed;

/// All marks there are.
pub const ALL: [&str; 21] = [
    "abandoned upgrade or refused client",
    "cause Drained",
    "cause Failed",
    "cause Lost",
    "cause PeerClosed",
    "cause Protocol",
    "cause Silent",
    "cause SlowConsumer",
    "cause Stalled",
    "cause Unwritable",
    "crash with clients waiting",
    "drain while joining",
    "inbox full",
    "instance aborted after its grace",
    "join while stopping",
    "loss and recovery of a slow consumer",
    "message of an instance that has ended left out",
    "partial frame at the end",
    "reset during a blocked write",
    "window overrun",
    "write blocked",
];

/// The marks that a run has reached.
pub fn reached(trace: &Trace) -> BTreeSet<&'static str> {
    let mut marks = Marks::default();
    for entry in trace.entries() {
        marks.take(&entry.event);
    }
    marks.reached
}

#[derive(Default)]
struct Marks {
    reached: BTreeSet<&'static str>,
    blocked: BTreeSet<u32>,
    connecting: BTreeSet<u32>,
    partial: BTreeSet<u32>,
    /// Clients that read again, and whether they have received something since.
    resumed: BTreeMap<u32, bool>,
}

impl Marks {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Acted { action } => {
                let is_drain = matches!(action, Action::Drain);
                self.mark(
                    "drain while joining",
                    is_drain && !self.connecting.is_empty(),
                );
            }
            Event::Blocked { conn } => {
                self.blocked.insert(*conn);
                self.mark("write blocked", true);
            }
            Event::Connecting { client, .. } => drop(self.connecting.insert(*client)),
            Event::Connected { client } => drop(self.connecting.remove(client)),
            Event::Refused { client, .. } => {
                self.connecting.remove(client);
                self.mark("abandoned upgrade or refused client", true);
            }
            Event::Did { client, deed } => self.did(*client, deed),
            Event::Ended { client, .. } => {
                let is_partial = self.partial.contains(client);
                self.mark("partial frame at the end", is_partial);
            }
            Event::Failed { conn, error, .. } => {
                let is_reset = error == "ConnectionReset" && self.blocked.contains(conn);
                self.mark("reset during a blocked write", is_reset);
            }
            Event::Held(held) => self.held(held),
            Event::Log {
                message, fields, ..
            } => self.log(message, fields),
            Event::Received { client, .. } => {
                if let Some(has_received) = self.resumed.get_mut(client) {
                    *has_received = true;
                }
            }
            Event::Status { state, clients, .. } => {
                self.mark("join while stopping", *state == "stopping" && *clients > 0);
                let is_crash = *state == "backoff" && *clients > 0;
                self.mark("crash with clients waiting", is_crash);
            }
            Event::Written { conn, .. } => drop(self.blocked.remove(conn)),
            Event::AcceptFailed
            | Event::Accepted { .. }
            | Event::Closed { .. }
            | Event::Dropped { .. }
            | Event::Leaving { .. }
            | Event::Finished { .. }
            | Event::Noted { .. }
            | Event::Panicked { .. }
            | Event::Read { .. }
            | Event::ReadEnd { .. }
            | Event::Sent { .. }
            | Event::Served { .. }
            | Event::Shutdown { .. }
            | Event::Started => {}
        }
    }

    fn did(&mut self, client: u32, deed: &Deed) {
        match deed {
            Deed::Partial => drop(self.partial.insert(client)),
            Deed::Resume => drop(self.resumed.insert(client, false)),
            Deed::Binary { .. }
            | Deed::Flood { .. }
            | Deed::Fragments { .. }
            | Deed::HalfClose
            | Deed::Offend { .. }
            | Deed::Opening { .. }
            | Deed::Ping
            | Deed::Reset
            | Deed::Sip { .. }
            | Deed::Stop
            | Deed::Trickle { .. }
            | Deed::Vanish => {}
        }
    }

    fn held(&mut self, held: &Held) {
        self.mark("window overrun", held.lost_lagged > 0);
        self.mark("inbox full", held.lost_not_taken > 0);
        let left_out = "message of an instance that has ended left out";
        self.mark(left_out, held.stale > 0);
        let has_recovered = self.resumed.values().any(|has_received| *has_received);
        let recovery = "loss and recovery of a slow consumer";
        self.mark(recovery, held.lost_lagged > 0 && has_recovered);
    }

    fn log(&mut self, message: &str, fields: &BTreeMap<&'static str, String>) {
        let aborted = message.starts_with("service did not return");
        self.mark("instance aborted after its grace", aborted);
        if message != "session closed" {
            return;
        }
        let cause = fields.get("cause").map_or("", String::as_str);
        for mark in ALL {
            let of = mark.strip_prefix("cause ");
            self.mark(mark, of.is_some_and(|of| cause.starts_with(of)));
        }
    }

    fn mark(&mut self, mark: &'static str, is_reached: bool) {
        if is_reached {
            self.reached.insert(mark);
        }
    }
}
