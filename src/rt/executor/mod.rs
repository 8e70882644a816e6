//! A local executor: the tasks of one thread, which run together.
//!
//! An iteration of the event loop polls every ready task, then the tasks that became ready
//! meanwhile, until the ready list is empty. After each pass over the ready list, the woken tasks
//! of other threads are handed over, all tasks of a thread at once: one wake of the thread for any
//! number of tasks.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use self::task_set::TaskSet;
use crate::rt::WorkerId;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, thread_local};

/// The number of polls after which `run_ready` returns, so that the thread can look for new events.
const POLLS_MAX: usize = 1024;

/// The tasks of one thread; dropping the executor drops its tasks.
pub(crate) struct Executor {
    shared: StdArc<Shared>,
    /// The futures of the tasks. No other thread has access, so a poll takes no lock.
    tasks: TaskSet,
    /// The ready list: the tasks that the present pass polls.
    ready: Vec<StdArc<Task>>,
    /// The ready list of the next pass: tasks woken by the present one; empty between passes.
    next_ready: Vec<StdArc<Task>>,
}

/// Spawns tasks into an [`Executor`], from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Spawner(StdArc<Shared>);

struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    spawned: Vec<Spawned>,
    ready: Vec<StdArc<Task>>,
    /// The waker of the task that polls the event loop, while that is parked.
    parked: Option<Waker>,
    /// Whether the executor was dropped.
    is_over: bool,
}

/// The shared half of a task, which wakers refer to; its future belongs to the executor alone.
struct Task {
    /// The key of the future in `TaskSet`, set when the executor takes the task. Only the
    /// executor's thread reads and writes it.
    key: AtomicU64,
    executor: StdArc<Shared>,
    /// Whether the task is in a list of ready tasks, or on its way there.
    is_ready: AtomicBool,
}

/// A new task with its future, on the way to its executor.
type Spawned = (StdArc<Task>, BoxFuture<'static, ()>);

thread_local! {
    /// The tasks that this thread has woken, while the thread collects them.
    static WOKEN: RefCell<Option<Woken>> = const { RefCell::new(None) };

}

struct Woken {
    executor: StdArc<Shared>,
    /// Woken tasks of this executor.
    own: Vec<StdArc<Task>>,
    /// Woken tasks of other executors.
    foreign: Vec<StdArc<Task>>,
}

impl Executor {
    pub(crate) fn new() -> Self {
        Self {
            shared: StdArc::new(Shared(Mutex::new(State::default()))),
            tasks: TaskSet::default(),
            ready: Vec::new(),
            next_ready: Vec::new(),
        }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(StdArc::clone(&self.shared))
    }

    /// Runs `wake` and collects the tasks that it wakes into the ready list, without a lock.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn collect_wakes<T>(&mut self, wake: impl FnOnce() -> T) -> T {
        self.begin_collecting();
        let done = wake();
        self.end_collecting();
        done
    }

    /// Polls tasks until none is ready, or up to a number of polls. Returns `Pending`, and wakes
    /// the task, if some tasks are still ready.
    pub(crate) fn run_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut polls = 0;
        while polls < POLLS_MAX {
            let spawned = self.shared.take_ready(&mut self.ready, cx);
            for (task, future) in spawned {
                task.key.store(self.tasks.insert(future), Ordering::Relaxed);
                self.ready.push(task);
            }
            if self.ready.is_empty() {
                return Poll::Ready(());
            }
            polls += self.poll_each_ready();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls each task of the ready list once; returns the number of polls.
    fn poll_each_ready(&mut self) -> usize {
        self.begin_collecting();
        let polls = self.ready.len();
        for task in self.ready.drain(..) {
            run(&mut self.tasks, task);
        }
        self.end_collecting();
        polls
    }

    /// Begins to collect the tasks that this thread wakes.
    fn begin_collecting(&mut self) {
        let begun = Woken {
            executor: StdArc::clone(&self.shared),
            own: std::mem::take(&mut self.next_ready),
            foreign: Vec::new(),
        };
        debug_assert!(
            begun.own.is_empty(),
            "a collection begins with {} tasks that were woken in the one before it",
            begun.own.len(),
        );
        let before = WOKEN.with(|woken| woken.replace(Some(begun)));
        debug_assert!(
            before.is_none(),
            "a collection begins on a thread that is still in another one"
        );
    }

    /// Ends the collection: own tasks go to the ready list, other tasks to their executors.
    fn end_collecting(&mut self) {
        if let Some(mut ended) = WOKEN.with(RefCell::take) {
            debug_assert!(
                StdArc::ptr_eq(&ended.executor, &self.shared),
                "an executor ends the collection of another executor"
            );
            if self.ready.is_empty() {
                std::mem::swap(&mut self.ready, &mut ended.own);
            } else {
                self.ready.append(&mut ended.own);
            }
            self.next_ready = ended.own;
            hand_over(ended.foreign);
        }
    }
}

/// Polls a task, unless it has ended.
fn run(tasks: &mut TaskSet, task: StdArc<Task>) {
    // Cleared before the poll, so that a wake during the poll makes the task ready again. A swap
    // and not a store: a waker that found `is_ready` set adds no second poll, so this poll must see
    // all that the waker's thread wrote before. Only a read of the flag synchronizes with that
    // thread.
    let was_ready = task.is_ready.swap(false, Ordering::SeqCst);
    debug_assert!(was_ready, "an executor polls a task that nobody has woken");
    let key = task.key.load(Ordering::Relaxed);
    let Some(future) = tasks.get_mut(key) else {
        return;
    };
    let waker = Waker::from(task);
    let mut cx = Context::from_waker(&waker);
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
    match polled {
        Ok(Poll::Pending) => {}
        // The panic hook has reported the panic; it ends this task only.
        Ok(Poll::Ready(())) | Err(_) => drop_all(tasks.remove(key)),
    }
}

/// Drops futures; a panic of one does not keep the others.
fn drop_all(futures: impl IntoIterator<Item = BoxFuture<'static, ()>>) {
    for future in futures {
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
    }
}

/// Gives each executor its woken tasks, all tasks of an executor at once.
fn hand_over(mut woken: Vec<StdArc<Task>>) {
    while let Some(first) = woken.first() {
        let executor = StdArc::clone(&first.executor);
        let is_its = |task: &StdArc<Task>| StdArc::ptr_eq(&task.executor, &executor);
        let (its, others) = woken.into_iter().partition::<Vec<_>, _>(is_its);
        executor.push(its);
        woken = others;
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // `is_over` is set under the lock: a spawn or wake comes before and is taken out here, or
        // sees the flag and drops its tasks. Futures are dropped after unlocking, as they may wake
        // tasks.
        let mut state = self.shared.0.lock();
        let rest = std::mem::take(&mut *state);
        state.is_over = true;
        drop(state);
        drop_all(rest.spawned.into_iter().map(|(_, future)| future));
        drop_all(self.tasks.drain());
    }
}

impl Spawner {
    /// The number of the executor as a worker.
    pub(crate) fn worker(&self) -> WorkerId {
        // An address is unique while the executor exists.
        WorkerId(StdArc::as_ptr(&self.0) as usize as u64)
    }

    /// Runs the future from the next pass of the executor on; drops it if the executor was dropped.
    pub(crate) fn spawn(&self, future: BoxFuture<'static, ()>) {
        let mut state = self.0.0.lock();
        if state.is_over {
            drop(state);
            return;
        }
        let task = StdArc::new(Task {
            key: AtomicU64::new(0),
            executor: StdArc::clone(&self.0),
            is_ready: AtomicBool::new(true),
        });
        state.spawned.push((task, future));
        let parked = state.parked.take();
        drop(state);
        if let Some(waker) = parked {
            waker.wake();
        }
    }
}

impl State {
    /// Checks the lists of tasks, in builds with debug assertions.
    fn check(&self) {
        let waiting = self.ready.len() + self.spawned.len();
        debug_assert!(
            self.parked.is_none() || waiting == 0,
            "an executor is parked, but {waiting} of its tasks wait to be polled"
        );
        debug_assert!(
            !self.is_over || waiting == 0,
            "an executor is over, but {waiting} of its tasks wait to be polled"
        );
    }
}

impl Shared {
    /// Takes ready tasks and returns new tasks. If there are neither, parks the task that polls the
    /// event loop, under the lock that `push` takes: no wake is lost in between.
    fn take_ready(&self, into: &mut Vec<StdArc<Task>>, cx: &Context<'_>) -> Vec<Spawned> {
        let mut state = self.0.lock();
        state.check();
        into.append(&mut state.ready);
        let spawned = std::mem::take(&mut state.spawned);
        if into.is_empty() && spawned.is_empty() {
            let before = state.parked.replace(cx.waker().clone());
            drop(state);
            drop(before);
        }
        spawned
    }

    /// Adds ready tasks and wakes the thread of the executor, or drops the tasks if the executor
    /// was dropped.
    fn push(&self, tasks: impl IntoIterator<Item = StdArc<Task>>) {
        let mut state = self.0.lock();
        if state.is_over {
            drop(state);
            return;
        }
        let tasks = tasks.into_iter().inspect(|task| {
            let is_own = ptr::eq(&*task.executor, self);
            debug_assert!(is_own, "an executor gets a woken task of another executor");
        });
        state.ready.extend(tasks);
        let parked = state.parked.take();
        drop(state);
        if let Some(waker) = parked {
            waker.wake();
        }
    }
}

impl Wake for Task {
    fn wake(self: StdArc<Self>) {
        // Only the first wake adds the task to a list. Later wakes rely on the swap in `run`, which
        // sees what their threads wrote before.
        if self.is_ready.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut here = Some(self);
        // A thread that ends has lost this thread-local already.
        let _gone = WOKEN.try_with(|woken| {
            if let Some(woken) = &mut *woken.borrow_mut() {
                woken.take(&mut here);
            }
        });
        if let Some(task) = here {
            StdArc::clone(&task.executor).push([task]);
        }
    }
}

impl Woken {
    fn take(&mut self, woken: &mut Option<StdArc<Task>>) {
        let is_own = |task: &StdArc<Task>| StdArc::ptr_eq(&task.executor, &self.executor);
        if woken.as_ref().is_some_and(is_own) {
            self.own.extend(woken.take());
        } else {
            self.foreign.extend(woken.take());
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut executor = f.debug_struct("Executor");
        executor
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

mod task_set;

#[cfg(all(test, feature = "loom"))]
mod models;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
