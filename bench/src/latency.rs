//! The workload `latency`: an open loop, with messages at fixed times whatever the server does.

use std::time::{Duration, Instant};

use super::clock::now;
use super::crowd::Course;
use super::workload::Workload;

/// Maximum number of messages sent in one iteration, so that replies are read in between.
const BURST: u64 = 256;

/// Message `k` is due `k / rate` after the start, at client `k` modulo the number of clients. The
/// latency is counted from the due time, not from the sending: a server that stalls delays the
/// messages that are due meanwhile, and their latency must show the delay.
#[derive(Debug)]
pub(super) struct Latency {
    clients: u64,
    rate: f64,
    start: Instant,
    /// The number of messages that were due and were sent, or skipped because their client was
    /// gone.
    begun: u64,
    /// The number of messages that have returned, by client.
    returned: Vec<u64>,
}

impl Latency {
    pub(super) fn new(clients: usize, rate: f64) -> Self {
        Self {
            clients: clients as u64,
            rate,
            start: now(),
            begun: 0,
            returned: vec![0; clients],
        }
    }

    fn due(&self, message: u64) -> Instant {
        self.start + Duration::from_secs_f64(message as f64 / self.rate)
    }

    fn send(&mut self, now: Instant, course: &mut Course) {
        for _ in 0..BURST {
            let due = self.due(self.begun);
            if due > now || course.ledger.is_stopped() {
                return;
            }
            course.latencies.late(now - due);
            let client = usize::try_from(self.begun % self.clients).expect("a client");
            course.send(client, 1);
            self.begun += 1;
        }
    }

    /// Records the latency of the client's next message, which has returned.
    fn returned(&mut self, client: usize, now: Instant, course: &mut Course) {
        let message = self.returned[client] * self.clients + client as u64;
        self.returned[client] += 1;
        course.latencies.add(self.due(message), now, 1);
    }
}

impl Workload for Latency {
    fn begin(&mut self, _course: &mut Course) {
        self.start = now();
    }

    fn received(&mut self, client: usize, count: u64, course: &mut Course) {
        let now = now();
        for _ in 0..count {
            self.returned(client, now, course);
        }
    }

    fn turned(&mut self, course: &mut Course) {
        self.send(now(), course);
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn next_due(&self) -> Option<Instant> {
        Some(self.due(self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Ledger, Reach};
    use super::*;

    fn begun(messages: u64) -> (Latency, Course) {
        let course = Course::new(Ledger::new(Reach::Sender, 2, 2, messages));
        (Latency::new(2, 1000.0), course)
    }

    #[test]
    fn messages_are_sent_when_they_are_due_and_never_more() {
        let (mut workload, mut course) = begun(u64::MAX);
        let at = |millis| workload.start + Duration::from_millis(millis);
        let times = [at(0), at(0), at(4), at(1000), at(1000)];
        let sent = times.map(|time| {
            workload.send(time, &mut course);
            course.ledger.sent()
        });
        assert_eq!(sent, [1, 1, 5, 5 + BURST, 5 + 2 * BURST]);
    }

    #[test]
    fn a_stall_delays_all_that_was_due_meanwhile() {
        let (mut workload, mut course) = begun(10);
        course.latencies.reset();
        workload.start = now();
        // No message is sent for 9 ms, and then all are sent at once.
        let end = workload.start + Duration::from_millis(9);
        workload.send(end, &mut course);
        assert_eq!(course.ledger.sent(), 10);
        assert_eq!(course.latencies.latest(), Duration::from_millis(9));
        for client in [0, 1, 0, 1, 0, 1, 0, 1, 0, 1] {
            workload.returned(client, end, &mut course);
        }
        let found = course.latencies.percentiles().expect("ten messages");
        assert!((found.max - 9000.0).abs() < 20.0, "{found:?}");
        assert!((found.p50 - 4000.0).abs() < 20.0, "{found:?}");
    }

    #[test]
    fn the_time_of_a_message_does_not_drift() {
        let workload = Latency::new(1, 3.0);
        let hour = workload.due(3 * 3600) - workload.start;
        assert_eq!(hour, Duration::from_secs(3600));
    }
}
