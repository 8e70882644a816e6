//! loom models of executors: wakes between threads.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::sync::{AtomicU64, model};

/// An event that a task waits for, in the place of a topic of the bus.
struct Event {
    count: AtomicU64,
    waiter: Mutex<Option<Waker>>,
}

impl Event {
    fn new() -> StdArc<Self> {
        StdArc::new(Self {
            count: AtomicU64::new(0),
            waiter: Mutex::new(None),
        })
    }

    fn raise(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let waiter = self.waiter.lock().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>, count: u64) -> Poll<()> {
        *self.waiter.lock() = Some(cx.waker().clone());
        if self.count.load(Ordering::SeqCst) < count {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// Runs an executor with a single task until the task has ended.
fn run(task: impl Future<Output = ()> + Send + 'static) {
    let mut executor = Executor::new();
    let done = StdArc::new(AtomicU64::new(0));
    let told = StdArc::clone(&done);
    executor.spawner().spawn(Box::pin(async move {
        task.await;
        told.fetch_add(1, Ordering::SeqCst);
    }));
    block_on(poll_fn(|cx| {
        let _is_woken = executor.run_ready(cx);
        match done.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }));
}

/// Two threads, two wakes of one task that was polled once; preemptions unbounded. Catches: a task
/// that is marked as not ready by a store, which misses writes before the second wake.
#[test]
fn a_task_sees_what_was_written_before_each_wake() {
    model(None, || {
        let written = StdArc::new(AtomicU64::new(0));
        let waker = StdArc::new(Mutex::new(None));
        let (seen, bed) = (StdArc::clone(&written), StdArc::clone(&waker));
        let mut executor = Executor::new();
        let done = StdArc::new(AtomicU64::new(0));
        let told = StdArc::clone(&done);
        executor.spawner().spawn(Box::pin(poll_fn(move |cx| {
            bed.lock().get_or_insert_with(|| cx.waker().clone());
            if seen.load(Ordering::Acquire) < 2 {
                return Poll::Pending;
            }
            told.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(())
        })));
        let _is_woken = executor.run_ready(&Context::from_waker(Waker::noop()));
        let waker = waker.lock().clone().expect("it was polled");
        let other = thread::spawn(move || {
            for count in 1..=2 {
                written.store(count, Ordering::Release);
                waker.wake_by_ref();
            }
        });
        block_on(poll_fn(|cx| {
            let _is_woken = executor.run_ready(cx);
            match done.load(Ordering::SeqCst) {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
        other.join().expect("no panic");
    });
}

/// Two threads, two events, at most three preemptions. Catches: an executor that parks after it has
/// unlocked, a task that is marked as not ready only after its poll.
#[test]
fn a_task_that_another_thread_wakes_runs_again() {
    model(Some(3), || {
        let event = Event::new();
        let raised = StdArc::clone(&event);
        let other = thread::spawn(move || {
            raised.raise();
            raised.raise();
        });
        run(async move { poll_fn(|cx| event.poll(cx, 2)).await });
        other.join().expect("it does not panic");
    });
}

/// Two threads, each an executor whose task raises the other's event and waits for its own, at most
/// three preemptions. Catches: a woken task of another executor that a pass does not hand over.
#[test]
fn two_executors_wake_each_other() {
    model(Some(3), || {
        let events = [(); 2].map(|()| Event::new());
        let [mine, yours] = events.clone();
        let other = thread::spawn(move || run(meet(mine, yours)));
        let [yours, mine] = events;
        run(meet(mine, yours));
        other.join().expect("it does not panic");
    });
}

async fn meet(mine: StdArc<Event>, yours: StdArc<Event>) {
    yours.raise();
    poll_fn(|cx| mine.poll(cx, 1)).await;
}

/// Two threads: an executor that ends while another thread wakes its task; any number of
/// preemptions. Catches: a task that stays among the ready ones of an executor that is over.
#[test]
fn an_executor_that_ends_leaves_nothing_behind() {
    model(None, || {
        let event = Event::new();
        let raised = StdArc::clone(&event);
        let mut executor = Executor::new();
        let shared = StdArc::clone(&executor.shared);
        let awaited = StdArc::clone(&event);
        executor.spawner().spawn(Box::pin(async move {
            poll_fn(|cx| awaited.poll(cx, 1)).await;
        }));
        let _is_woken = executor.run_ready(&Context::from_waker(Waker::noop()));
        let other = thread::spawn(move || raised.raise());
        drop(executor);
        other.join().expect("it does not panic");
        let state = shared.0.lock();
        assert!(state.ready.is_empty() && state.spawned.is_empty());
        drop(state);
        assert_eq!(
            StdArc::strong_count(&event),
            1,
            "the task's future is dropped"
        );
    });
}
