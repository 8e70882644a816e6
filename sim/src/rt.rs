//! The runtime the product has in a run: tokio's, on virtual time, with the run's wall clock.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use busline::rt::{Clock, Instant, Random, Sleep, Spawn, Tokio};
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
}

impl SimRuntime {
    /// The runtime of the host that is running, for this process.
    ///
    /// # Panics
    ///
    /// When called outside of a host.
    pub fn current(seed: u64, process: Process, recorder: Recorder) -> Self {
        Self {
            tokio: Tokio::current(),
            recorder,
            process,
            random: Shared::new(Rng::keyed(seed, "runtime", 0)),
            tasks: Shared::default(),
        }
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
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let alive = Alive::new(&self.tasks);
        let recorder = self.recorder.clone();
        let task = async move {
            // tokio would keep the panic to itself.
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                let text = panic_text(panic.as_ref());
                recorder.record(Event::Panicked { text });
            }
            drop(alive);
        };
        self.tokio.spawn(self.process.task(task.boxed()).boxed());
    }
}

impl Random for SimRuntime {
    fn random(&self) -> u64 {
        self.random.with(Rng::random)
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
