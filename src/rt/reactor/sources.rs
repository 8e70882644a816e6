//! The sockets of a reactor: their reported readiness, and the tasks that wait for it.

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::task::{Context, Waker};

use mio::event::{self, Event};
use mio::{Events, Interest, Registry, Token};
use slab::Slab;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// The sockets of one reactor, by their keys.
///
/// Only the thread of the reactor uses its sockets in the normal case, so the lock is free; other
/// threads may use them too.
pub(crate) struct Sources {
    registry: Registry,
    slab: Mutex<Slab<Source>>,
    /// The number of reports so far; raised under the lock, before any task is woken.
    reports: AtomicU64,
}

/// The number of reports at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportCount(pub(super) u64);

/// The answer to the question whether a side of a socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolledReadiness {
    /// The side is closed or broken: each read or write returns at once, with the end or the error.
    Closed,
    /// A report has come since the last question. A reader stays parked and is woken by the next
    /// report.
    Ready(ReportCount),
    /// No report has come: the task is parked, and woken by the next report.
    Pending(ReportCount),
}

/// The readiness of one socket, and the tasks that wait for it.
#[derive(Debug, Default)]
struct Source {
    read: Readiness,
    write: Readiness,
    reader: Option<Waker>,
    /// Boxed, as few sockets are ever full.
    writer: Option<Box<Waker>>,
}

/// The direction for which a socket may be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// The reported readiness of one side of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Readiness {
    /// A report of readiness has come since the last question.
    is_ready: bool,
    /// The side is closed or broken: each read or write returns at once.
    is_closed: bool,
}

impl Sources {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            slab: Mutex::new(Slab::new()),
            reports: AtomicU64::new(0),
        }
    }

    /// Registers a socket for reports, and returns its key.
    pub(super) fn insert(&self, socket: &mut impl event::Source) -> io::Result<u32> {
        let index = self.slab.lock().insert(Source::default());
        let key = u32::try_from(index).expect("there are not as many sockets");
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(socket, Token(index), both);
        registered.map(|()| key).inspect_err(|_| self.remove(key))
    }

    /// Removes a socket that is about to be closed; the close removes it from the system's list.
    ///
    /// A report for the removed socket may be in the buffer of events still. If a new socket gets
    /// the key before the buffer is read, the report is taken for one of the new socket. The new
    /// socket is then read or written in vain once; [`clear_closed`](Self::clear_closed) then
    /// clears a wrong `is_closed`.
    pub(super) fn remove(&self, key: u32) {
        let source = self.slab.lock().try_remove(key as usize);
        drop(source);
    }

    /// The number of reports so far: as long as it does not change, a silent socket stays silent.
    pub(super) fn reports(&self) -> ReportCount {
        // Acquire pairs with the Release in `report`: a task that was woken by a report sees a new
        // number.
        ReportCount(self.reports.load(Ordering::Acquire))
    }

    /// Takes the readiness of one side, and parks the task if it is to be woken by the next report.
    pub(super) fn poll_readiness(&self, cx: &Context<'_>, key: u32, side: Side) -> PolledReadiness {
        let mut slab = self.slab.lock();
        let reports = self.reports();
        let source = of(&mut slab, key);
        let readiness = source.readiness(side);
        let is_ready = std::mem::take(&mut readiness.is_ready);
        if readiness.is_closed {
            return PolledReadiness::Closed;
        }
        let replaced = source.park(cx.waker(), side, is_ready);
        drop(slab);
        drop(replaced);
        if is_ready {
            PolledReadiness::Ready(reports)
        } else {
            PolledReadiness::Pending(reports)
        }
    }

    /// Notes that a read or write may have left something: the side stays ready.
    pub(super) fn set_ready(&self, key: u32, side: Side) {
        of(&mut self.slab.lock(), key).readiness(side).is_ready = true;
    }

    /// Notes that a read or write would block: the side is not closed.
    pub(super) fn clear_closed(&self, key: u32, side: Side) {
        let mut slab = self.slab.lock();
        let readiness = of(&mut slab, key).readiness(side);
        // A report that came since the question is newer than the answer of the socket.
        readiness.is_closed &= readiness.is_ready;
    }

    /// Marks this side as closed, whether it is or not.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn set_closed(&self, key: u32, side: Side) {
        of(&mut self.slab.lock(), key).readiness(side).is_closed = true;
    }

    /// Notes reported events, and adds the wakers of tasks that wait for them to `woken`.
    pub(super) fn report(&self, events: &Events, woken: &mut Vec<Waker>) {
        let mut slab = self.slab.lock();
        for event in events {
            if let Some(source) = slab.get_mut(event.token().0) {
                let [read, write] = readiness_of(event);
                for waker in source.report(read, write) {
                    woken.extend(waker);
                }
            }
        }
        // Release, under the lock and before the wakes: see `reports`.
        self.reports.fetch_add(1, Ordering::Release);
    }
}

fn of(slab: &mut Slab<Source>, key: u32) -> &mut Source {
    let source = slab.get_mut(key as usize);
    source.expect("a socket has its entry")
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sources = f.debug_struct("Sources");
        sources
            .field("sockets", &self.slab.lock().len())
            .finish_non_exhaustive()
    }
}

/// The readiness in an event, of reads and of writes.
fn readiness_of(event: &Event) -> [Readiness; 2] {
    let read = Readiness {
        is_ready: event.is_readable(),
        is_closed: event.is_read_closed() || event.is_error(),
    };
    let write = Readiness {
        is_ready: event.is_writable(),
        is_closed: event.is_write_closed() || event.is_error(),
    };
    [read, write]
}

impl Readiness {
    fn is_any(self) -> bool {
        self.is_ready || self.is_closed
    }

    fn add(&mut self, reported: Self) {
        self.is_ready |= reported.is_ready;
        self.is_closed |= reported.is_closed;
    }
}

impl Source {
    fn readiness(&mut self, side: Side) -> &mut Readiness {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    /// Notes reported readiness of both sides, and returns the wakers of tasks that wait for it.
    ///
    /// The waker of the reader stays in place, so that a reader need not ask only to be parked
    /// again. The reader is woken once until it asks: further reports tell it nothing new.
    fn report(&mut self, read: Readiness, write: Readiness) -> [Option<Waker>; 2] {
        let was_reported = self.read.is_any();
        self.read.add(read);
        self.write.add(write);
        let reader = self.reader.as_ref();
        let reader = reader.filter(|_| read.is_any() && !was_reported).cloned();
        let writer = self.writer.take_if(|_| write.is_any());
        [reader, writer.map(|waker| *waker)]
    }

    /// Parks a task that reads, or that waits until it can write, and returns the waker that was
    /// there, to drop after unlocking.
    fn park(&mut self, task: &Waker, side: Side, is_ready: bool) -> Option<Waker> {
        match side {
            Side::Read => park(&mut self.reader, task, Waker::clone),
            Side::Write if is_ready => None,
            Side::Write => park(&mut self.writer, task, |task| Box::new(task.clone())).map(|w| *w),
        }
    }
}

/// Puts the task's waker in `parked`, unless it is there already, and returns the replaced waker.
fn park<W: Borrow<Waker>>(
    parked: &mut Option<W>,
    task: &Waker,
    own: impl FnOnce(&Waker) -> W,
) -> Option<W> {
    let is_parked = parked
        .as_ref()
        .is_some_and(|parked| parked.borrow().will_wake(task));
    if is_parked {
        None
    } else {
        parked.replace(own(task))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    impl Sources {
        /// Makes sources with one socket that the system does not know.
        fn of_one() -> Self {
            let epoll = mio::Poll::new().expect("there are descriptors");
            let registry = epoll.registry().try_clone().expect("there are descriptors");
            let sources = Self::new(registry);
            sources.slab.lock().insert(Source::default());
            sources
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        /// The system reports this side.
        Ready(Side),
        Closed(Side),
        /// A task asks for this side.
        Asked(Side),
        /// A read or write of this side would have blocked.
        Open(Side),
    }

    use Side::{Read, Write};
    use Step::{Asked, Closed, Open, Ready};

    const STEPS: [Step; 8] = [
        Ready(Read),
        Closed(Read),
        Asked(Read),
        Open(Read),
        Ready(Write),
        Closed(Write),
        Asked(Write),
        Open(Write),
    ];

    /// Whether the side is ready after these steps, computed from the whole list.
    fn is_ready(before: &[Step], side: Side) -> bool {
        let mut was_reported = false;
        let mut is_closed = false;
        for step in before {
            match *step {
                Ready(told) if told == side => was_reported = true,
                Closed(told) if told == side => is_closed = true,
                // The side was ready for this question, or had no readiness to lose.
                Asked(asked) if asked == side => was_reported = false,
                Open(asked) if asked == side => is_closed = false,
                Ready(_) | Closed(_) | Asked(_) | Open(_) => {}
            }
        }
        was_reported || is_closed
    }

    /// Takes the steps, and checks the result of each.
    fn take(steps: &[Step]) {
        let sources = Sources::of_one();
        let tasks = [Wakes::new(), Wakes::new()];
        // Whether the next report wakes the task, for each side.
        let mut waits = [false; 2];
        let mut wakes = [0; 2];
        for (count, step) in steps.iter().enumerate() {
            let before = &steps[..count];
            let mut told = [Readiness::default(); 2];
            match *step {
                Ready(side) => told[side as usize].is_ready = true,
                Closed(side) => told[side as usize].is_closed = true,
                Open(side) => of(&mut sources.slab.lock(), 0).readiness(side).is_closed = false,
                Asked(side) => {
                    let cx = Context::from_waker(&tasks[side as usize].1);
                    let asked = sources.poll_readiness(&cx, 0, side);
                    let was_silent = matches!(asked, PolledReadiness::Pending(_));
                    assert_eq!(!was_silent, is_ready(before, side), "{steps:?}");
                    let is_open = !matches!(asked, PolledReadiness::Closed);
                    // A reader stays parked after it was ready, and is woken again once the
                    // readiness is gone.
                    waits[side as usize] |= was_silent || (side == Read && is_open);
                }
            }
            let woken = of(&mut sources.slab.lock(), 0).report(told[0], told[1]);
            woken.into_iter().flatten().for_each(Waker::wake);
            for side in [Read, Write] {
                let at = side as usize;
                let is_new = side == Write || !is_ready(before, side);
                if told[at].is_any() && is_new && waits[at] {
                    wakes[at] += 1;
                    waits[at] = side == Read;
                }
                assert_eq!(tasks[at].0.count(), wakes[at], "{steps:?}");
            }
        }
    }

    #[test]
    fn a_task_that_finds_no_readiness_is_woken_by_the_next_report_and_not_before() {
        fn go(steps: &mut Vec<Step>) {
            take(steps);
            if steps.len() < 5 {
                for step in STEPS {
                    steps.push(step);
                    go(steps);
                    steps.pop();
                }
            }
        }
        go(&mut Vec::new());
    }

    #[test]
    fn the_task_that_asked_last_is_the_one_that_is_woken() {
        for side in [Read, Write] {
            let mut source = Source::default();
            let tasks = [Wakes::new(), Wakes::new()];
            assert!(source.park(&tasks[0].1, side, false).is_none());
            let before = source.park(&tasks[1].1, side, false);
            assert!(before.is_some_and(|before| before.will_wake(&tasks[0].1)));
            let closed = Readiness {
                is_ready: false,
                is_closed: true,
            };
            let woken = source.report(closed, closed);
            woken.into_iter().flatten().for_each(Waker::wake);
            assert_eq!(tasks.map(|(wakes, _)| wakes.count()), [0, 1]);
        }
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_socket_is_known_by_32_bytes() {
        // An `Option` of a source is as large as an entry of a slab.
        assert_eq!(size_of::<Option<Source>>(), 32);
    }
}
