//! An executor whose tasks are spawned, woken, panic and end.

use std::future::{pending, poll_fn};
use std::sync::atomic::AtomicUsize;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An executor, and the number of its wakes.
struct World {
    executor: Executor,
    woken: StdArc<Count>,
}

impl World {
    fn new() -> Self {
        Self {
            executor: Executor::new(),
            woken: StdArc::default(),
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawner().spawn(Box::pin(future));
    }

    /// Runs ready tasks; returns whether no task is ready after it.
    fn run(&mut self) -> bool {
        let waker = Waker::from(StdArc::clone(&self.woken));
        let polled = self.executor.run_ready(&Context::from_waker(&waker));
        polled.is_ready()
    }

    fn tasks(&self) -> usize {
        self.executor.tasks.len()
    }
}

/// Makes a task that waits to be woken, and the waker to wake it with.
fn sleeper(polls: &StdArc<Count>) -> (BoxFuture<'static, ()>, StdArc<Mutex<Option<Waker>>>) {
    let bed = StdArc::new(Mutex::new(None));
    let (own, polls) = (StdArc::clone(&bed), StdArc::clone(polls));
    let future = poll_fn(move |cx| {
        polls.0.fetch_add(1, Ordering::SeqCst);
        *own.lock() = Some(cx.waker().clone());
        Poll::Pending
    });
    (Box::pin(future), bed)
}

fn wake(bed: &Mutex<Option<Waker>>) {
    let waker = bed.lock().clone();
    waker.expect("it sleeps").wake();
}

#[test]
fn a_task_spawned_or_woken_by_another_runs_at_once_and_a_task_that_is_done_is_gone() {
    let mut world = World::new();
    let polls = StdArc::<Count>::default();
    let (spawner, counted) = (world.executor.spawner(), StdArc::clone(&polls));
    world.spawn(async move {
        let mut yielded = false;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            match std::mem::replace(&mut yielded, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        spawner.spawn(Box::pin(async move { counted.wake() }));
    });
    world.run();
    assert_eq!((polls.get(), world.tasks()), (1, 0));
    assert_eq!(world.woken.get(), 0, "it was awake");
}

#[test]
fn a_task_that_is_woken_often_runs_once() {
    let mut world = World::new();
    let polls = StdArc::default();
    let (task, bed) = sleeper(&polls);
    world.spawn(task);
    world.run();
    wake(&bed);
    wake(&bed);
    assert_eq!(world.woken.get(), 1);
    world.run();
    assert_eq!((polls.get(), world.tasks()), (2, 1));
}

#[test]
fn a_task_woken_between_runs_and_collected_is_ready_and_wakes_no_thread() {
    let mut world = World::new();
    let polls = StdArc::<Count>::default();
    let beds = [(); 3].map(|()| {
        let (future, bed) = sleeper(&polls);
        world.spawn(future);
        bed
    });
    world.run();
    let woken = world.woken.get();
    for bed in &beds[..2] {
        // Two collections, one after the other: both tasks are ready in the next run.
        world.executor.collect_wakes(|| wake(bed));
    }
    assert_eq!((polls.get(), world.woken.get()), (3, woken));
    world.run();
    assert_eq!(polls.get(), 5);
    wake(&beds[2]);
    assert_eq!(
        world.woken.get(),
        woken + 1,
        "nothing is collected any more"
    );
}

#[test]
fn a_whole_audience_of_another_executor_is_woken_at_once() {
    let (mut here, mut there) = (World::new(), World::new());
    let polls = StdArc::default();
    let beds: Vec<_> = (0..10)
        .map(|_| {
            let (task, bed) = sleeper(&polls);
            there.spawn(task);
            bed
        })
        .collect();
    there.run();
    let seen = StdArc::clone(&there.woken);
    here.spawn(async move {
        beds.iter().for_each(|bed| wake(bed));
        assert_eq!(seen.get(), 0, "not before the end of the pass");
    });
    here.run();
    assert_eq!(there.woken.get(), 1);
    there.run();
    assert_eq!(polls.get(), 20);
}

#[test]
fn run_ready_returns_even_if_a_task_is_always_ready() {
    let mut world = World::new();
    let polls = StdArc::<Count>::default();
    let counted = StdArc::clone(&polls);
    world.spawn(poll_fn(move |cx| {
        counted.0.fetch_add(1, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    world.run();
    assert_eq!((polls.get(), world.woken.get()), (POLLS_MAX, 1));
    world.run();
    assert_eq!((polls.get(), world.woken.get()), (2 * POLLS_MAX, 2));
}

#[test]
fn a_panic_is_the_end_of_its_task_only() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a second panic");
        }
    }
    let mut world = World::new();
    let polls = StdArc::<Count>::default();
    let counted = StdArc::clone(&polls);
    let bomb = Bomb;
    // The future panics when it is polled, and again when it is dropped.
    world.spawn(poll_fn(move |_| {
        let _held = &bomb;
        panic!("on purpose");
    }));
    world.spawn(async move { counted.wake() });
    world.run();
    assert_eq!((polls.get(), world.tasks()), (1, 0));
}

#[test]
fn an_executor_that_ends_drops_its_tasks_and_takes_no_more() {
    let mut world = World::new();
    let polls = StdArc::default();
    let (task, bed) = sleeper(&polls);
    world.spawn(task);
    world.run();
    let held = StdArc::new(());
    let theirs = StdArc::clone(&held);
    world.spawn(async move {
        let _held = theirs;
        pending::<()>().await;
    });
    let spawner = world.executor.spawner();
    drop(world);
    assert_eq!(StdArc::strong_count(&held), 1);
    wake(&bed);
    let theirs = StdArc::clone(&held);
    spawner.spawn(Box::pin(async move { drop(theirs) }));
    assert_eq!((StdArc::strong_count(&held), polls.get()), (1, 1));
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "an executor polls a task that nobody has woken")]
fn a_task_that_is_ready_without_a_wake_trips_its_executor() {
    let mut world = World::new();
    let (sleeper, bed) = sleeper(&StdArc::default());
    world.spawn(sleeper);
    assert!(world.run());
    wake(&bed);
    let state = world.executor.shared.0.lock();
    state.ready[0].is_ready.store(false, Ordering::SeqCst);
    drop(state);
    world.run();
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "an executor is parked, but 1 of its tasks wait to be polled")]
fn a_parked_waker_that_a_wake_leaves_trips_the_executor() {
    let mut world = World::new();
    let (sleeper, bed) = sleeper(&StdArc::default());
    world.spawn(sleeper);
    assert!(world.run());
    let parked = world.executor.shared.0.lock().parked.clone();
    wake(&bed);
    world.executor.shared.0.lock().parked = parked;
    world.run();
}
