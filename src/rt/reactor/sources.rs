//! What is known of the sockets of a reactor, and who waits for them.

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
/// They are of the thread of that reactor, so that the lock is free; another one may use them too.
pub(crate) struct Sources {
    registry: Registry,
    places: Mutex<Slab<Source>>,
    /// How often something was told; written under the lock, before anybody is woken.
    tellings: AtomicU64,
}

/// How often something had been told of any socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tellings(pub(super) u64);

/// What a side of a socket is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// There is an error or the end, which it tells whenever it is asked.
    Closed,
    /// It was told of since it was last asked; a reader is woken once it is told of again.
    Ready(Tellings),
    /// It was not: the task is woken once it is.
    Silent(Tellings),
}

/// One socket.
#[derive(Debug, Default)]
struct Source {
    read: News,
    write: News,
    reader: Option<Waker>,
    /// Few sockets are ever full.
    writer: Option<Box<Waker>>,
}

/// What a socket is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// What is told of one side of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    /// It is ready, and has not been asked since.
    is_ready: bool,
    /// There is an error or the end, which it tells whenever it is asked.
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

    /// Has the socket told of, under this key.
    pub(super) fn insert(&self, socket: &mut impl event::Source) -> io::Result<u32> {
        let index = self.places.lock().insert(Source::default());
        let key = u32::try_from(index).expect("there are not as many sockets");
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(socket, Token(index), both);
        registered.map(|()| key).inspect_err(|_| self.remove(key))
    }

    /// Forgets a socket that is about to be closed, by which the system forgets it.
    ///
    /// What was told of it and not taken in yet is told of the next one with this key: that is
    /// asked then, and is not ready.
    pub(super) fn remove(&self, key: u32) {
        let source = self.places.lock().try_remove(key as usize);
        drop(source);
    }

    /// How often something was told of any socket: as long as that is the same, a socket that was
    /// silent is.
    pub(super) fn tellings(&self) -> Tellings {
        Tellings(self.tellings.load(Ordering::Acquire))
    }

    /// What this side of a socket is known to be.
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

    /// It has not given, or taken, as much as it could.
    pub(super) fn is_still_ready(&self, key: u32, side: Side) {
        of(&mut self.places.lock(), key).news(side).is_ready = true;
    }

    /// It was asked, and was not ready, so that it is not closed either.
    pub(super) fn is_open(&self, key: u32, side: Side) {
        let mut places = self.places.lock();
        let news = of(&mut places, key).news(side);
        // What is told meanwhile is newer.
        news.is_closed &= news.is_ready;
    }

    /// Takes in that this side is closed, whether it is or not.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn say_closed(&self, key: u32, side: Side) {
        of(&mut self.places.lock(), key).news(side).is_closed = true;
    }

    /// Takes in what is told, and adds those who wait for it, to be woken.
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

/// What an event says of reads and of writes.
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

    /// Takes in what is told of both sides; who waits for that.
    ///
    /// The reader stays, and is told again once it has asked: it need not ask only to be told.
    fn tell(&mut self, read: News, write: News) -> [Option<Waker>; 2] {
        let is_told = self.read.is_any();
        self.read.add(read);
        self.write.add(write);
        let reader = self.reader.as_ref();
        let reader = reader.filter(|_| read.is_any() && !is_told).cloned();
        let writer = self.writer.take_if(|_| write.is_any());
        [reader, writer.map(|waker| *waker)]
    }

    /// Parks a task that reads, or that has nothing to write to, and returns the waker that it
    /// replaces, to drop after unlocking.
    fn park(&mut self, task: &Waker, side: Side, is_ready: bool) -> Option<Waker> {
        match side {
            Side::Read => park(&mut self.reader, task, Waker::clone),
            Side::Write if is_ready => None,
            Side::Write => park(&mut self.writer, task, |task| Box::new(task.clone())).map(|w| *w),
        }
    }
}

/// Parks the task, unless it is parked already, and returns the one that it replaces.
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
        /// With a place for one socket, of which nobody tells.
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
        /// It is told of.
        Ready(Side),
        Closed(Side),
        /// It is asked for its news.
        Asked(Side),
        /// It was asked itself, and was not ready.
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

    /// Whether it is ready after these steps, as one sees who knows all of them.
    fn is_ready(before: &[Step], side: Side) -> bool {
        let mut is_told = false;
        let mut is_closed = false;
        for step in before {
            match *step {
                Ready(told) if told == side => is_told = true,
                Closed(told) if told == side => is_closed = true,
                // It was ready for this one, or had nothing to lose.
                Asked(asked) if asked == side => is_told = false,
                Open(asked) if asked == side => is_closed = false,
                Ready(_) | Closed(_) | Asked(_) | Open(_) => {}
            }
        }
        is_told || is_closed
    }

    /// Takes the steps, and checks each.
    fn take(steps: &[Step]) {
        let sources = Sources::of_one();
        let tasks = [Wakes::new(), Wakes::new()];
        // Whether the task is woken by what is told next.
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
                    // Who reads need not ask again to be told, once that is not so any more.
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
        // An option of it is as large as an entry of a slab.
        assert_eq!(size_of::<Option<Source>>(), 32);
    }
}
