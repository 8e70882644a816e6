//! What tells the sessions of one thread of their sockets: an epoll instance of the thread's own.
//!
//! tokio watches this one descriptor, in the place of each socket in it: for those it would keep
//! 272 bytes each, a sixth of an idle connection, and take two locks for each that has something to
//! tell. A thread under load asks here several times before it goes to tokio's own instance.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::Events;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

pub(crate) use self::sources::Sources;
pub(crate) use self::tcp::TcpStream;

mod sources;
mod tcp;

/// Sockets that are told of at once at most.
const EVENTS_MAX: usize = 1024;

/// An epoll instance, and what it has told.
///
/// Its sockets outlive it, and are told of no more.
pub(super) struct Reactor {
    epoll: AsyncFd<mio::Poll>,
    events: Events,
    sources: Arc<Sources>,
    /// Whether there may be something to tell of which tokio will not tell again.
    is_due: bool,
    /// Those whom the present news wakes; empty between.
    woken: Vec<Waker>,
}

impl Reactor {
    /// One that the runtime of the caller watches.
    pub(super) fn new() -> io::Result<Self> {
        Self::of(EVENTS_MAX)
    }

    fn of(events_max: usize) -> io::Result<Self> {
        let epoll = mio::Poll::new()?;
        let sources = Sources::new(epoll.registry().try_clone()?);
        Ok(Self {
            epoll: watch(epoll)?,
            events: Events::with_capacity(events_max),
            sources: Arc::new(sources),
            is_due: false,
            woken: Vec::new(),
        })
    }

    /// Its sockets.
    pub(super) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Wakes those who wait for sockets that have something to tell, if tokio says that there are
    /// any; how many told. The caller is woken when there are more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> usize {
        // Before it is asked: what it has to tell later is told by tokio again.
        while let Poll::Ready(Ok(mut ready)) = self.epoll.poll_read_ready_mut(cx) {
            ready.clear_ready();
            self.is_due = true;
        }
        if self.is_due { self.ask(cx) } else { 0 }
    }

    /// The same without asking tokio first.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>) -> usize {
        let events = &mut self.events;
        let epoll = self.epoll.get_mut();
        let asked = epoll.poll(events, Some(Duration::ZERO));
        let told = events.iter().count();
        // A signal may have come between.
        self.is_due = asked.is_err() || told == events.capacity();
        if self.is_due {
            wake_later(cx);
        }
        self.sources.tell(events, &mut self.woken);
        for task in self.woken.drain(..) {
            task.wake();
        }
        told
    }
}

/// Wakes the task once tokio has asked what it watches itself: timers and new connections wait for
/// that, however much the sockets of this instance have to tell.
fn wake_later(cx: &mut Context<'_>) {
    let _pending = pin!(yield_now()).poll(cx);
}

/// Has the runtime of the caller tell when there is something to tell.
#[expect(
    deprecated,
    reason = "its successor is not safe to call, for the sake of descriptors that change or are \
              closed meanwhile: mio keeps this one"
)]
fn watch(epoll: mio::Poll) -> io::Result<AsyncFd<mio::Poll>> {
    AsyncFd::with_interest(epoll, tokio::io::Interest::READABLE)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
