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
    places: Mutex<Slab<Source>>,
    /// The number of reports so far; raised under the lock, before any task is woken.
    tellings: AtomicU64,
}

/// The number of reports at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tellings(pub(super) u64);

/// The answer to the question whether a side of a socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The side is closed or broken: each read or write returns at once, with the end or the error.
    Closed,
    /// A report has come since the last question. A reader stays parked and is woken by the next
    /// report.
    Ready(Tellings),
    /// No report has come: the task is parked, and woken by the next report.
    Silent(Tellings),
}

/// The readiness of one socket, and the tasks that wait for it.
#[derive(Debug, Default)]
struct Source {
    read: News,
    write: News,
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
struct News {
    /// A report of readiness has come since the last question.
    is_ready: bool,
    /// The side is closed or broken: each read or write returns at once.
    is_closed: bool,
}

impl Sources {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            places: Mutex::new(Slab::new()),
            tellings: AtomicU64::new(0),
        }
    }

    /// Registers a socket for reports, and returns its key.
    pub(super) fn insert(&self, socket: &mut impl event::Source) -> io::Result<u32> {
        let index = self.places.lock().insert(Source::default());
        let key = u32::try_from(index).expect("there are not as many sockets");
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(socket, Token(index), both);
        registered.map(|()| key).inspect_err(|_| self.remove(key))
    }

    /// Removes a socket that is about to be closed; the close removes it from the system's list.
    ///
    /// A report for the removed socket may be in the buffer of events still. If a new socket gets
    /// the key before the buffer is read, the report is taken for one of the new socket. The new
    /// socket is then read or written in vain once; [`is_open`](Self::is_open) then clears a wrong
    /// `is_closed`.
    pub(super) fn remove(&self, key: u32) {
        let source = self.places.lock().try_remove(key as usize);
        drop(source);
    }

    /// The number of reports so far: as long as it does not change, a silent socket stays silent.
    pub(super) fn tellings(&self) -> Tellings {
        // Acquire pairs with the Release in `tell`: a task that was woken by a report sees a new
        // number.
        Tellings(self.tellings.load(Ordering::Acquire))
    }

    /// Takes the readiness of one side, and parks the task if it is to be woken by the next report.
    pub(super) fn ask(&self, cx: &Context<'_>, key: u32, side: Side) -> Asked {
        let mut places = self.places.lock();
        let tellings = self.tellings();
        let source = of(&mut places, key);
        let news = source.news(side);
        let is_ready = std::mem::take(&mut news.is_ready);
        if news.is_closed {
            return Asked::Closed;
        }
        let replaced = source.park(cx.waker(), side, is_ready);
        drop(places);
        drop(replaced);
        if is_ready {
            Asked::Ready(tellings)
        } else {
            Asked::Silent(tellings)
        }
    }

    /// Notes that a read or write may have left something: the side stays ready.
    pub(super) fn is_still_ready(&self, key: u32, side: Side) {
        of(&mut self.places.lock(), key).news(side).is_ready = true;
    }

    /// Notes that a read or write would block: the side is not closed.
    pub(super) fn is_open(&self, key: u32, side: Side) {
        let mut places = self.places.lock();
        let news = of(&mut places, key).news(side);
        // A report that came since the question is newer than the answer of the socket.
        news.is_closed &= news.is_ready;
    }

    /// Marks this side as closed, whether it is or not.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn say_closed(&self, key: u32, side: Side) {
        of(&mut self.places.lock(), key).news(side).is_closed = true;
    }

    /// Notes reported events, and adds the wakers of tasks that wait for them to `woken`.
    pub(super) fn tell(&self, events: &Events, woken: &mut Vec<Waker>) {
        let mut places = self.places.lock();
        for event in events {
            if let Some(source) = places.get_mut(event.token().0) {
                let [read, write] = told(event);
                for waker in source.tell(read, write) {
                    woken.extend(waker);
                }
            }
        }
        // Release, under the lock and before the wakes: see `tellings`.
        self.tellings.fetch_add(1, Ordering::Release);
    }
}

fn of(places: &mut Slab<Source>, key: u32) -> &mut Source {
    let source = places.get_mut(key as usize);
    source.expect("a socket has its place")
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sources = f.debug_struct("Sources");
        sources
            .field("sockets", &self.places.lock().len())
            .finish_non_exhaustive()
    }
}

/// The readiness in an event, of reads and of writes.
fn told(event: &Event) -> [News; 2] {
    let read = News {
        is_ready: event.is_readable(),
        is_closed: event.is_read_closed() || event.is_error(),
    };
    let write = News {
        is_ready: event.is_writable(),
        is_closed: event.is_write_closed() || event.is_error(),
    };
    [read, write]
}

impl News {
    fn is_any(self) -> bool {
        self.is_ready || self.is_closed
    }

    fn add(&mut self, told: Self) {
        self.is_ready |= told.is_ready;
        self.is_closed |= told.is_closed;
    }
}

impl Source {
    fn news(&mut self, side: Side) -> &mut News {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    /// Notes reported readiness of both sides, and returns the wakers of tasks that wait for it.
    ///
    /// The waker of the reader stays in place, so that a reader need not ask only to be parked
    /// again. The reader is woken once until it asks: further reports tell it nothing new.
    fn tell(&mut self, read: News, write: News) -> [Option<Waker>; 2] {
        let is_told = self.read.is_any();
        self.read.add(read);
        self.write.add(write);
        let reader = self.reader.as_ref();
        let reader = reader.filter(|_| read.is_any() && !is_told).cloned();
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
            sources.places.lock().insert(Source::default());
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
        let mut is_told = false;
        let mut is_closed = false;
        for step in before {
            match *step {
                Ready(told) if told == side => is_told = true,
                Closed(told) if told == side => is_closed = true,
                // The side was ready for this question, or had no readiness to lose.
                Asked(asked) if asked == side => is_told = false,
                Open(asked) if asked == side => is_closed = false,
                Ready(_) | Closed(_) | Asked(_) | Open(_) => {}
            }
        }
        is_told || is_closed
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
            let mut told = [News::default(); 2];
            match *step {
                Ready(side) => told[side as usize].is_ready = true,
                Closed(side) => told[side as usize].is_closed = true,
                Open(side) => of(&mut sources.places.lock(), 0).news(side).is_closed = false,
                Asked(side) => {
                    let cx = Context::from_waker(&tasks[side as usize].1);
                    let asked = sources.ask(&cx, 0, side);
                    let was_silent = matches!(asked, super::Asked::Silent(_));
                    assert_eq!(!was_silent, is_ready(before, side), "{steps:?}");
                    let is_open = !matches!(asked, super::Asked::Closed);
                    // A reader stays parked after it was ready, and is woken again once the
                    // readiness is gone.
                    waits[side as usize] |= was_silent || (side == Read && is_open);
                }
            }
            let woken = of(&mut sources.places.lock(), 0).tell(told[0], told[1]);
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
    fn who_is_not_told_at_once_is_woken_when_there_is_news_and_not_before() {
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
            let closed = News {
                is_ready: false,
                is_closed: true,
            };
            let woken = source.tell(closed, closed);
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
