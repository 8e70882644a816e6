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
mod models {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::sync::{AtomicU64, model};

    /// Something that one task waits for, as a topic of the bus is.
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

    /// Runs a crew of this one task until it is done.
    fn run(task: impl Future<Output = ()> + Send + 'static) {
        let mut crew = Crew::new();
        let done = StdArc::new(AtomicU64::new(0));
        let told = StdArc::clone(&done);
        crew.spawner().spawn(Box::pin(async move {
            task.await;
            told.fetch_add(1, Ordering::SeqCst);
        }));
        block_on(poll_fn(|cx| {
            crew.poll_turn(cx);
            match done.load(Ordering::SeqCst) {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
    }

    /// Two threads, two wakes of one task that was polled once; preemptions unbounded. Catches: a
    /// task that is marked as not ready by a store, which misses what came before the second wake.
    #[test]
    fn a_task_sees_what_was_written_before_each_wake() {
        model(None, || {
            let written = StdArc::new(AtomicU64::new(0));
            let waker = StdArc::new(Mutex::new(None));
            let (seen, bed) = (StdArc::clone(&written), StdArc::clone(&waker));
            let mut crew = Crew::new();
            let done = StdArc::new(AtomicU64::new(0));
            let told = StdArc::clone(&done);
            crew.spawner().spawn(Box::pin(poll_fn(move |cx| {
                bed.lock().get_or_insert_with(|| cx.waker().clone());
                if seen.load(Ordering::Acquire) < 2 {
                    return Poll::Pending;
                }
                told.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(())
            })));
            crew.poll_turn(&Context::from_waker(Waker::noop()));
            let waker = waker.lock().clone().expect("it was polled");
            let other = thread::spawn(move || {
                for count in 1..=2 {
                    written.store(count, Ordering::Release);
                    waker.wake_by_ref();
                }
            });
            block_on(poll_fn(|cx| {
                crew.poll_turn(cx);
                match done.load(Ordering::SeqCst) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
            other.join().expect("no panic");
        });
    }

    /// Two threads, two events, at most three preemptions. Catches: a crew that parks after it has
    /// unlocked, a task that is marked as not ready only after it was polled.
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

    /// Two threads, each a crew whose task raises the other's event and waits for its own, at most
    /// three preemptions. Catches: what a round has woken of another crew is not handed over.
    #[test]
    fn two_crews_wake_each_other() {
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

    /// Two threads: a crew that ends while another thread wakes its task; any number of
    /// preemptions. Catches: a task that stays among the ready ones of a crew that is over.
    #[test]
    fn a_crew_that_ends_leaves_nothing_behind() {
        model(None, || {
            let event = Event::new();
            let raised = StdArc::clone(&event);
            let mut crew = Crew::new();
            let shared = StdArc::clone(&crew.shared);
            let awaited = StdArc::clone(&event);
            crew.spawner().spawn(Box::pin(async move {
                poll_fn(|cx| awaited.poll(cx, 1)).await;
            }));
            crew.poll_turn(&Context::from_waker(Waker::noop()));
            let other = thread::spawn(move || raised.raise());
            drop(crew);
            other.join().expect("it does not panic");
            let state = shared.0.lock();
            assert!(state.ready.is_empty() && state.tasks.is_empty());
            drop(state);
            assert_eq!(
                StdArc::strong_count(&event),
                1,
                "the task's future is dropped"
            );
        });
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
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

    /// A crew, and how often it was woken.
    struct World {
        crew: Crew,
        woken: StdArc<Count>,
    }

    impl World {
        fn new() -> Self {
            Self {
                crew: Crew::new(),
                woken: StdArc::default(),
            }
        }

        fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
            self.crew.spawner().spawn(Box::pin(future));
        }

        fn turn(&mut self) {
            let waker = Waker::from(StdArc::clone(&self.woken));
            self.crew.poll_turn(&Context::from_waker(&waker));
        }

        fn tasks(&self) -> usize {
            self.crew.shared.0.lock().tasks.len()
        }
    }

    /// A task that waits to be woken, and what wakes it.
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
    fn what_is_spawned_and_woken_in_a_turn_runs_in_it_and_a_task_that_is_done_is_gone() {
        let mut world = World::new();
        let polls = StdArc::<Count>::default();
        let (spawner, counted) = (world.crew.spawner(), StdArc::clone(&polls));
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
        world.turn();
        assert_eq!((polls.get(), world.tasks()), (1, 0));
        assert_eq!(world.woken.get(), 0, "it was awake");
    }

    #[test]
    fn a_task_that_is_woken_often_runs_once() {
        let mut world = World::new();
        let polls = StdArc::default();
        let (task, bed) = sleeper(&polls);
        world.spawn(task);
        world.turn();
        wake(&bed);
        wake(&bed);
        assert_eq!(world.woken.get(), 1);
        world.turn();
        assert_eq!((polls.get(), world.tasks()), (2, 1));
    }

    #[test]
    fn a_whole_audience_of_another_crew_is_woken_at_once() {
        let (mut here, mut there) = (World::new(), World::new());
        let polls = StdArc::default();
        let beds: Vec<_> = (0..10)
            .map(|_| {
                let (task, bed) = sleeper(&polls);
                there.spawn(task);
                bed
            })
            .collect();
        there.turn();
        let seen = StdArc::clone(&there.woken);
        here.spawn(async move {
            beds.iter().for_each(|bed| wake(bed));
            assert_eq!(seen.get(), 0, "not before the end of the round");
        });
        here.turn();
        assert_eq!(there.woken.get(), 1);
        there.turn();
        assert_eq!(polls.get(), 20);
    }

    #[test]
    fn a_turn_ends_even_if_a_task_is_always_ready() {
        let mut world = World::new();
        let polls = StdArc::<Count>::default();
        let counted = StdArc::clone(&polls);
        world.spawn(poll_fn(move |cx| {
            counted.0.fetch_add(1, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        world.turn();
        assert_eq!((polls.get(), world.woken.get()), (POLLS_MAX, 1));
        world.turn();
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
        // Panics when it is polled, and again when what it holds is dropped.
        world.spawn(poll_fn(move |_| {
            let _held = &bomb;
            panic!("on purpose");
        }));
        world.spawn(async move { counted.wake() });
        world.turn();
        assert_eq!((polls.get(), world.tasks()), (1, 0));
    }

    #[test]
    fn a_crew_that_ends_drops_its_tasks_and_takes_no_more() {
        let mut world = World::new();
        let polls = StdArc::default();
        let (task, bed) = sleeper(&polls);
        world.spawn(task);
        world.turn();
        let held = StdArc::new(());
        let theirs = StdArc::clone(&held);
        world.spawn(async move {
            let _held = theirs;
            pending::<()>().await;
        });
        let spawner = world.crew.spawner();
        drop(world);
        assert_eq!(StdArc::strong_count(&held), 1);
        wake(&bed);
        let theirs = StdArc::clone(&held);
        spawner.spawn(Box::pin(async move { drop(theirs) }));
        assert_eq!((StdArc::strong_count(&held), polls.get()), (1, 1));
    }

    #[test]
    fn a_moment_has_a_few_polls_of_one_round_and_what_is_no_task_has_none() {
        let mut world = World::new();
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..2 * moment::POLLS + 1 {
            let tell = tell.clone();
            let mut left = 2;
            world.spawn(poll_fn(move |cx| {
                tell.send(moment::present()).expect("somebody listens");
                cx.waker().wake_by_ref();
                left -= 1;
                match left {
                    0 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            }));
        }
        world.spawn(async { panic!("on purpose") });
        drop(tell);
        world.turn();
        assert_eq!(moment::present(), None);
        let told: Vec<_> = told
            .iter()
            .map(|moment| moment.expect("a task runs"))
            .collect();
        let moments: Vec<_> = told.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
        let full = moment::POLLS as usize;
        assert_eq!(moments, [full, full, 1, full, full, 1], "two rounds");
        assert!(told.is_sorted());
    }
}
