//! The behaviour of clients: when each client may send, and what counts as latency.

use std::time::Instant;

use super::broadcast::Broadcast;
use super::crowd::Course;
use super::echo::Echo;
use super::fan_out::FanOut;
use super::latency::Latency;
use super::ledger::Reach;
use super::options::{Kind, Options};

/// A rule by which clients send.
pub(super) trait Workload {
    /// Called when all clients are connected.
    fn begin(&mut self, course: &mut Course);

    /// Called when a client has received `count` messages, which are already counted.
    fn received(&mut self, client: usize, count: u64, course: &mut Course);

    /// Called when all available messages were read.
    fn turned(&mut self, _course: &mut Course) {}

    /// Whether each message waits for an earlier one, so that silence means a lost message.
    fn is_closed(&self) -> bool {
        true
    }

    /// The scheduled time of the next message, if it does not depend on other messages.
    fn next_due(&self) -> Option<Instant> {
        None
    }

    /// Called when a client's connection has ended.
    fn left(&mut self, _client: usize, _course: &mut Course) {}
}

/// A workload without messages.
struct Idle;

impl Workload for Idle {
    fn begin(&mut self, _course: &mut Course) {}

    fn received(&mut self, _client: usize, _count: u64, _course: &mut Course) {}

    fn is_closed(&self) -> bool {
        false
    }
}

/// Creates the workload.
pub(super) fn workload(options: &Options) -> Box<dyn Workload> {
    let clients = options.clients;
    match &options.kind {
        Kind::Echo { in_flight } => Box::new(Echo::new(clients, *in_flight)),
        Kind::FanOut { window, .. } => {
            let publisher = options.publisher().unwrap_or_default();
            Box::new(FanOut::new(publisher, *window))
        }
        Kind::Broadcast => Box::new(Broadcast::new(clients)),
        Kind::Latency { rate } => Box::new(Latency::new(clients, *rate)),
        Kind::Idle => Box::new(Idle),
    }
}

impl Kind {
    /// The receivers of a message.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Echo { .. } | Self::Latency { .. } | Self::Idle => Reach::Sender,
            Self::FanOut { .. } | Self::Broadcast => Reach::Everybody,
        }
    }
}
