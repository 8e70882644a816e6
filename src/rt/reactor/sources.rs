//! What is known of the sockets of a reactor, and who waits for them.

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker};

use mio::event::{self, Event};
use mio::{Events, Interest, Registry, Token};
use slab::Slab;

use crate::sync::Mutex;

/// The sockets of one reactor, by their keys.
///
/// They are of the thread of that reactor, so that the lock is free; another one may use them too.
pub(crate) struct Sources {
    registry: Registry,
    places: Mutex<Slab<Source>>,
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

    /// Ready once this side has been told of since it was last ready; always, if it is closed.
    pub(super) fn poll(&self, cx: &Context<'_>, key: u32, side: Side) -> Poll<()> {
        let mut places = self.places.lock();
        let source = of(&mut places, key);
        if source.take(side) {
            return Poll::Ready(());
        }
        let before = source.park(cx.waker(), side);
        drop(places);
        drop(before);
        Poll::Pending
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
                woken.extend(source.tell(read, write).into_iter().flatten());
            }
        }
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

    /// Takes in what is told of both sides, and takes out who waits for that.
    fn tell(&mut self, read: News, write: News) -> [Option<Waker>; 2] {
        self.read.add(read);
        self.write.add(write);
        let reader = self.reader.take_if(|_| read.is_any());
        let writer = self.writer.take_if(|_| write.is_any());
        [reader, writer.map(|waker| *waker)]
    }

    /// Whether it is ready, for which it is to be asked.
    fn take(&mut self, side: Side) -> bool {
        let news = self.news(side);
        std::mem::take(&mut news.is_ready) || news.is_closed
    }

    /// Parks the task and returns the waker that it replaces, to drop after unlocking.
    fn park(&mut self, task: &Waker, side: Side) -> Option<Waker> {
        match side {
            Side::Read => park(&mut self.reader, task, Waker::clone),
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
        let mut source = Source::default();
        let tasks = [Wakes::new(), Wakes::new()];
        let mut waits = [false; 2];
        let mut wakes = [0; 2];
        for (count, step) in steps.iter().enumerate() {
            let mut told = [News::default(); 2];
            match *step {
                Ready(side) => told[side as usize].is_ready = true,
                Closed(side) => told[side as usize].is_closed = true,
                Open(side) => source.news(side).is_closed = false,
                Asked(side) => {
                    let (_, task) = &tasks[side as usize];
                    let is_ready = is_ready(&steps[..count], side);
                    assert_eq!(source.take(side), is_ready, "{steps:?}");
                    if !is_ready {
                        let replaced = source.park(task, side);
                        assert!(replaced.is_none(), "it is the same task");
                        waits[side as usize] = true;
                    }
                }
            }
            for waker in source.tell(told[0], told[1]).into_iter().flatten() {
                waker.wake();
            }
            for side in 0..2 {
                if told[side].is_any() && std::mem::take(&mut waits[side]) {
                    wakes[side] += 1;
                }
                assert_eq!(tasks[side].0.count(), wakes[side], "{steps:?}");
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
            assert!(source.park(&tasks[0].1, side).is_none());
            let before = source.park(&tasks[1].1, side);
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
