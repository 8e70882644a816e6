//! A local executor: the tasks of one thread, which run together.
//!
//! A turn polls every ready task, then the tasks that became ready meanwhile, until no task is
//! ready. At the end of each of these rounds, the woken tasks of other threads are handed over, all
//! tasks of a thread at once: one wake of the thread for any number of tasks.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use self::running::Running;
use super::Home;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, thread_local};

/// The number of polls after which a turn ends, so that the thread can look for new events.
const POLLS_MAX: usize = 1024;

/// The tasks of one thread; dropping the crew drops its tasks.
pub(crate) struct Crew {
    shared: StdArc<Shared>,
    /// The futures of the tasks. No other thread has access, so a poll takes no lock.
    running: Running,
    /// The tasks of the present round.
    round: Vec<StdArc<Task>>,
    /// The tasks that the present round has woken, for the next round; empty between rounds.
    next: Vec<StdArc<Task>>,
}

/// Spawns tasks into a [`Crew`], from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Spawner(StdArc<Shared>);

struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    spawned: Vec<Spawned>,
    ready: Vec<StdArc<Task>>,
    /// The waker of the task that polls the turns, while that is parked.
    parked: Option<Waker>,
    /// Whether the crew was dropped.
    is_over: bool,
}

/// The shared half of a task, which wakers refer to; its future belongs to the crew alone.
struct Task {
    /// The key of the future in `Running`, set when the crew takes the task. Only the crew's thread
    /// reads and writes it.
    key: AtomicU64,
    crew: StdArc<Shared>,
    /// Whether the task is in a list of ready tasks, or on its way there.
    is_ready: AtomicBool,
}

/// A new task with its future, on the way to its crew.
type Spawned = (StdArc<Task>, BoxFuture<'static, ()>);

thread_local! {
    /// The tasks woken by the round that runs on this thread, while one runs.
    static ROUND: RefCell<Option<Round>> = const { RefCell::new(None) };

}

struct Round {
    crew: StdArc<Shared>,
    /// Woken tasks of this crew.
    own: Vec<StdArc<Task>>,
    /// Woken tasks of other crews.
    foreign: Vec<StdArc<Task>>,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self {
            shared: StdArc::new(Shared(Mutex::new(State::default()))),
            running: Running::default(),
            round: Vec::new(),
            next: Vec::new(),
        }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(StdArc::clone(&self.shared))
    }

    /// Runs `wake` and collects the tasks that it wakes for the next turn, without a lock.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn gather<T>(&mut self, wake: impl FnOnce() -> T) -> T {
        self.begin();
        let done = wake();
        self.end();
        done
    }

    /// Runs a turn. Returns `Pending`, and wakes the task, if some tasks are still ready at the
    /// end.
    pub(crate) fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut polls = 0;
        while polls < POLLS_MAX {
            let spawned = self.shared.take_ready(&mut self.round, cx);
            for (task, future) in spawned {
                task.key
                    .store(self.running.insert(future), Ordering::Relaxed);
                self.round.push(task);
            }
            if self.round.is_empty() {
                return Poll::Ready(());
            }
            polls += self.run_round();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls each task of the round once; returns the number of polls.
    fn run_round(&mut self) -> usize {
        self.begin();
        let polls = self.round.len();
        for task in self.round.drain(..) {
            run(&mut self.running, task);
        }
        self.end();
        polls
    }

    /// Begins to collect the tasks that this thread wakes.
    fn begin(&mut self) {
        let begun = Round {
            crew: StdArc::clone(&self.shared),
            own: std::mem::take(&mut self.next),
            foreign: Vec::new(),
        };
        ROUND.with(|round| round.replace(Some(begun)));
    }

    /// Ends the collection: own tasks go to the next round, other tasks to their crews.
    fn end(&mut self) {
        if let Some(mut ended) = ROUND.with(RefCell::take) {
            if self.round.is_empty() {
                std::mem::swap(&mut self.round, &mut ended.own);
            } else {
                self.round.append(&mut ended.own);
            }
            self.next = ended.own;
            hand_over(ended.foreign);
        }
    }
}

/// Polls a task, unless it has ended.
fn run(running: &mut Running, task: StdArc<Task>) {
    // Cleared before the poll, so that a wake during the poll makes the task ready again. A swap
    // and not a store: a waker that found `is_ready` set adds no second poll, so this poll must see
    // all that the waker's thread wrote before. Only a read of the flag synchronizes with that
    // thread.
    task.is_ready.swap(false, Ordering::SeqCst);
    let key = task.key.load(Ordering::Relaxed);
    let Some(future) = running.get_mut(key) else {
        return;
    };
    let waker = Waker::from(task);
    let mut cx = Context::from_waker(&waker);
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
    match polled {
        Ok(Poll::Pending) => {}
        // The panic hook has reported the panic; it ends this task only.
        Ok(Poll::Ready(())) | Err(_) => drop_all(running.remove(key)),
    }
}

/// Drops futures; a panic of one does not keep the others.
fn drop_all(futures: impl IntoIterator<Item = BoxFuture<'static, ()>>) {
    for future in futures {
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
    }
}

/// Gives each crew its woken tasks, all tasks of a crew at once.
fn hand_over(mut woken: Vec<StdArc<Task>>) {
    while let Some(first) = woken.first() {
        let crew = StdArc::clone(&first.crew);
        let is_its = |task: &StdArc<Task>| StdArc::ptr_eq(&task.crew, &crew);
        let (its, others) = woken.into_iter().partition::<Vec<_>, _>(is_its);
        crew.push(its);
        woken = others;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // `is_over` is set under the lock: a spawn or wake comes before and is taken out here, or
        // sees the flag and drops its tasks. Futures are dropped after unlocking, as they may wake
        // tasks.
        let mut state = self.shared.0.lock();
        let rest = std::mem::take(&mut *state);
        state.is_over = true;
        drop(state);
        drop_all(rest.spawned.into_iter().map(|(_, future)| future));
        drop_all(self.running.drain());
    }
}

impl Spawner {
    /// The number of the crew as a home of tasks.
    pub(crate) fn home(&self) -> Home {
        // An address is unique while the crew exists.
        Home(StdArc::as_ptr(&self.0) as usize as u64)
    }

    /// Runs the future from the crew's next round on; drops it if the crew was dropped.
    pub(crate) fn spawn(&self, future: BoxFuture<'static, ()>) {
        let mut state = self.0.0.lock();
        if state.is_over {
            drop(state);
            return;
        }
        let task = StdArc::new(Task {
            key: AtomicU64::new(0),
            crew: StdArc::clone(&self.0),
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

impl Shared {
    /// Takes ready tasks and returns new tasks. If there are neither, parks the task that polls the
    /// turns, under the lock that `push` takes: no wake is lost in between.
    fn take_ready(&self, into: &mut Vec<StdArc<Task>>, cx: &Context<'_>) -> Vec<Spawned> {
        let mut state = self.0.lock();
        into.append(&mut state.ready);
        let spawned = std::mem::take(&mut state.spawned);
        if into.is_empty() && spawned.is_empty() {
            let before = state.parked.replace(cx.waker().clone());
            drop(state);
            drop(before);
        }
        spawned
    }

    /// Adds ready tasks and wakes the thread of the crew, or drops the tasks if the crew was
    /// dropped.
    fn push(&self, tasks: impl IntoIterator<Item = StdArc<Task>>) {
        let mut state = self.0.lock();
        if state.is_over {
            drop(state);
            return;
        }
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
        // A thread that ends has lost its round already.
        let _gone = ROUND.try_with(|round| {
            if let Some(round) = &mut *round.borrow_mut() {
                round.take(&mut here);
            }
        });
        if let Some(task) = here {
            StdArc::clone(&task.crew).push([task]);
        }
    }
}

impl Round {
    fn take(&mut self, woken: &mut Option<StdArc<Task>>) {
        let is_own = |task: &StdArc<Task>| StdArc::ptr_eq(&task.crew, &self.crew);
        if woken.as_ref().is_some_and(is_own) {
            self.own.extend(woken.take());
        } else {
            self.foreign.extend(woken.take());
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut crew = f.debug_struct("Crew");
        crew.field("tasks", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

mod running;

#[cfg(all(test, feature = "loom"))]
mod models;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
