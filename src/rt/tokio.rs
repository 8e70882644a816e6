//! The production runtime: the only file that reads the OS clock or spawns on tokio.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the clock, the spawner and the entropy come from"
)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io;
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::unconstrained;

use super::crew::Spawner;
#[cfg(target_os = "linux")]
use super::reactor::Sources;
use super::turn::Turn;
use super::{Clock, Home, Instant, Random, Sleep, Spawn, homes};

/// The tokio runtime of the calling thread, or if there is no such runtime, the runtime that was
/// current when this handle was made.
///
/// On several threads with a runtime each, a service therefore runs on the thread of the client
/// that started it. A connection stays on the thread that accepted it, or moves with its upgrade to
/// the thread where its session is [placed](crate::session::Admission::place).
#[derive(Clone, Debug)]
pub struct Tokio {
    handle: Handle,
    start: tokio::time::Instant,
}

impl Tokio {
    /// Makes a handle to the runtime of the caller.
    ///
    /// # Panics
    ///
    /// When called outside of a tokio runtime.
    pub fn current() -> Self {
        Self {
            handle: Handle::current(),
            start: tokio::time::Instant::now(),
        }
    }
}

thread_local! {
    /// The spawner of this thread's crew, if the thread has a crew.
    static HOME: RefCell<Option<Spawner>> = const { RefCell::new(None) };

    /// The sockets of this thread's reactor, if the thread has a crew.
    #[cfg(target_os = "linux")]
    static SOURCES: RefCell<Option<Arc<Sources>>> = const { RefCell::new(None) };
}

/// The sockets of this thread's reactor, if the thread has a reactor.
#[cfg(target_os = "linux")]
pub(crate) fn sources() -> Option<Arc<Sources>> {
    SOURCES.with_borrow(Clone::clone)
}

/// The event loop of this thread, which is registered as a home while it exists.
struct AtHome(Turn);

impl AtHome {
    fn new(turn: Turn) -> Self {
        homes::open(&turn.spawner());
        HOME.set(Some(turn.spawner()));
        #[cfg(target_os = "linux")]
        SOURCES.set(Some(Arc::clone(turn.sources())));
        Self(turn)
    }
}

impl Drop for AtHome {
    fn drop(&mut self) {
        homes::close(self.0.spawner().home());
        // A thread that ends has lost its thread-local already.
        let _gone = HOME.try_with(RefCell::take);
        #[cfg(target_os = "linux")]
        let _gone = SOURCES.try_with(RefCell::take);
    }
}

impl Tokio {
    /// Makes a local executor of the calling thread: tasks spawned on the thread from now on run
    /// together, as one task of its runtime.
    ///
    /// For a server whose threads have a runtime each (`current_thread`). Tasks that one thread
    /// wakes on another are then handed over all at once, without a system call for each. On Linux
    /// an epoll instance of the thread's own reports the sockets of its sessions, in the place of
    /// the runtime.
    ///
    /// # Errors
    ///
    /// When the system has no file descriptor left for the epoll instance.
    ///
    /// # Panics
    ///
    /// When called outside of a tokio runtime, or in one without I/O.
    pub fn gather() -> io::Result<()> {
        let mut home = AtHome::new(Turn::new()?);
        let turns = poll_fn(move |cx| {
            home.0.poll(cx);
            Poll::<()>::Pending
        });
        // tokio's budget does not apply: the crew bounds its turns itself.
        Handle::current().spawn(unconstrained(turns));
        Ok(())
    }
}

impl Clock for Tokio {
    fn now(&self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        // tokio caps far deadlines itself, but the addition may overflow.
        let far = self.start + std::time::Duration::from_secs(86_400 * 365 * 30);
        let deadline = self.start.checked_add(at.since_start()).unwrap_or(far);
        Box::pin(tokio::time::sleep_until(deadline))
    }
}

impl Spawn for Tokio {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        if let Some(crew) = HOME.with_borrow(Clone::clone) {
            crew.spawn(future);
            return;
        }
        match Handle::try_current() {
            Ok(here) => here.spawn(future),
            // A thread without a runtime, such as a thread that drops the last handle of a service.
            Err(_) => self.handle.spawn(future),
        };
    }

    fn spawn_at(&self, home: Home, future: BoxFuture<'static, ()>) {
        match homes::find(home) {
            Some(crew) => crew.spawn(future),
            None => self.spawn(future),
        }
    }

    fn home(&self) -> Option<Home> {
        HOME.with_borrow(|crew| crew.as_ref().map(Spawner::home))
    }
}

impl Random for Tokio {
    fn random(&self) -> u64 {
        RandomState::new().hash_one(0_u8)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_whose_runtime_has_ended_has_no_home() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of one thread");
        let entered = runtime.enter();
        Tokio::gather().expect("there are descriptors");
        let rt = Tokio::current();
        assert!(rt.home().is_some());
        drop(entered);
        drop(runtime);
        assert!(rt.home().is_none());
        #[cfg(target_os = "linux")]
        assert!(sources().is_none());
    }
}
