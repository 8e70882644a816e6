//! The core's interface to a runtime: time, tasks and randomness, and nothing else.
//!
//! `rt::Tokio` is the production runtime; the simulator brings its own.

use std::pin::Pin;
use std::time::SystemTime;

use futures::future::BoxFuture;

#[cfg(feature = "server")]
mod event_loop;
#[cfg(feature = "server")]
mod executor;
#[cfg(all(feature = "server", target_os = "linux"))]
mod reactor;
#[cfg(feature = "server")]
mod tokio;
#[cfg(feature = "server")]
mod workers;

#[cfg(all(feature = "server", target_os = "linux"))]
pub(crate) use self::reactor::TcpStream;
#[cfg(feature = "server")]
pub use self::tokio::Tokio;
#[cfg(all(feature = "server", target_os = "linux"))]
pub(crate) use self::tokio::sources;
pub use crate::instant::Instant;

/// A future that completes at its instant; dropping it cancels the timer.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock: monotonic time for deadlines, wall-clock time for people.
pub trait Clock: Send + Sync + 'static {
    /// The present instant; never earlier than an instant returned before.
    fn now(&self) -> Instant;

    /// The present date and time; may jump in either direction.
    fn wall(&self) -> SystemTime;

    /// A future that completes once [`now`](Self::now) has reached `at`.
    fn sleep_until(&self, at: Instant) -> Sleep;
}

/// Runs tasks.
pub trait Spawn: Send + Sync + 'static {
    /// Runs the future to its end, concurrently with the caller.
    ///
    /// The future must not be polled before `spawn` has returned. A runtime that shuts down drops
    /// it.
    fn spawn(&self, future: BoxFuture<'static, ()>);

    /// Runs the future as [`spawn`](Self::spawn) does, but on the thread of `worker`; the default,
    /// and the fallback if that thread has ended, is to run it like `spawn`.
    fn spawn_on(&self, worker: WorkerId, future: BoxFuture<'static, ()>) {
        let _is_one_place = worker;
        self.spawn(future);
    }

    /// The worker of tasks that are spawned from here; `None`, the default, if they may run on
    /// different threads.
    ///
    /// Tasks of one worker never run at the same time.
    fn worker(&self) -> Option<WorkerId> {
        None
    }
}

/// The number of a thread as a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// A source of randomness, for jitter; not for secrets.
pub trait Random: Send + Sync + 'static {
    /// The next number, each bit as likely 0 as 1.
    fn random(&self) -> u64;
}

/// The traits that the core asks of its surroundings, together.
pub trait Runtime: Clock + Spawn + Random + Clone {}

impl<T: Clock + Spawn + Random + Clone> Runtime for T {}
