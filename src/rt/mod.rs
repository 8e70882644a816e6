//! What the core asks of a runtime: time, tasks and randomness, and nothing else.
//!
//! `rt::Tokio` is the one used in production; the simulator brings its own.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The beginning of the clock.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The instant this long after the beginning.
    pub const fn from_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time from the beginning to this instant.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the clock, so that "never" can be written as a huge duration.
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
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
}
