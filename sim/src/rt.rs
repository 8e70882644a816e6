//! The runtime the product has in a run: tokio's, on virtual time, with the run's wall clock.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use busline::rt::{Clock, Instant, Random, Sleep, Spawn, Tokio, WorkerId};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::process::Process;
use crate::rng::Rng;
use crate::shared::Shared;
use crate::trace::{Event, Recorder};

/// The wall clock at the beginning of a run: 2025-12-22T10:30:00Z.
pub const WALL_START: Duration = Duration::from_secs(1_766_399_400);

/// The wall clock at this virtual time.
pub fn wall_at(now: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + WALL_START + now
}

/// A [`busline::rt::Runtime`] on the virtual time of the host it was made on.
///
/// Timers and tasks are those of [`Tokio`], which production has too.
#[derive(Clone)]
pub struct SimRuntime {
    tokio: Tokio,
    recorder: Recorder,
    process: Process,
    random: Shared<Rng>,
    tasks: Shared<usize>,
    is_stirred: Arc<AtomicBool>,
}

impl SimRuntime {
    /// The runtime of the host that is running, for this process, which is the one after so many
    /// others.
    ///
    /// # Panics
    ///
    /// When called outside of a host.
    pub fn current(seed: u64, others: u64, process: Process, recorder: Recorder) -> Self {
        Self {
            tokio: Tokio::current(),
            recorder,
            process,
            random: Shared::new(Rng::keyed(seed, "runtime", others)),
            tasks: Shared::default(),
            is_stirred: Arc::default(),
        }
    }

    /// The product does something, and may change its state.
    pub(crate) fn stir(&self) {
        self.is_stirred.store(true, Ordering::Relaxed);
    }

    /// Whether the product has done something since this was last asked.
    pub(crate) fn was_stirred(&self) -> bool {
        self.is_stirred.swap(false, Ordering::Relaxed)
    }

    /// Tasks that were spawned and have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.with(|tasks| *tasks)
    }
}

impl Clock for SimRuntime {
    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn wall(&self) -> SystemTime {
        self.recorder.wall()
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        self.tokio.sleep_until(at)
    }
}

impl Spawn for SimRuntime {
    fn worker(&self) -> Option<WorkerId> {
        // All of a run is one thread.
        Some(WorkerId(0))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let task = Task {
            future,
            rt: self.clone(),
            _alive: Alive::new(&self.tasks),
        };
        self.tokio.spawn(self.process.task(Box::pin(task)).boxed());
    }
}

impl Random for SimRuntime {
    fn random(&self) -> u64 {
        self.random.with(Rng::random)
    }
}

/// A task of the product.
struct Task {
    future: BoxFuture<'static, ()>,
    rt: SimRuntime,
    _alive: Alive,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.rt.stir();
        let future = &mut self.future;
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        // tokio would keep the panic to itself.
        polled.unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            self.rt.recorder.record(Event::Panicked { text });
            Poll::Ready(())
        })
    }
}

/// Counts a task from its spawn to its end, or to its drop.
struct Alive(Shared<usize>);

impl Alive {
    fn new(tasks: &Shared<usize>) -> Self {
        tasks.with(|tasks| *tasks += 1);
        Self(tasks.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.with(|tasks| *tasks -= 1);
    }
}

/// What a panic said; a payload that is no text cannot be shown.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no text)").to_owned()
}
