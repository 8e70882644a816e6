//! A runtime driven by hand: the test says which task runs next and how far the clock goes.
//!
//! A task is polled only after its waker was used, so a lost wakeup shows as a task that never
//! ends.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use busline::rt::{Clock, Instant, Random, Sleep, Spawn, WorkerId};
use futures::future::BoxFuture;

/// The runtime; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Manual {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    now: Duration,
    tasks: Vec<Task>,
    /// Wakers of sleeps, by when they end and in order of their making.
    timers: BTreeMap<(Duration, u64), Waker>,
    timers_made: u64,
    random: u64,
}

struct Task {
    future: BoxFuture<'static, ()>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Manual {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Polls one of the tasks that are ready, as `choice` says; `false` if none is.
    pub(crate) fn run_one(&self, choice: usize) -> bool {
        let mut state = self.state();
        let ready = |task: &Task| task.woken.0.load(Ordering::SeqCst);
        let count = state.tasks.iter().filter(|task| ready(task)).count();
        if count == 0 {
            return false;
        }
        let mut indices = (0..state.tasks.len()).filter(|n| ready(&state.tasks[*n]));
        let index = indices.nth(choice % count).expect("one of those counted");
        drop(indices);
        // Out of the list while it is polled: it may spawn others.
        let mut task = state.tasks.remove(index);
        drop(state);
        task.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.woken));
        if task
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            let mut state = self.state();
            let index = index.min(state.tasks.len());
            state.tasks.insert(index, task);
        }
        true
    }

    /// Runs until no task is ready.
    pub(crate) fn settle(&self) {
        let mut polls = 0;
        while self.run_one(0) {
            polls += 1;
            assert!(polls < 100_000, "the tasks keep each other awake for ever");
        }
    }

    /// The same in an order of the seed's.
    pub(crate) fn settle_by(&self, seed: u64) {
        let mut state = seed;
        // An odd factor and a shift: which task is next looks random, and repeats.
        let mut choice = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            usize::try_from(mixed >> 40).expect("24 bits")
        };
        let mut polls = 0;
        while self.run_one(choice()) {
            polls += 1;
            assert!(polls < 100_000, "the tasks keep each other awake for ever");
        }
    }

    /// Lets time pass in which nothing runs, as while a task blocks its thread.
    pub(crate) fn block(&self, wait: Duration) {
        let mut state = self.state();
        state.now += wait;
    }

    /// Lets time pass: every sleep that ends within it, in order, with what it sets off.
    pub(crate) fn advance(&self, wait: Duration) {
        let end = self.state().now + wait;
        for fired in 0.. {
            assert!(fired < 100_000, "the timers keep the tasks awake for ever");
            self.settle();
            let mut state = self.state();
            let first = state.timers.first_key_value().map(|(key, _)| *key);
            match first.filter(|(at, _)| *at <= end) {
                Some(key) => {
                    let waker = state.timers.remove(&key);
                    state.now = state.now.max(key.0);
                    drop(state);
                    waker.expect("the first timer").wake();
                }
                None => {
                    state.now = end;
                    return;
                }
            }
        }
    }

    /// Lets time pass in which nothing runs, as when the whole machine sleeps.
    pub(crate) fn pause(&self, wait: Duration) {
        self.state().now += wait;
    }

    /// Drops every task, and those that the dropping spawns, as a runtime does that shuts down.
    pub(crate) fn shut_down(&self) {
        loop {
            let tasks = std::mem::take(&mut self.state().tasks);
            if tasks.is_empty() {
                return;
            }
            drop(tasks);
        }
    }

    /// Tasks that have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.state().tasks.len()
    }

    /// Sleeps that have not ended.
    pub(crate) fn timers(&self) -> usize {
        self.state().timers.len()
    }
}

impl Clock for Manual {
    fn now(&self) -> Instant {
        Instant::from_start(self.state().now)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.state().now
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Box::pin(Sleeping {
            rt: self.clone(),
            at: at.since_start(),
            key: None,
        })
    }
}

impl Spawn for Manual {
    fn worker(&self) -> Option<WorkerId> {
        // All of a run is one thread.
        Some(WorkerId(0))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.state().tasks.push(Task { future, woken });
    }
}

impl Random for Manual {
    fn random(&self) -> u64 {
        let mut state = self.state();
        state.random += 1;
        // An odd factor and a shift: neighbours are far apart, high bits and low.
        let mixed = state.random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

struct Sleeping {
    rt: Manual,
    at: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let rt = self.rt.clone();
        let mut state = rt.state();
        if let Some(key) = self.key.take() {
            state.timers.remove(&key);
        }
        if state.now >= self.at {
            return Poll::Ready(());
        }
        state.timers_made += 1;
        let key = (self.at, state.timers_made);
        state.timers.insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.rt.state().timers.remove(&key);
            drop(waker);
        }
    }
}
