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
use slab::Slab;

use super::Home;
use super::moment;
use crate::sync::{AtomicBool, Mutex, Ordering, thread_local};

/// Polls in one go before the thread looks for what came in.
const POLLS_MAX: usize = 1024;

/// The tasks of one thread; dropping it drops them.
#[derive(Debug)]
pub(crate) struct Crew {
    shared: StdArc<Shared>,
    /// Those of the present round.
    round: Vec<StdArc<Task>>,
    /// Those that the present round has woken, for the next one; empty between the rounds.
    next: Vec<StdArc<Task>>,
}

/// Spawns tasks into a [`Crew`].
#[derive(Clone, Debug)]
pub(crate) struct Spawner(StdArc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tasks: Slab<StdArc<Task>>,
    ready: Vec<StdArc<Task>>,
    /// What runs the turns, while it sleeps.
    parked: Option<Waker>,
    /// Whether there are no turns any more.
    is_over: bool,
}

struct Task {
    key: usize,
    crew: StdArc<Shared>,
    /// Whether it is among those that are ready, or on its way there.
    is_ready: AtomicBool,
    /// `None` while it is polled, and once it is done.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
}

thread_local! {
    /// The crew of which this thread runs a round, and what that has woken.
    static ROUND: RefCell<Option<Round>> = RefCell::default();
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
            round: Vec::new(),
            next: Vec::new(),
        }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(StdArc::clone(&self.shared))
    }

    /// Runs a turn; the task is woken when there is more to do.
    pub(crate) fn poll_turn(&mut self, cx: &Context<'_>) {
        let mut polls = 0;
        while polls < POLLS_MAX {
            self.shared.take_ready(&mut self.round, cx);
            if self.round.is_empty() {
                return;
            }
            polls += self.round.len();
            self.run_round();
        }
        cx.waker().wake_by_ref();
    }

    /// Polls each of the round once.
    fn run_round(&mut self) {
        let begun = Round {
            crew: StdArc::clone(&self.shared),
            own: std::mem::take(&mut self.next),
            foreign: Vec::new(),
        };
        ROUND.with(|round| round.replace(Some(begun)));
        moment::round();
        for task in self.round.drain(..) {
            task.run();
        }
        if let Some(mut ended) = ROUND.with(RefCell::take) {
            std::mem::swap(&mut self.round, &mut ended.own);
            self.next = ended.own;
            hand_over(ended.foreign);
        }
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
        // Also of those that something else still holds, to wake them.
        for (_, task) in &rest.tasks {
            task.forget();
        }
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
        let vacant = state.tasks.vacant_entry();
        let task = StdArc::new(Task {
            key: vacant.key(),
            crew: StdArc::clone(&self.0),
            is_ready: AtomicBool::new(true),
            future: Mutex::new(Some(future)),
        });
        vacant.insert(StdArc::clone(&task));
        drop(state);
        self.0.push([task]);
    }
}

impl Shared {
    /// Adds those that are ready, or parks the task that runs the turns if there are none at all.
    fn take_ready(&self, into: &mut Vec<StdArc<Task>>, cx: &Context<'_>) {
        let mut state = self.0.lock();
        into.append(&mut state.ready);
        if into.is_empty() {
            let before = state.parked.replace(cx.waker().clone());
            drop(state);
            drop(before);
        }
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

    fn remove(&self, key: usize) {
        let done = self.0.lock().tasks.try_remove(key);
        drop(done);
    }
}

impl Task {
    fn run(self: StdArc<Self>) {
        // Before it is polled: what is woken meanwhile is ready again. A swap, and no store: a wake
        // that found it ready already happens before this poll as well.
        self.is_ready.swap(false, Ordering::SeqCst);
        let Some(mut future) = self.future.lock().take() else {
            return;
        };
        let waker = Waker::from(StdArc::clone(&self));
        let mut cx = Context::from_waker(&waker);
        moment::enter();
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        moment::leave();
        match polled {
            Ok(Poll::Pending) => *self.future.lock() = Some(future),
            // A panic was told by its hook, and is the end of this task only.
            Ok(Poll::Ready(())) | Err(_) => {
                self.crew.remove(self.key);
                drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
            }
        }
    }

    /// Drops the future; whoever wakes the task wakes nothing.
    fn forget(&self) {
        let future = self.future.lock().take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
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

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut task = f.debug_struct("Task");
        task.field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "loom"))]
mod models;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
