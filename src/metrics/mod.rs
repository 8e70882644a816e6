//! The counters of the sessions; the bus and each lifecycle count for themselves.

use crate::histogram::{Histogram, HistogramCounts, add_each};
use crate::shards::Shards;
use crate::sync::{AtomicU64, Ordering};

mod reasons;

pub use self::reasons::{CloseReason, DisplaceReason, RefuseReason, RequestOutcome};

/// The counters of the sessions of one thread, which only rise.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) opened: Counter,
    pub(crate) closed: Counters<{ CloseReason::ALL.len() }>,
    pub(crate) refused: Counters<{ RefuseReason::ALL.len() }>,
    pub(crate) messages_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) lost_not_taken: Counter,
    pub(crate) lost_unsent: Counter,
    pub(crate) stale: Counter,
    pub(crate) excluded: Counter,
    pub(crate) pings: Counter,
    pub(crate) pauses: Counter,
    pub(crate) requests: Counters<{ RequestOutcome::ALL.len() }>,
    pub(crate) written_after: Histogram,
    pub(crate) running_after: Histogram,
    pub(crate) accepted: Counter,
    pub(crate) accepts_delayed: Counter,
    pub(crate) accepts_refused: Counter,
    pub(crate) keys_fetched: Counter,
    pub(crate) keys_not_fetched: Counter,
    pub(crate) operators_refused: Counter,
    pub(crate) displaced: Counters<{ DisplaceReason::ALL.len() }>,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Relaxed is enough: a sum needs no order with other memory.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each reason.
#[derive(Debug)]
pub(crate) struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Counters<N> {
    fn values(&self) -> [u64; N] {
        std::array::from_fn(|reason| self.0[reason].value())
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Counters<{ CloseReason::ALL.len() }> {
    pub(crate) fn add(&self, reason: CloseReason) {
        self.0[reason as usize].add(1);
    }
}

impl Counters<{ RefuseReason::ALL.len() }> {
    pub(crate) fn add(&self, reason: RefuseReason) {
        self.0[reason as usize].add(1);
    }
}

impl Counters<{ RequestOutcome::ALL.len() }> {
    pub(crate) fn add(&self, outcome: RequestOutcome) {
        self.0[outcome as usize].add(1);
    }
}

/// Only the server has connections that are not upgraded.
#[cfg(feature = "server")]
impl Counters<{ DisplaceReason::ALL.len() }> {
    pub(crate) fn add(&self, reason: DisplaceReason) {
        self.0[reason as usize].add(1);
    }
}

/// The totals of all sessions of an application.
///
/// Two laws hold. For messages from clients, `messages_in = taken by the bus + lost_not_taken +
/// pending in the sessions`. For messages from subscriptions, `delivered = messages_out +
/// lost_unsent + stale + excluded + in the sessions' write buffers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that have ended.
    pub closed: u64,
    /// The ended sessions by reason, in the order of [`CloseReason::ALL`].
    pub closed_by: [u64; CloseReason::ALL.len()],
    /// Refused clients of existing services, because the service takes none or a limit is reached;
    /// and all requests that named a host that is not the server's.
    pub refused: u64,
    /// The refusals by reason, in the order of [`RefuseReason::ALL`].
    pub refused_by: [u64; RefuseReason::ALL.len()],
    /// Messages received from clients.
    pub messages_in: u64,
    /// The payload bytes of the received messages.
    pub bytes_in: u64,
    /// Messages written to clients' sockets.
    pub messages_out: u64,
    /// Bytes written to clients' sockets, with the frames of the protocol.
    pub bytes_out: u64,
    /// Messages of clients whose session ended before the service took them.
    pub lost_not_taken: u64,
    /// Messages to clients that were not written when the session ended.
    pub lost_unsent: u64,
    /// Messages to clients, left out because their instance was told to stop before the client
    /// joined.
    pub stale: u64,
    /// Messages to all clients but one, left out for that one; and closes by a service.
    pub excluded: u64,
    /// Pings that were sent, or about to be sent when their session was cut off.
    pub pings: u64,
    /// The number of times that a client's socket was not read because the client reached its rate.
    pub pauses: u64,
    /// The requests to services by their end, in the order of [`RequestOutcome::ALL`].
    pub requests_by: [u64; RequestOutcome::ALL.len()],
    /// The time from a service's publish ([`Clock::now`](crate::rt::Clock::now)) to the end of a
    /// message's write, for each client.
    pub written_after: HistogramCounts,
    /// The time from a client's admission to the moment an instance of its service ran for it.
    pub running_after: HistogramCounts,
    /// Accepted connections, for any request.
    pub accepted: u64,
    /// The number of times that the next connection had to wait because of the rate of accepts.
    pub accepts_delayed: u64,
    /// Connections that were closed without a response: their address had too many handshakes, all
    /// of them being served.
    pub accepts_refused: u64,
    /// Fetches of an issuer's published keys that brought keys.
    pub keys_fetched: u64,
    /// Fetches of an issuer's published keys that brought no keys.
    pub keys_not_fetched: u64,
    /// Refused requests to operators' listeners, from foreign pages or for foreign hosts.
    pub operators_refused: u64,
    /// Connections closed to make room for newer ones, before a complete request head or during
    /// their response, by the bound that was reached, in the order of [`DisplaceReason::ALL`].
    pub displaced_by: [u64; DisplaceReason::ALL.len()],
}

impl SessionCounts {
    /// The number of sessions that ended for this reason.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed_by[reason as usize]
    }

    /// The number of clients that were refused for this reason.
    pub fn refused_for(&self, reason: RefuseReason) -> u64 {
        self.refused_by[reason as usize]
    }

    /// The number of requests that ended so.
    pub fn requests(&self, outcome: RequestOutcome) -> u64 {
        self.requests_by[outcome as usize]
    }

    /// The number of connections that gave way to newer ones for this reason.
    pub fn displaced_for(&self, reason: DisplaceReason) -> u64 {
        self.displaced_by[reason as usize]
    }
}

impl SessionCounts {
    /// Adds the totals of the sessions of another thread.
    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        add_each(&mut self.closed_by, &other.closed_by);
        self.refused += other.refused;
        add_each(&mut self.refused_by, &other.refused_by);
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
        self.lost_not_taken += other.lost_not_taken;
        self.lost_unsent += other.lost_unsent;
        self.stale += other.stale;
        self.excluded += other.excluded;
        self.pings += other.pings;
        self.pauses += other.pauses;
        add_each(&mut self.requests_by, &other.requests_by);
        self.written_after.add(&other.written_after);
        self.running_after.add(&other.running_after);
        self.accepted += other.accepted;
        self.accepts_delayed += other.accepts_delayed;
        self.accepts_refused += other.accepts_refused;
        self.keys_fetched += other.keys_fetched;
        self.keys_not_fetched += other.keys_not_fetched;
        self.operators_refused += other.operators_refused;
        add_each(&mut self.displaced_by, &other.displaced_by);
    }
}

impl Shards<Metrics> {
    /// The totals of all sessions of the application.
    pub(crate) fn counts(&self) -> SessionCounts {
        let mut counts = SessionCounts::default();
        for metrics in self.all() {
            counts.add(&metrics.counts());
        }
        counts
    }
}

impl Metrics {
    pub(crate) fn counts(&self) -> SessionCounts {
        let (closed_by, refused_by) = (self.closed.values(), self.refused.values());
        SessionCounts {
            opened: self.opened.value(),
            closed: closed_by.iter().sum(),
            closed_by,
            refused: refused_by.iter().sum(),
            refused_by,
            messages_in: self.messages_in.value(),
            bytes_in: self.bytes_in.value(),
            messages_out: self.messages_out.value(),
            bytes_out: self.bytes_out.value(),
            lost_not_taken: self.lost_not_taken.value(),
            lost_unsent: self.lost_unsent.value(),
            stale: self.stale.value(),
            excluded: self.excluded.value(),
            pings: self.pings.value(),
            pauses: self.pauses.value(),
            requests_by: self.requests.values(),
            written_after: self.written_after.counts(),
            running_after: self.running_after.counts(),
            accepted: self.accepted.value(),
            accepts_delayed: self.accepts_delayed.value(),
            accepts_refused: self.accepts_refused.value(),
            keys_fetched: self.keys_fetched.value(),
            keys_not_fetched: self.keys_not_fetched.value(),
            operators_refused: self.operators_refused.value(),
            displaced_by: self.displaced.values(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Makes counts that are different multiples of `of`.
    fn multiples(of: u64) -> SessionCounts {
        let histogram = |first: u64| HistogramCounts {
            classes: std::array::from_fn(|class| (first + class as u64) * of),
            sum: Duration::from_nanos(first * of),
        };
        SessionCounts {
            opened: of,
            closed: 2 * of,
            closed_by: std::array::from_fn(|reason| (3 + reason as u64) * of),
            refused: 30 * of,
            refused_by: std::array::from_fn(|reason| (31 + reason as u64) * of),
            messages_in: 50 * of,
            bytes_in: 51 * of,
            messages_out: 52 * of,
            bytes_out: 53 * of,
            lost_not_taken: 54 * of,
            lost_unsent: 55 * of,
            stale: 56 * of,
            excluded: 74 * of,
            pings: 57 * of,
            pauses: 58 * of,
            requests_by: std::array::from_fn(|outcome| (160 + outcome as u64) * of),
            written_after: histogram(60),
            running_after: histogram(100),
            accepted: 140 * of,
            accepts_delayed: 141 * of,
            accepts_refused: 142 * of,
            keys_fetched: 143 * of,
            keys_not_fetched: 144 * of,
            operators_refused: 145 * of,
            displaced_by: std::array::from_fn(|reason| (146 + reason as u64) * of),
        }
    }

    #[test]
    fn what_threads_count_adds_up() {
        let mut sum = multiples(3);
        sum.add(&multiples(5));
        assert_eq!(sum, multiples(8));
    }
}
