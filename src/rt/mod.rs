//! What the core asks of a runtime: time, tasks and randomness, and nothing else.
//!
//! `rt::Tokio` is the one used in production; the simulator brings its own.

use std::pin::Pin;
use std::time::SystemTime;

use futures::future::BoxFuture;

#[cfg(feature = "server")]
mod crew;
#[cfg(feature = "server")]
mod homes;
#[cfg(all(feature = "server", target_os = "linux"))]
mod reactor;
#[cfg(feature = "server")]
mod tokio;
#[cfg(feature = "server")]
mod turn;

#[cfg(all(feature = "server", target_os = "linux"))]
pub(crate) use self::reactor::TcpStream;
#[cfg(feature = "server")]
pub use self::tokio::Tokio;
#[cfg(all(feature = "server", target_os = "linux"))]
pub(crate) use self::tokio::sources;
pub use crate::instant::Instant;

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

    /// As [`spawn`](Self::spawn), where the tasks of this home run; here, as by default, if there
    /// is no such place any more.
    fn spawn_at(&self, home: Home, future: BoxFuture<'static, ()>) {
        let _is_one_place = home;
        self.spawn(future);
    }

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
