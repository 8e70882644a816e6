//! What clients do: when each may send, and what a message's latency is.

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
    /// All clients are connected.
    fn begin(&mut self, course: &mut Course);

    /// A client has got so many messages, which are counted already.
    fn received(&mut self, client: usize, count: u64, course: &mut Course);

    /// All that was there to be read has been read.
    fn turned(&mut self, _course: &mut Course) {}

    /// Whether each message waits for an earlier one, so that silence means that something is lost.
    fn is_closed(&self) -> bool {
        true
    }

    /// When the next message is to be sent whatever happens.
    fn next_due(&self) -> Option<Instant> {
        None
    }

    /// A client's connection has ended.
    fn left(&mut self, _client: usize, _course: &mut Course) {}
}

/// Nobody says anything.
struct Idle;

impl Workload for Idle {
    fn begin(&mut self, _course: &mut Course) {}

    fn received(&mut self, _client: usize, _count: u64, _course: &mut Course) {}

    fn is_closed(&self) -> bool {
        false
    }
}

/// The workload that was asked for.
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
    /// Whom a message reaches.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Echo { .. } | Self::Latency { .. } | Self::Idle => Reach::Sender,
            Self::FanOut { .. } | Self::Broadcast => Reach::Everybody,
        }
    }
}
