//! What the core counts about its sessions; the bus and each lifecycle count for themselves.

use crate::sync::{AtomicU64, Ordering};

/// The counters of one application, each rising only.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) refused: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) lost_not_taken: Counter,
    pub(crate) lost_unsent: Counter,
    pub(crate) stale: Counter,
    pub(crate) pings: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // A sum needs no order with anything else.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all sessions of an application have done.
///
/// Of the messages that clients sent,
/// `messages_in = taken by the bus + lost_not_taken + at hand in the sessions`, and of the messages
/// that subscriptions delivered to sessions, `delivered = messages_out + lost_unsent + stale + in
/// the sessions' write buffers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that have ended.
    pub closed: u64,
    /// Clients of a service there is that were refused: it takes none, or a limit is reached.
    pub refused: u64,
    /// Messages received from clients.
    pub messages_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Messages written to clients' sockets.
    pub messages_out: u64,
    /// Bytes written to clients' sockets, with the frames of the protocol.
    pub bytes_out: u64,
    /// Messages of clients that the session ended with before its service took them.
    pub lost_not_taken: u64,
    /// Messages to clients that were not written when the session ended.
    pub lost_unsent: u64,
    /// Messages to clients from an instance that was told to stop before they joined, left out.
    pub stale: u64,
    /// Pings sent.
    pub pings: u64,
}

impl Metrics {
    pub(crate) fn counts(&self) -> SessionCounts {
        SessionCounts {
            opened: self.opened.value(),
            closed: self.closed.value(),
            refused: self.refused.value(),
            messages_in: self.messages_in.value(),
            bytes_in: self.bytes_in.value(),
            messages_out: self.messages_out.value(),
            bytes_out: self.bytes_out.value(),
            lost_not_taken: self.lost_not_taken.value(),
            lost_unsent: self.lost_unsent.value(),
            stale: self.stale.value(),
            pings: self.pings.value(),
        }
    }
}
