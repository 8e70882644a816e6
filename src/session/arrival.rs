//! How long a message may take to arrive: a pure state machine.

use std::time::Duration;

use super::keepalive::PARTS;
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// The number of received bytes that extend the time for a message by one second.
const BYTES_PER_SECOND: u64 = 1024;

/// The arrival of a message or a control frame from a client, counted from its first byte.
///
/// Only time in which the client is read is counted. The time between two looks counts for no more
/// than one part of the allowance, so that a pause of the whole machine does not use up all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    counted: Duration,
    /// When the last look was.
    since: Instant,
    is_heard: bool,
}

/// The time that an arrival may take: `timeout`, and a second more for each KiB received; unlimited
/// if `timeout` is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) timeout: Duration,
    /// Payload bytes received so far.
    pub(super) received: usize,
}

impl Allowance {
    /// The limit; `None` for unlimited.
    fn time(self) -> Option<Duration> {
        let more = Duration::from_secs(self.received as u64 / BYTES_PER_SECOND);
        let is_any = self.timeout.is_zero() || planted::is(Bug::MessageEndless);
        (!is_any).then(|| self.timeout.saturating_add(more))
    }

    /// The most that is counted between two looks.
    fn part(self) -> Duration {
        // A limit of a few nanoseconds divided by the number of parts would be zero.
        (self.timeout / u32::from(PARTS)).max(Duration::from_nanos(1))
    }
}

impl Arrival {
    /// An arrival that began at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            counted: Duration::ZERO,
            since: now,
            is_heard: true,
        }
    }

    /// Counts the time until `now`; `is_heard` says whether the client is read from `now` on.
    pub(super) fn look(&mut self, allowance: Allowance, now: Instant, is_heard: bool) {
        if self.is_heard {
            let gap = now.saturating_since(self.since);
            self.counted = self.counted.saturating_add(gap.min(allowance.part()));
        }
        self.since = now;
        self.is_heard = is_heard;
    }

    /// When the next look is due: at the end of the limit, or earlier.
    pub(super) fn deadline(&self, allowance: Allowance) -> Option<Instant> {
        let time = allowance.time().filter(|_| self.is_heard)?;
        let left = time.saturating_sub(self.counted);
        Some(self.since + left.min(allowance.part()))
    }

    /// Whether the arrival has taken longer than it may.
    pub(super) fn is_late(&self, allowance: Allowance) -> bool {
        allowance.time().is_some_and(|time| self.counted >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn allowance(received: usize) -> Allowance {
        let timeout = TIMEOUT;
        Allowance { timeout, received }
    }

    /// The second in which an arrival becomes late, given the bytes received by each second.
    fn late(received: impl Fn(u64) -> usize) -> Option<u64> {
        let mut arrival = Arrival::new(at(0));
        (0..5_000).find(|second| {
            let allowance = allowance(received(*second));
            arrival.look(allowance, at(*second), true);
            arrival.is_late(allowance)
        })
    }

    #[test]
    fn a_message_has_its_time_and_a_second_more_for_each_kib_of_it() {
        let kib = 1024;
        assert_eq!(late(|_| 0), Some(60), "it stops");
        assert_eq!(late(|second| second as usize), Some(60), "a byte a second");
        assert_eq!(late(|second| 100 * second as usize), Some(66));
        assert_eq!(late(|second| kib * second as usize), None, "a KiB a second");
        assert_eq!(late(|_| kib - 1), Some(60));
        assert_eq!(late(|_| kib), Some(61));
        assert_eq!(late(|second| 5 * kib * second.min(10) as usize), Some(110));
    }

    #[test]
    fn it_is_looked_at_in_parts_and_at_the_end_of_its_time() {
        let mut arrival = Arrival::new(at(0));
        let allowance = allowance(2048);
        for second in [15, 30, 45, 60, 62] {
            assert_eq!(arrival.deadline(allowance), Some(at(second)));
            assert!(!arrival.is_late(allowance), "{second}");
            arrival.look(allowance, at(second), true);
        }
        assert!(arrival.is_late(allowance));
    }

    #[test]
    fn a_pause_of_the_whole_machine_counts_as_a_part() {
        for before in 0..60 {
            let mut arrival = Arrival::new(at(0));
            let mut look = |second| {
                arrival.look(allowance(0), at(second), true);
                arrival.is_late(allowance(0))
            };
            assert!((0..=before).all(|second| !look(second)), "{before}");
            let slept = 100_000 + before;
            let after = (slept..).position(look).expect("it does not end");
            let awake = before + after as u64;
            assert_eq!(awake, (60 - 15).max(before), "slept after {before} s");
        }
    }

    #[test]
    fn the_time_in_which_the_client_is_not_heard_does_not_count() {
        let mut arrival = Arrival::new(at(0));
        arrival.look(allowance(0), at(10), false);
        assert_eq!(arrival.deadline(allowance(0)), None);
        arrival.look(allowance(0), at(20), false);
        arrival.look(allowance(0), at(1_000), true);
        for second in 1_000..1_050 {
            arrival.look(allowance(0), at(second), true);
            assert!(!arrival.is_late(allowance(0)), "{second}");
        }
        arrival.look(allowance(0), at(1_050), true);
        assert!(arrival.is_late(allowance(0)));
    }

    #[test]
    fn a_timeout_of_zero_is_any_time_and_others_do_not_overflow() {
        let of = |timeout, received| Allowance { timeout, received };
        let mut arrival = Arrival::new(at(0));
        let any = of(Duration::ZERO, 0);
        arrival.look(any, at(1 << 30), true);
        assert!(!arrival.is_late(any));
        assert_eq!(arrival.deadline(any), None);
        let longest = of(Duration::MAX, usize::MAX);
        arrival.look(longest, Instant::END, true);
        assert!(!arrival.is_late(longest));
        assert_eq!(arrival.deadline(longest), Some(Instant::END));
        for nanos in 1..9 {
            let shortest = of(Duration::from_nanos(nanos), 0);
            let mut arrival = Arrival::new(at(0));
            let mut looks = 0;
            while !arrival.is_late(shortest) {
                let due = arrival.deadline(shortest).expect("it has a bound");
                arrival.look(shortest, due, true);
                looks += 1;
                assert!(looks < 20, "{nanos} ns");
            }
        }
    }
}
