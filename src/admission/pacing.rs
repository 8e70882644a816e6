//! The times at which sessions leave a draining server, as a pure state machine.
//!
//! Clients come back at once, to another server. Sessions are therefore closed one after the other,
//! at a rate that the other server can accept:
//!
//! ```text
//!   slot     0     1     2     3     4     5          n - 1
//!            |-----|-----|-----|-----|-----|-- ... ---|
//!   client   4     9     1     7     2     ...            an order of its own each time
//! ```

use std::time::Duration;

use crate::limits::DrainPolicy;
use crate::rt::Instant;

/// The times at which sessions leave, one time for each session.
#[derive(Clone, Debug)]
pub struct Pacing {
    start: Instant,
    /// The slot `k` begins `k` steps after the start.
    step: Step,
    order: Order,
    /// The time by which all sessions must have left.
    end: Instant,
    /// The number of sessions that have a time.
    given: u64,
    /// The next slot after those of the order.
    next: u64,
    hurried: bool,
}

/// The time between two departures: `nanos / slots` nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Step {
    nanos: u128,
    slots: u128,
}

impl Pacing {
    /// Plans `sessions` departures from `start` on, the last before `within` is over.
    ///
    /// Sessions leave over the policy's window but never faster than its rate, unless they could
    /// not all leave in time: see [`is_hurried`](Self::is_hurried). `seed` determines the order.
    pub fn new(
        policy: DrainPolicy,
        start: Instant,
        within: Duration,
        sessions: usize,
        seed: u64,
    ) -> Self {
        let count = (sessions as u128).max(1);
        let by_rate = Step::new(1_000_000_000, u128::from(policy.per_second.get()));
        let by_window = Step::new(policy.window.as_nanos(), count);
        let by_deadline = Step::new(within.as_nanos(), count);
        let wanted = if by_window.is_longer(by_rate) {
            by_window
        } else {
            by_rate
        };
        let step = if wanted.is_longer(by_deadline) {
            by_deadline
        } else {
            wanted
        };
        Self {
            start,
            step,
            order: Order::new(sessions as u64, seed),
            end: start + within,
            given: 0,
            next: (sessions as u64).max(1),
            hurried: by_rate.is_longer(by_deadline),
        }
    }

    /// The time at which the first session leaves.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Returns the time for one more session, different for each call.
    pub fn moment(&mut self) -> Instant {
        let Some(slot) = self.order.place(self.given) else {
            return self.later(self.start);
        };
        self.given += 1;
        self.start_of(slot)
    }

    /// Returns the time for a session that could not leave at its own time: after the times of all
    /// other sessions, and not before `now`. If that is too late, the session leaves among the
    /// others, and faster than the rate.
    pub fn later(&mut self, now: Instant) -> Instant {
        let slot = self.next.max(self.slot_from(now));
        self.next = slot.saturating_add(1);
        let own = self.start_of(slot).max(now);
        if own < self.end {
            return own;
        }
        // Multiples of the golden ratio are spread evenly over the remaining time, for any number
        // of sessions.
        let share = u128::from(slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let left = u128::from(self.end.nanos_since(now));
        now.after_nanos(u64::try_from((left * share) >> 64).unwrap_or(u64::MAX))
    }

    /// The time at which a slot begins.
    fn start_of(&self, slot: u64) -> Instant {
        let nanos = u128::from(slot).saturating_mul(self.step.nanos) / self.step.slots;
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanos)
    }

    /// The first slot that begins at `at` or later.
    fn slot_from(&self, at: Instant) -> u64 {
        let nanos = at.saturating_since(self.start).as_nanos();
        let Step {
            nanos: length,
            slots,
        } = self.step;
        let parts = nanos.saturating_mul(slots);
        let slot = parts
            .saturating_add(length.saturating_sub(1))
            .checked_div(length);
        u64::try_from(slot.unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// Whether sessions leave faster than the policy's rate, to be gone by the deadline.
    pub fn is_hurried(&self) -> bool {
        self.hurried
    }
}

impl Step {
    fn new(nanos: u128, slots: u128) -> Self {
        Self { nanos, slots }
    }

    fn is_longer(self, other: Self) -> bool {
        self.nanos.saturating_mul(other.slots) > other.nanos.saturating_mul(self.slots)
    }
}

/// A permutation of the numbers below a count, drawn by a seed and kept in four words.
#[derive(Clone, Debug)]
struct Order {
    count: u64,
    first: u64,
    /// A number without a common divisor with the count, so that each place comes once.
    stride: u64,
}

impl Order {
    fn new(count: u64, seed: u64) -> Self {
        let count = count.max(1);
        let mut stride = (seed >> 32) % count;
        while divisor(stride, count) != 1 {
            stride += 1;
        }
        Self {
            count,
            first: seed % count,
            stride,
        }
    }

    /// The place of the `index`th item; `None` beyond the count.
    fn place(&self, index: u64) -> Option<u64> {
        if index >= self.count {
            return None;
        }
        let place = u128::from(index) * u128::from(self.stride) + u128::from(self.first);
        u64::try_from(place % u128::from(self.count)).ok()
    }
}

/// The greatest common divisor.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAR: Duration = Duration::from_secs(3600);

    fn policy(per_second: u32, window: Duration) -> DrainPolicy {
        DrainPolicy {
            per_second: NonZeroU32::new(per_second).expect("not zero"),
            window,
            ..DrainPolicy::default()
        }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_start(Duration::from_nanos(nanos))
    }

    fn moments(policy: DrainPolicy, within: Duration, sessions: usize, seed: u64) -> Vec<Instant> {
        let mut pacing = Pacing::new(policy, at(7), within, sessions, seed);
        let mut moments: Vec<_> = (0..sessions).map(|_| pacing.moment()).collect();
        moments.sort_unstable();
        moments
    }

    /// The largest number of times within any second.
    fn most_in_a_second(moments: &[Instant]) -> usize {
        let in_second = |from: usize| {
            let until = moments[from] + SECOND;
            moments[from..].partition_point(|moment| *moment < until)
        };
        (0..moments.len()).map(in_second).max().unwrap_or_default()
    }

    #[test]
    fn every_order_has_every_place_once() {
        for count in 1..=60 {
            for seed in (0..40).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                let order = Order::new(count, seed);
                let mut places: Vec<_> = (0..count).map_while(|index| order.place(index)).collect();
                places.sort_unstable();
                assert_eq!(places, (0..count).collect::<Vec<_>>(), "{count} {seed}");
                assert_eq!(order.place(count), None);
            }
        }
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_none_has_less_than_it_could() {
        for per_second in [1, 2, 3, 7, 50, 999] {
            for sessions in [1, 2, 3, 20, 100] {
                let policy = policy(per_second, Duration::ZERO);
                let moments = moments(policy, FAR, sessions, 12_345);
                let rate = usize::try_from(per_second).expect("small");
                assert_eq!(most_in_a_second(&moments), rate.min(sessions));
                assert_eq!(moments[0], at(7), "the first one at once");
            }
        }
    }

    #[test]
    fn a_window_spreads_them_evenly_and_does_not_hold_up_few() {
        let moments = moments(policy(1000, 10 * SECOND), FAR, 5, 1);
        let gaps = moments
            .windows(2)
            .map(|two| two[1].saturating_since(two[0]));
        assert!(gaps.into_iter().all(|gap| gap == 2 * SECOND));
        let short = self::moments(policy(2, SECOND), FAR, 10, 1);
        assert_eq!(
            most_in_a_second(&short),
            2,
            "the rate holds in a short window"
        );
    }

    #[test]
    fn the_deadline_is_kept_even_if_the_rate_cannot_be() {
        for (sessions, hurried) in [(20, false), (21, true), (1000, true)] {
            let pacing = Pacing::new(policy(2, FAR), at(7), 10 * SECOND, sessions, 5);
            assert_eq!(pacing.is_hurried(), hurried, "{sessions}");
            let moments = moments(policy(2, FAR), 10 * SECOND, sessions, 5);
            assert!(moments.iter().all(|moment| *moment < at(7) + 10 * SECOND));
        }
        let at_once = moments(policy(1, FAR), Duration::ZERO, 100, 5);
        assert!(
            at_once.iter().all(|moment| *moment == at(7)),
            "there is no time at all"
        );
    }

    #[test]
    fn who_misses_a_moment_leaves_after_all_others_and_at_the_rate() {
        for (sessions, missed) in [(10, 4), (10, 10), (1, 1)] {
            for after in [0, 1, 2, 250_000_000, 1_700_000_000, 9_000_000_000] {
                let mut pacing = Pacing::new(policy(4, Duration::ZERO), at(7), FAR, sessions, 3);
                let now = at(7 + after);
                let mut moments: Vec<_> = (0..sessions).map(|_| pacing.moment()).collect();
                moments.sort_unstable();
                let last = moments[sessions - 1];
                let mut kept = moments.split_off(missed);
                let later: Vec<_> = (0..missed).map(|_| pacing.later(now)).collect();
                assert!(later.iter().all(|moment| *moment >= now && *moment > last));
                assert!(later[0] <= last.max(now) + SECOND / 4, "{after}");
                kept.extend(later);
                kept.sort_unstable();
                assert_eq!(most_in_a_second(&kept), 4.min(sessions), "{after}");
            }
        }
    }

    #[test]
    fn who_misses_a_moment_leaves_before_the_end_of_the_time_there_is() {
        let mut pacing = Pacing::new(policy(1, FAR), at(7), 10 * SECOND, 10, 5);
        let moments: Vec<_> = (0..10).map(|_| pacing.moment()).collect();
        assert!(moments.iter().all(|moment| *moment < at(7) + 10 * SECOND));
        let now = at(7) + 2 * SECOND;
        let mut later: Vec<_> = (0..80).map(|_| pacing.later(now)).collect();
        later.sort_unstable();
        assert!(later[0] >= now && later[79] < at(7) + 10 * SECOND);
        assert!(
            most_in_a_second(&later) <= 12,
            "evenly, 10 in each of 8 seconds"
        );
        let end = at(7) + 11 * SECOND;
        assert_eq!(pacing.later(end), end, "there is no time left");
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        for window in [Duration::ZERO, Duration::MAX] {
            for within in [Duration::ZERO, Duration::MAX] {
                let mut pacing = Pacing::new(
                    policy(u32::MAX, window),
                    at(7),
                    within,
                    usize::MAX,
                    u64::MAX,
                );
                assert!(pacing.moment() >= at(7));
                let latest = Instant::from_start(Duration::MAX);
                assert!(pacing.later(at(8)) >= at(8) && pacing.later(latest) >= latest);
            }
        }
        assert_eq!(moments(policy(1, SECOND), SECOND, 0, 0), []);
    }

    /// 10,000 clients of a server that drains: each connects to a second server as soon as it is
    /// closed, some after a moment.
    #[test]
    fn ten_thousand_that_come_back_at_once_never_exceed_the_rate_at_the_second_server() {
        let per_second = 500;
        for seed in [1, 0xdead_beef_0000_0001, u64::MAX] {
            let drain = policy(per_second, Duration::ZERO);
            let arrivals = moments(drain, FAR, 10_000, seed);
            assert_eq!(most_in_a_second(&arrivals), 500);
            let took = arrivals[9_999].saturating_since(arrivals[0]);
            assert_eq!(took, Duration::from_millis(19_998), "as fast as allowed");
            // The second server accepts at an equal rate: no client waits.
            let rate = crate::limits::Rate::new(u64::from(per_second), 1);
            let mut accepts = crate::admission::bucket::Bucket::new(rate, arrivals[0]);
            assert!(arrivals.iter().all(|arrival| accepts.take(*arrival, 1)));
        }
    }
}
