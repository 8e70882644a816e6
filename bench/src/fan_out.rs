//! The workload `fan-out`: one client publishes, a window ahead of the slowest subscriber.

use std::collections::VecDeque;
use std::time::Instant;

use super::clock::now;
use super::crowd::Course;
use super::ledger::Ledger;
use super::workload::Workload;

/// One client publishes. The latency of a message is the time until the last subscriber has
/// received it.
#[derive(Debug)]
pub(super) struct FanOut {
    publisher: usize,
    window: usize,
    /// The number of messages that all subscribers have received.
    complete: u64,
    /// The number of subscribers that have received no more than the complete messages.
    behind: usize,
    /// When each incomplete message was sent.
    sent: VecDeque<Instant>,
}

impl FanOut {
    pub(super) fn new(publisher: usize, window: usize) -> Self {
        Self {
            publisher,
            window,
            complete: 0,
            behind: 0,
            sent: VecDeque::with_capacity(window),
        }
    }

    fn send(&mut self, wanted: u64, now: Instant, course: &mut Course) {
        for _ in 0..course.send(self.publisher, wanted) {
            self.sent.push_back(now);
        }
    }

    /// Counts the complete messages anew; called only after every subscriber has received
    /// something.
    fn recount(&mut self, ledger: &Ledger) {
        let subscribers = (0..ledger.receivers()).filter(|client| ledger.is_open(*client));
        let received = subscribers.map(|client| ledger.received(client));
        let least = received.clone().min();
        self.complete = least.unwrap_or(self.complete);
        self.behind = received.filter(|count| Some(*count) == least).count();
    }
}

impl Workload for FanOut {
    fn begin(&mut self, course: &mut Course) {
        self.recount(&course.ledger);
        self.send(self.window as u64, now(), course);
    }

    fn received(&mut self, client: usize, count: u64, course: &mut Course) {
        let received = course.ledger.received(client);
        let was_behind = received - count <= self.complete;
        if client < course.ledger.receivers() && was_behind && received > self.complete {
            self.behind -= 1;
        }
    }

    fn turned(&mut self, course: &mut Course) {
        if self.behind > 0 {
            return;
        }
        let before = self.complete;
        self.recount(&course.ledger);
        let now = now();
        let mut completed = 0;
        for _ in before..self.complete {
            if let Some(sent) = self.sent.pop_front() {
                course.latencies.add(sent, now, 1);
                completed += 1;
            }
        }
        self.send(completed, now, course);
    }

    fn left(&mut self, client: usize, course: &mut Course) {
        let was_behind = course.ledger.received(client) <= self.complete;
        if client < course.ledger.receivers() && was_behind {
            self.behind -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Reach;
    use super::*;

    /// Two subscribers, and a publisher that does not subscribe.
    fn begun(window: usize) -> (FanOut, Course) {
        let mut course = Course::new(Ledger::new(Reach::Everybody, 3, 2, u64::MAX));
        let mut workload = FanOut::new(2, window);
        workload.begin(&mut course);
        (workload, course)
    }

    /// Both subscribers receive messages in one iteration; returns the total number of messages
    /// sent.
    fn turn(workload: &mut FanOut, counts: [u64; 2], course: &mut Course) -> u64 {
        for (client, count) in counts.into_iter().enumerate() {
            if count > 0 {
                course.ledger.receive(client, count);
                workload.received(client, count, course);
            }
        }
        workload.turned(course);
        course.ledger.sent()
    }

    #[test]
    fn the_window_moves_with_the_slowest_subscriber() {
        let (mut workload, mut course) = begun(4);
        assert_eq!(course.ledger.sent(), 4);
        for (counts, sent) in [
            ([4, 0], 4),
            ([0, 1], 5),
            ([1, 0], 5),
            ([0, 3], 8),
            ([0, 1], 9),
            ([4, 4], 13),
        ] {
            assert_eq!(turn(&mut workload, counts, &mut course), sent, "{counts:?}");
        }
        assert_eq!(workload.complete, 9);
    }

    #[test]
    fn nobody_waits_for_a_subscriber_that_is_gone() {
        for gone in [0, 1] {
            let (mut workload, mut course) = begun(1);
            let mut counts = [1, 1];
            counts[gone] = 0;
            assert_eq!(turn(&mut workload, counts, &mut course), 1);
            course.ledger.leave(gone);
            workload.left(gone, &mut course);
            assert_eq!(turn(&mut workload, [0, 0], &mut course), 2);
            assert_eq!(turn(&mut workload, counts, &mut course), 3);
        }
    }

    #[test]
    fn without_a_subscriber_nothing_is_sent() {
        let (mut workload, mut course) = begun(1);
        for client in [0, 1] {
            course.ledger.leave(client);
            workload.left(client, &mut course);
        }
        assert_eq!(turn(&mut workload, [0, 0], &mut course), 1);
    }
}
