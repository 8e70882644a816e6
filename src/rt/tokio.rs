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

use super::event_loop::EventLoop;
use super::executor::Spawner;
#[cfg(target_os = "linux")]
use super::reactor::Sources;
use super::{Clock, Instant, Random, Sleep, Spawn, WorkerId, workers};

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
    /// The spawner of this thread's executor, if the thread has an executor.
    static SPAWNER: RefCell<Option<Spawner>> = const { RefCell::new(None) };

    /// The sockets of this thread's reactor, if the thread has an executor.
    #[cfg(target_os = "linux")]
    static SOURCES: RefCell<Option<Arc<Sources>>> = const { RefCell::new(None) };
}

/// The sockets of this thread's reactor, if the thread has a reactor.
#[cfg(target_os = "linux")]
pub(crate) fn sources() -> Option<Arc<Sources>> {
    SOURCES.with_borrow(Clone::clone)
}

/// The event loop of this thread, which is registered as a worker while it exists.
struct Worker(EventLoop);

impl Worker {
    fn new(event_loop: EventLoop) -> Self {
        workers::register(&event_loop.spawner());
        SPAWNER.set(Some(event_loop.spawner()));
        #[cfg(target_os = "linux")]
        SOURCES.set(Some(Arc::clone(event_loop.sources())));
        Self(event_loop)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        workers::unregister(self.0.spawner().worker());
        // A thread that ends has lost its thread-local already.
        let _gone = SPAWNER.try_with(RefCell::take);
        #[cfg(target_os = "linux")]
        let _gone = SOURCES.try_with(RefCell::take);
    }
}

impl Tokio {
    /// Makes the calling thread a worker with an executor of its own: tasks spawned on the thread
    /// from now on run together, as one task of its runtime.
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
    pub fn start_worker() -> io::Result<()> {
        let mut worker = Worker::new(EventLoop::new()?);
        let iterations = poll_fn(move |cx| {
            worker.0.poll(cx);
            Poll::<()>::Pending
        });
        // tokio's budget does not apply: the executor bounds its iterations itself.
        Handle::current().spawn(unconstrained(iterations));
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
        if let Some(executor) = SPAWNER.with_borrow(Clone::clone) {
            executor.spawn(future);
            return;
        }
        match Handle::try_current() {
            Ok(here) => here.spawn(future),
            // A thread without a runtime, such as a thread that drops the last handle of a service.
            Err(_) => self.handle.spawn(future),
        };
    }

    fn spawn_on(&self, worker: WorkerId, future: BoxFuture<'static, ()>) {
        match workers::find(worker) {
            Some(executor) => executor.spawn(future),
            None => self.spawn(future),
        }
    }

    fn worker(&self) -> Option<WorkerId> {
        SPAWNER.with_borrow(|executor| executor.as_ref().map(Spawner::worker))
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
    fn a_thread_whose_runtime_has_ended_has_no_worker() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of one thread");
        let entered = runtime.enter();
        Tokio::start_worker().expect("there are descriptors");
        let rt = Tokio::current();
        assert!(rt.worker().is_some());
        drop(entered);
        drop(runtime);
        assert!(rt.worker().is_none());
        #[cfg(target_os = "linux")]
        assert!(sources().is_none());
    }
}
