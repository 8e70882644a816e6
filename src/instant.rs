//! Points in time, as the core counts them.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

/// A point on a runtime's monotonic clock: the time since that clock's own beginning.
///
/// An instant counts nanoseconds, for 584 years; a later time is the end of the clock, which never
/// comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// The nanoseconds plus one, so that an `Option` is no larger: sessions have a dozen.
    NonZeroU64,
);

impl Instant {
    /// The beginning of the clock.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The end of the clock.
    pub(crate) const END: Self = Self(NonZeroU64::MAX);

    /// Makes the instant this long after the beginning.
    pub const fn from_start(elapsed: Duration) -> Self {
        let nanos = elapsed.as_nanos() + 1;
        if nanos < u64::MAX as u128 {
            Self(NonZeroU64::new(nanos as u64).expect("one at least"))
        } else {
            Self::END
        }
    }

    /// The time from the beginning to this instant; `Duration::MAX` for the end of the clock.
    pub const fn since_start(self) -> Duration {
        if self.0.get() == u64::MAX {
            return Duration::MAX;
        }
        Duration::from_nanos(self.0.get() - 1)
    }

    /// The nanoseconds from `earlier` to this instant; 0 if `earlier` is later.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// The instant this many nanoseconds later, at most the end of the clock.
    pub(crate) const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The earlier of this instant and `other`, if there is an `other`.
    pub(crate) fn or_sooner(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other < self => other,
            Some(_) | None => self,
        }
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.since_start().saturating_sub(earlier.since_start())
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.since_start()).finish()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the clock, so that "never" can be written as a huge duration.
    fn add(self, wait: Duration) -> Self {
        self.after_nanos(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stays_on_the_clock_at_both_of_its_ends() {
        let end = Instant::from_start(Duration::MAX);
        let tick = Duration::from_nanos(1);
        assert_eq!(Instant::ZERO + Duration::ZERO, Instant::ZERO);
        assert_eq!((Instant::ZERO + tick).since_start(), tick);
        assert_eq!(Instant::ZERO + Duration::MAX, end);
        assert_eq!(end + tick, end);
        assert_eq!(end.saturating_since(Instant::ZERO), Duration::MAX);
        assert_eq!(Instant::ZERO.saturating_since(end), Duration::ZERO);
        assert_eq!((Instant::ZERO + tick).saturating_since(Instant::ZERO), tick);
    }

    #[test]
    fn the_last_nanosecond_is_counted_and_what_is_later_is_never() {
        let last = Duration::from_nanos(u64::MAX - 2);
        let end = Instant::from_start(Duration::MAX);
        assert_eq!(Instant::from_start(last).since_start(), last);
        assert!(Instant::from_start(last) < end);
        for tick in [1, 2, 3] {
            let later = Instant::from_start(last) + Duration::from_nanos(tick);
            assert_eq!(later, end, "{tick}");
        }
    }

    #[test]
    fn none_costs_no_more_than_an_instant_which_shows_its_time() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
        let shown = format!("{:?}", Instant::from_start(Duration::from_millis(1_500)));
        assert_eq!(shown, "Instant(1.5s)");
    }
}
