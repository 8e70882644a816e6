//! What the core asks of a runtime: time, tasks and randomness, and nothing else.
//!
//! `rt::Tokio` is the one used in production; the simulator brings its own.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;

#[cfg(feature = "server")]
mod crew;
#[cfg(feature = "server")]
mod tokio;

#[cfg(feature = "server")]
pub use self::tokio::Tokio;

/// A point on a runtime's monotonic clock: the time since that runtime's own beginning.
///
/// It counts nanoseconds, for 584 years; what is later is the end of the clock, which is never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// Nanoseconds and one, so that an `Option` of it is no larger: sessions have a dozen.
    NonZeroU64,
);

impl Instant {
    /// The beginning of the clock.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The end of the clock.
    const END: Self = Self(NonZeroU64::MAX);

    /// The instant this long after the beginning.
    pub const fn from_start(elapsed: Duration) -> Self {
        let nanos = elapsed.as_nanos() + 1;
        if nanos < u64::MAX as u128 {
            Self(NonZeroU64::new(nanos as u64).expect("one at least"))
        } else {
            Self::END
        }
    }

    /// The time from the beginning to this instant; the longest there is for the end of the clock.
    pub const fn since_start(self) -> Duration {
        if self.0.get() == u64::MAX {
            return Duration::MAX;
        }
        Duration::from_nanos(self.0.get() - 1)
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
        Self::from_start(self.since_start().saturating_add(wait))
    }
}

/// A future that completes at its instant; dropping it cancels the timer.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time: monotonic for deadlines, wall for people.
pub trait Clock: Send + Sync + 'static {
    /// The present instant; never earlier than one it returned before.
    fn now(&self) -> Instant;

    /// The present date and time; may jump in either direction.
    fn wall(&self) -> SystemTime;

    /// A future that completes once [`now`](Self::now) has reached `at`.
    fn sleep_until(&self, at: Instant) -> Sleep;
}

/// Tasks.
pub trait Spawn: Send + Sync + 'static {
    /// Runs the future to its end, concurrently with the caller.
    ///
    /// It must not be polled before `spawn` has returned. A runtime that shuts down drops it.
    fn spawn(&self, future: BoxFuture<'static, ()>);

    /// Where what is spawned from here runs; `None`, as by default, where that is no one place.
    ///
    /// Tasks of one home never run at the same time.
    fn home(&self) -> Option<Home> {
        None
    }
}

/// One thread's tasks, by a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home(pub u64);

/// Randomness, for jitter; not for secrets.
pub trait Random: Send + Sync + 'static {
    /// The next number, each bit as likely 0 as 1.
    fn random(&self) -> u64;
}

/// All that the core asks of its surroundings.
pub trait Runtime: Clock + Spawn + Random + Clone {}

impl<T: Clock + Spawn + Random + Clone> Runtime for T {}

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
