//! A runtime in which the seed draws which of the ready tasks is run next.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use busline::rt::{Clock, Instant, Random, Sleep, Spawn, WorkerId};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::rt::{panic_text, wall_at};
use crate::shared::Shared;

/// In which order ready tasks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First come, first served, as in production.
    Fifo,
    /// The last that became ready.
    Lifo,
    /// The one of the highest priority; priorities are drawn, and now and then the one that ran
    /// sinks below all others.
    Priorities,
    /// Any.
    Random,
}

/// The runtime; clones are the same.
#[derive(Clone)]
pub(crate) struct Executor {
    state: Shared<State>,
    ready: Shared<Vec<Number>>,
}

/// The number of a task, in order of their spawning.
pub(crate) type Number = u64;

struct State {
    now: Duration,
    order: Order,
    rng: Rng,
    spawned: Number,
    tasks: BTreeMap<Number, Task>,
    /// Tasks of the world around the product.
    foreign: BTreeSet<Number>,
    running: Option<Number>,
    /// Wakers of sleeps, by when they end and in order of their making.
    timers: BTreeMap<(Duration, u64), Waker>,
    timers_made: u64,
    panics: Vec<String>,
}

struct Task {
    /// `None` while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    woken: Arc<Woken>,
    priority: u64,
}

struct Woken {
    number: Number,
    is_ready: AtomicBool,
    ready: Shared<Vec<Number>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.with(|ready| ready.push(self.number));
        }
    }
}

impl Executor {
    pub(crate) fn new(seed: u64, order: Order) -> Self {
        Self {
            state: Shared::new(State {
                now: Duration::ZERO,
                order,
                rng: Rng::keyed(seed, "executor", 0),
                spawned: 0,
                tasks: BTreeMap::new(),
                foreign: BTreeSet::new(),
                running: None,
                timers: BTreeMap::new(),
                timers_made: 0,
                panics: Vec::new(),
            }),
            ready: Shared::default(),
        }
    }

    /// Spawns a task that is no part of the product.
    pub(crate) fn spawn_foreign(&self, future: BoxFuture<'static, ()>) {
        let number = self.add(future);
        self.state.with(|state| state.foreign.insert(number));
    }

    /// Spawns a task of the product and returns its number.
    pub(crate) fn add(&self, future: BoxFuture<'static, ()>) -> Number {
        let woken = self.state.with(|state| {
            state.spawned += 1;
            let woken = Arc::new(Woken {
                number: state.spawned,
                is_ready: AtomicBool::new(false),
                ready: self.ready.clone(),
            });
            let task = Task {
                future: Some(future),
                woken: Arc::clone(&woken),
                priority: state.rng.random() | 1 << 63,
            };
            state.tasks.insert(state.spawned, task);
            woken
        });
        let number = woken.number;
        woken.wake();
        number
    }

    /// Polls one of the tasks that are ready; `false` if none is.
    pub(crate) fn run_one(&self) -> bool {
        let Some(number) = self.draw() else {
            return false;
        };
        let taken = self.state.with(|state| {
            state.running = Some(number);
            let task = state.tasks.get_mut(&number)?;
            task.woken.is_ready.store(false, Ordering::Relaxed);
            Some((task.future.take()?, Waker::from(Arc::clone(&task.woken))))
        });
        let Some((mut future, waker)) = taken else {
            return true;
        };
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        let ended = match polled {
            Ok(Poll::Pending) => self.state.with(|state| {
                // A task that was dropped while it ran is not there any more.
                let task = state.tasks.get_mut(&number);
                let future = Some(future);
                match task {
                    Some(task) => {
                        task.future = future;
                        None
                    }
                    None => future,
                }
            }),
            Ok(Poll::Ready(())) => self.end(number, Some(future)),
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                self.state.with(|state| state.panics.push(text));
                self.end(number, Some(future))
            }
        };
        self.discard(ended);
        self.state.with(|state| state.running = None);
        true
    }

    /// Drops a task as a runtime does that shuts down.
    pub(crate) fn kill(&self, number: Number) {
        let future = self.end(number, None);
        self.discard(future);
    }

    fn end(
        &self,
        number: Number,
        future: Option<BoxFuture<'static, ()>>,
    ) -> Option<BoxFuture<'static, ()>> {
        let task = self.state.with(|state| {
            state.foreign.remove(&number);
            state.tasks.remove(&number)
        });
        future.or_else(|| task?.future)
    }

    /// Drops a future, which runs code of the product.
    fn discard(&self, future: Option<BoxFuture<'static, ()>>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            let text = panic_text(panic.as_ref());
            self.state.with(|state| state.panics.push(text));
        }
    }

    /// Takes the next task out of those that are ready.
    fn draw(&self) -> Option<Number> {
        let ready = self.ready.with(std::mem::take);
        let (chosen, mut rest) = self.state.with(|state| state.choose(ready))?;
        // What became ready meanwhile, if anything, comes last.
        self.ready.with(|ready| {
            rest.append(ready);
            *ready = rest;
        });
        Some(chosen)
    }

    /// The earliest instant of a timer.
    pub(crate) fn next_timer(&self) -> Option<Duration> {
        self.state.with(|state| {
            let first = state.timers.first_key_value();
            first.map(|((at, _), _)| *at)
        })
    }

    /// Sets the clock; timers whose time has come are made ready in their order.
    pub(crate) fn set_now(&self, now: Duration) {
        let due = self.state.with(|state| {
            state.now = state.now.max(now);
            let later = state.timers.split_off(&(state.now, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        });
        due.into_values().for_each(Waker::wake);
    }

    pub(crate) fn time(&self) -> Duration {
        self.state.with(|state| state.now)
    }

    /// The task that is polled now.
    pub(crate) fn running(&self) -> Option<Number> {
        self.state.with(|state| state.running)
    }

    /// Tasks of the product that have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.state
            .with(|state| state.tasks.len() - state.foreign.len())
    }

    /// Sleeps that have not ended.
    pub(crate) fn timers(&self) -> usize {
        self.state.with(|state| state.timers.len())
    }

    /// Drops all tasks, as at the end of a process.
    pub(crate) fn clear(&self) {
        let tasks = self.state.with(|state| std::mem::take(&mut state.tasks));
        drop(tasks);
    }

    /// What tasks have panicked with since the last call.
    pub(crate) fn panics(&self) -> Vec<String> {
        self.state.with(|state| std::mem::take(&mut state.panics))
    }
}

impl State {
    fn choose(&mut self, mut ready: Vec<Number>) -> Option<(Number, Vec<Number>)> {
        ready.retain(|number| self.tasks.contains_key(number));
        let last = ready.len().checked_sub(1)?;
        let index = match self.order {
            Order::Fifo => 0,
            Order::Lifo => last,
            Order::Priorities => {
                let priority = |index: &usize| self.tasks[&ready[*index]].priority;
                (0..=last).max_by_key(priority)?
            }
            Order::Random => self.rng.within(0..=last as u64) as usize,
        };
        let chosen = ready.remove(index);
        if self.order == Order::Priorities && self.rng.chance(1, 16) {
            let lower = self.rng.random() >> 1;
            if let Some(task) = self.tasks.get_mut(&chosen) {
                task.priority = lower;
            }
        }
        Some((chosen, ready))
    }
}

impl Clock for Executor {
    fn now(&self) -> Instant {
        Instant::from_start(self.time())
    }

    fn wall(&self) -> SystemTime {
        wall_at(self.time())
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Box::pin(Sleeping {
            rt: self.clone(),
            at: at.since_start(),
            key: None,
        })
    }
}

impl Spawn for Executor {
    fn worker(&self) -> Option<WorkerId> {
        // All of a run is one thread.
        Some(WorkerId(0))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.add(future);
    }
}

impl Random for Executor {
    fn random(&self) -> u64 {
        self.state.with(|state| state.rng.random())
    }
}

struct Sleeping {
    rt: Executor,
    at: Duration,
    key: Option<(Duration, u64)>,
}

impl Sleeping {
    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.rt.state.with(|state| state.timers.remove(&key));
            drop(waker);
        }
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        let at = self.at;
        let key = self.rt.state.with(|state| {
            if state.now >= at {
                return None;
            }
            state.timers_made += 1;
            let key = (at, state.timers_made);
            state.timers.insert(key, cx.waker().clone());
            Some(key)
        });
        self.key = key;
        key.map_or(Poll::Ready(()), |_| Poll::Pending)
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The order in which three tasks run that each yield twice.
    fn interleaving(seed: u64, order: Order) -> Vec<usize> {
        let rt = Executor::new(seed, order);
        let ran = Shared::<Vec<usize>>::default();
        for task in 0..3 {
            let ran = ran.clone();
            let mut left = 3;
            let future = std::future::poll_fn(move |cx| {
                ran.with(|ran| ran.push(task));
                left -= 1;
                if left == 0 {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            rt.spawn(future.boxed());
        }
        while rt.run_one() {}
        assert_eq!(rt.tasks(), 0);
        ran.with(std::mem::take)
    }

    #[test]
    fn a_seed_is_one_interleaving_and_many_seeds_are_many() {
        let count = |order| {
            let all: BTreeSet<_> = (0..300).map(|seed| interleaving(seed, order)).collect();
            all.len()
        };
        assert_eq!(
            interleaving(7, Order::Random),
            interleaving(7, Order::Random)
        );
        assert_eq!((count(Order::Fifo), count(Order::Lifo)), (1, 1));
        let (random, priorities) = (count(Order::Random), count(Order::Priorities));
        assert!(random > 200 && priorities > 20, "{random} {priorities}");
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_instants_and_a_dropped_one_leaves_nothing() {
        let rt = Executor::new(1, Order::Fifo);
        let ended = Shared::<Vec<u64>>::default();
        for at in [30, 10, 20] {
            let (ended, sleep) = (ended.clone(), rt.sleep_until(instant(at)));
            let task = sleep.map(move |()| ended.with(|ended| ended.push(at)));
            rt.spawn(task.boxed());
        }
        let mut dropped = rt.sleep_until(instant(5));
        let waker = Waker::noop();
        assert!(
            dropped
                .as_mut()
                .poll(&mut Context::from_waker(waker))
                .is_pending()
        );
        drop(dropped);
        while rt.run_one() {}
        assert_eq!(
            (rt.timers(), rt.next_timer()),
            (3, Some(Duration::from_millis(10)))
        );
        rt.set_now(Duration::from_millis(25));
        while rt.run_one() {}
        assert_eq!(ended.with(|ended| ended.clone()), [10, 20]);
        assert_eq!((rt.timers(), rt.tasks()), (1, 1));
    }

    #[test]
    fn a_task_that_panics_is_told_and_gone() {
        let rt = Executor::new(1, Order::Fifo);
        let task = async { std::panic::resume_unwind(Box::new("planted")) };
        rt.spawn(task.boxed());
        while rt.run_one() {}
        assert_eq!((rt.tasks(), rt.panics()), (0, vec!["planted".to_owned()]));
    }

    fn instant(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }
}
