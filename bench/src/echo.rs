//! The workload `echo`: each client keeps a number of messages in flight.

use std::collections::VecDeque;
use std::time::Instant;

use super::clock::now;
use super::crowd::Course;
use super::workload::Workload;

/// Each client keeps `in_flight` messages in flight. The latency of a message is the time until it
/// returns.
#[derive(Debug)]
pub(super) struct Echo {
    in_flight: usize,
    /// When each message in flight was sent, by client.
    sent: Vec<VecDeque<Instant>>,
}

impl Echo {
    pub(super) fn new(clients: usize, in_flight: usize) -> Self {
        Self {
            in_flight,
            sent: vec![VecDeque::with_capacity(in_flight); clients],
        }
    }

    fn send(&mut self, client: usize, wanted: u64, now: Instant, course: &mut Course) {
        for _ in 0..course.send(client, wanted) {
            self.sent[client].push_back(now);
        }
    }
}

impl Workload for Echo {
    fn begin(&mut self, course: &mut Course) {
        for client in 0..self.sent.len() {
            self.send(client, self.in_flight as u64, now(), course);
        }
    }

    fn received(&mut self, client: usize, count: u64, course: &mut Course) {
        let now = now();
        let mut returned = 0;
        for _ in 0..count {
            if let Some(sent) = self.sent[client].pop_front() {
                course.latencies.add(sent, now, 1);
                returned += 1;
            }
        }
        self.send(client, returned, now, course);
    }
}
