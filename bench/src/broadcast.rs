//! The workload `broadcast`: every client sends, and all clients receive every message.

use std::time::Instant;

use super::clock::now;
use super::crowd::Course;
use super::workload::Workload;

/// Each client sends again once it has received as many messages as there are clients: a round. The
/// latency is the duration of a round.
#[derive(Debug)]
pub(super) struct Broadcast {
    rounds: Vec<Round>,
    open: u64,
}

#[derive(Clone, Debug)]
struct Round {
    began: Instant,
    /// The number of received messages at which the round ends.
    ends_with: u64,
}

impl Broadcast {
    pub(super) fn new(clients: usize) -> Self {
        let round = Round {
            began: now(),
            ends_with: clients as u64,
        };
        Self {
            rounds: vec![round; clients],
            open: clients as u64,
        }
    }

    /// Ends the rounds for which the client has received enough messages.
    fn end_rounds(&mut self, client: usize, course: &mut Course) {
        let round = &mut self.rounds[client];
        while self.open > 0 && course.ledger.received(client) >= round.ends_with {
            let now = now();
            course.latencies.add(round.began, now, 1);
            round.began = now;
            round.ends_with += self.open;
            course.send(client, 1);
        }
    }
}

impl Workload for Broadcast {
    fn begin(&mut self, course: &mut Course) {
        for (client, round) in self.rounds.iter_mut().enumerate() {
            round.began = now();
            course.send(client, 1);
        }
    }

    fn received(&mut self, client: usize, _count: u64, course: &mut Course) {
        self.end_rounds(client, course);
    }

    fn left(&mut self, _client: usize, course: &mut Course) {
        self.open -= 1;
        for client in 0..self.rounds.len() {
            // The client that left sends no more messages, so each round needs one message less.
            self.rounds[client].ends_with -= 1;
            self.end_rounds(client, course);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Ledger, Reach};
    use super::*;

    fn receive(workload: &mut Broadcast, client: usize, count: u64, course: &mut Course) {
        course.ledger.receive(client, count);
        workload.received(client, count, course);
    }

    #[test]
    fn a_client_sends_again_when_everybody_was_heard() {
        let mut course = Course::new(Ledger::new(Reach::Everybody, 3, 3, u64::MAX));
        let mut workload = Broadcast::new(3);
        workload.begin(&mut course);
        assert_eq!(course.ledger.sent(), 3);
        receive(&mut workload, 0, 2, &mut course);
        assert_eq!(course.ledger.sent(), 3);
        receive(&mut workload, 0, 1, &mut course);
        receive(&mut workload, 1, 3, &mut course);
        assert_eq!(course.ledger.sent(), 5);
    }

    #[test]
    fn nobody_waits_for_a_client_that_is_gone() {
        let mut course = Course::new(Ledger::new(Reach::Everybody, 3, 3, u64::MAX));
        let mut workload = Broadcast::new(3);
        workload.begin(&mut course);
        receive(&mut workload, 0, 2, &mut course);
        receive(&mut workload, 1, 2, &mut course);
        course.ledger.leave(2);
        workload.left(2, &mut course);
        assert_eq!(course.ledger.sent(), 5);
        receive(&mut workload, 0, 2, &mut course);
        assert_eq!(course.ledger.sent(), 6, "rounds are of two now");
    }
}
