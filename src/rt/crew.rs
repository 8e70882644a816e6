//! The tasks of one thread, run together: what one thread wakes of another goes there at once.
//!
//! A turn polls every task that is ready, then those that became ready meanwhile, until none is.
//! Between these rounds each other thread gets the tasks of its own that were woken, all together:
//! one wake for a whole audience, however large.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use self::running::Running;
use super::Home;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, thread_local};

/// Polls in one go before the thread looks for what came in.
const POLLS_MAX: usize = 1024;

/// The tasks of one thread; dropping it drops them.
pub(crate) struct Crew {
    shared: StdArc<Shared>,
    /// What its tasks run: nobody else has it, so a poll takes no lock.
    running: Running,
    /// Those of the present round.
    round: Vec<StdArc<Task>>,
    /// Those that the present round has woken, for the next one; empty between the rounds.
    next: Vec<StdArc<Task>>,
}

/// Spawns tasks into a [`Crew`].
#[derive(Clone, Debug)]
pub(crate) struct Spawner(StdArc<Shared>);

struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    spawned: Vec<Spawned>,
    ready: Vec<StdArc<Task>>,
    /// What runs the turns, while it sleeps.
    parked: Option<Waker>,
    /// Whether there are no turns any more.
    is_over: bool,
}

/// What is woken; what it runs is its crew's.
struct Task {
    /// Where its crew keeps what it runs, once that has it; nobody else looks.
    key: AtomicU64,
    crew: StdArc<Shared>,
    /// Whether it is among those that are ready, or on its way there.
    is_ready: AtomicBool,
}

/// A task on its way to its crew.
type Spawned = (StdArc<Task>, BoxFuture<'static, ()>);

thread_local! {
    /// The crew of which this thread runs a round, and what that has woken.
    static ROUND: RefCell<Option<Round>> = const { RefCell::new(None) };

}

struct Round {
    crew: StdArc<Shared>,
    /// Of this crew.
    own: Vec<StdArc<Task>>,
    /// Of others.
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

    /// Gathers what is woken meanwhile for the next turn, without a lock.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn gather<T>(&mut self, wake: impl FnOnce() -> T) -> T {
        self.begin();
        let done = wake();
        self.end();
        done
    }

    /// Runs a turn; if something is still ready at its end, `Pending`, and the task is woken.
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

    /// Polls each task of the round once; returns how many polls that were.
    fn run_round(&mut self) -> usize {
        self.begin();
        let polls = self.round.len();
        for task in self.round.drain(..) {
            run(&mut self.running, task);
        }
        self.end();
        polls
    }

    /// From now on what this thread wakes is gathered.
    fn begin(&mut self) {
        let begun = Round {
            crew: StdArc::clone(&self.shared),
            own: std::mem::take(&mut self.next),
            foreign: Vec::new(),
        };
        ROUND.with(|round| round.replace(Some(begun)));
    }

    /// What was gathered is of the next round.
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

/// Polls a task, if it is not over.
fn run(running: &mut Running, task: StdArc<Task>) {
    // Before it is polled: what is woken meanwhile is ready again. A swap, and no store: a wake
    // that found it ready already happens before this poll as well.
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
        // A panic was told by its hook, and is the end of this task only.
        Ok(Poll::Ready(())) | Err(_) => drop_all(running.remove(key)),
    }
}

/// Drops each, whatever the others do.
fn drop_all(futures: impl IntoIterator<Item = BoxFuture<'static, ()>>) {
    for future in futures {
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
    }
}

/// Gives each crew its tasks, all at once.
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
        let mut state = self.shared.0.lock();
        let rest = std::mem::take(&mut *state);
        state.is_over = true;
        drop(state);
        drop_all(rest.spawned.into_iter().map(|(_, future)| future));
        drop_all(self.running.drain());
    }
}

impl Spawner {
    /// The place where its tasks run.
    pub(crate) fn home(&self) -> Home {
        // As long as it is there, it is the only one there.
        Home(StdArc::as_ptr(&self.0) as usize as u64)
    }

    /// Runs the future in the crew's next round; drops it if there is none any more.
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
    /// Adds those that are ready and takes those that are new, or parks the task that runs the
    /// turns if there are none at all.
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
        if self.is_ready.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut here = Some(self);
        // A thread that ends has no round any more.
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
