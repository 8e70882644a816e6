//! A token bucket, as a pure state machine.

use std::time::Duration;

use crate::limits::Rate;
use crate::rt::Instant;

/// The units in a token, each a billionth; a nanosecond refills `per_second` units.
const FINE: u128 = 1_000_000_000;

/// Tokens that refill at a [`Rate`], up to its burst.
///
/// The bucket is exact: within any time `t` at most `burst + per_second * t` tokens are taken, and
/// all of these can be taken.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// The tokens taken and not yet refilled, in billionths; at most the burst.
    spent: u128,
    /// The time up to which the bucket was refilled.
    at: Instant,
}

impl Bucket {
    /// Makes a full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            spent: 0,
            at: now,
        }
    }

    /// Takes `tokens` tokens, if the bucket has as many; returns whether it did.
    pub fn take(&mut self, now: Instant, tokens: u64) -> bool {
        self.refill(now);
        let spent = self.spent.saturating_add(u128::from(tokens) * FINE);
        let fits = spent <= self.burst();
        if fits {
            self.spent = spent;
        }
        fits
    }

    /// The number of whole tokens in the bucket.
    pub fn room(&mut self, now: Instant) -> u64 {
        self.refill(now);
        let room = (self.burst() - self.spent) / FINE;
        u64::try_from(room).expect("no more than the burst")
    }

    /// The time at which the bucket will have `tokens` tokens, or a whole burst if that is fewer;
    /// `now` if it has them.
    pub fn room_at(&mut self, now: Instant, tokens: u64) -> Instant {
        self.refill(now);
        let kept = self.burst() - (u128::from(tokens) * FINE).min(self.burst());
        let missing = self.spent.saturating_sub(kept);
        now + nanos(missing.div_ceil(u128::from(self.rate.per_second.get())))
    }

    fn burst(&self) -> u128 {
        u128::from(self.rate.burst.get()) * FINE
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_since(self.at).as_nanos();
        let refilled = elapsed.saturating_mul(u128::from(self.rate.per_second.get()));
        self.spent = self.spent.saturating_sub(refilled);
        self.at = self.at.max(now);
    }
}

fn nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / FINE).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanos % FINE).expect("less than a second");
    Duration::new(seconds, rest)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u64, burst: u64) -> Rate {
        let nonzero = |value| NonZeroU64::new(value).expect("not zero");
        Rate {
            per_second: nonzero(per_second),
            burst: nonzero(burst),
        }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_start(Duration::from_nanos(nanos))
    }

    #[test]
    fn a_burst_passes_and_one_more_does_not() {
        for burst in [1, 2, 1000, u64::MAX - 1, u64::MAX] {
            let mut bucket = Bucket::new(rate(1, burst), at(0));
            assert_eq!(bucket.room(at(0)), burst);
            assert!(bucket.take(at(0), 0), "nothing always passes");
            assert!(bucket.take(at(0), burst), "{burst}");
            assert!(!bucket.take(at(0), 1), "{burst}");
            assert_eq!(bucket.room(at(0)), 0);
            assert!(!bucket.take(at(999_999_999), 1), "a nanosecond too early");
            assert!(bucket.take(at(1_000_000_000), 1), "a second later");
        }
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        let far = Instant::from_start(Duration::MAX);
        for (per_second, burst) in [(1, 1), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
            let mut bucket = Bucket::new(rate(per_second, burst), at(0));
            assert_eq!(bucket.take(at(0), u64::MAX), burst == u64::MAX);
            assert!(bucket.room_at(at(0), u64::MAX) >= at(0));
            assert!(bucket.room_at(at(0), 0) == at(0));
            assert_eq!(bucket.room(far), burst, "all of it is refilled");
            assert!(bucket.take(far, burst));
            assert!(
                bucket.room_at(far, 1) >= far,
                "the end of the clock saturates"
            );
        }
    }

    #[test]
    fn a_clock_that_stands_still_refills_nothing() {
        let mut bucket = Bucket::new(rate(u64::MAX, 3), at(5));
        assert!(bucket.take(at(5), 3));
        assert!(!bucket.take(at(5), 1));
        assert!(!bucket.take(at(4), 1), "nor one that goes back");
        assert!(bucket.take(at(6), 3));
    }

    /// A bucket in its simplest form, in quarters of a second and thirds of a token.
    struct Plain {
        per_second: u64,
        burst: u64,
        /// The tokens in twelfths: a quarter of a second refills three times `per_second` of them.
        level: u64,
    }

    impl Plain {
        fn wait_a_quarter(&mut self) {
            self.level = (self.level + 3 * self.per_second).min(12 * self.burst);
        }

        fn take(&mut self, tokens: u64) -> bool {
            let fits = 12 * tokens <= self.level;
            if fits {
                self.level -= 12 * tokens;
            }
            fits
        }
    }

    /// Every sequence of four takes, each after up to three quarters of a second.
    #[test]
    fn every_short_sequence_is_as_one_would_explain_it() {
        let mut checked = 0_u32;
        for (per_second, burst) in (1..=3).flat_map(|p| (1..=3).map(move |b| (p, b))) {
            for sequence in 0..16_u64.pow(4) {
                let mut bucket = Bucket::new(rate(per_second, burst), at(0));
                let mut plain = Plain {
                    per_second,
                    burst,
                    level: 12 * burst,
                };
                let mut now = 0;
                for step in 0..4 {
                    let choice = sequence / 16_u64.pow(step) % 16;
                    let (quarters, tokens) = (choice / 4, choice % 4);
                    (0..quarters).for_each(|_| plain.wait_a_quarter());
                    now += quarters * 250_000_000;
                    assert_eq!(bucket.room(at(now)), plain.level / 12);
                    assert_eq!(bucket.take(at(now), tokens), plain.take(tokens));
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 9 * 65_536 * 4);
    }

    proptest! {
        #![proptest_config(crate::cases::cases())]

        /// Tokens promised for a time are there at that time, and not a nanosecond before.
        #[test]
        fn the_promised_moment_is_the_first(
            per_second in 1..=u64::MAX,
            burst in 1..=u64::MAX,
            spent in any::<u64>(),
            wanted in any::<u64>(),
            start in 0..u64::MAX / 4,
        ) {
            let mut bucket = Bucket::new(rate(per_second, burst), at(start));
            bucket.take(at(start), spent.min(burst));
            let wanted = wanted.min(burst);
            let promised = bucket.room_at(at(start), wanted);
            prop_assert!(bucket.clone().take(promised, wanted));
            let waits = promised.saturating_since(at(start));
            if let Some(before) = waits.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(!bucket.clone().take(at(start) + before, wanted));
            }
        }

        /// Within any time, no more tokens pass than the burst and the refill.
        #[test]
        fn no_more_than_the_rate_passes(
            per_second in 1..5000_u64,
            burst in 1..100_u64,
            steps in prop::collection::vec((0..50_000_000_u64, 0..20_u64), 1..200),
        ) {
            let mut bucket = Bucket::new(rate(per_second, burst), at(0));
            let (mut now, mut passed) = (0, 0);
            for (wait, tokens) in steps {
                now += wait;
                if bucket.take(at(now), tokens) {
                    passed += tokens;
                }
                let most = u128::from(burst) * FINE + u128::from(per_second) * u128::from(now);
                prop_assert!(u128::from(passed) * FINE <= most);
            }
        }
    }
}
