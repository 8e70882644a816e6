//! The reactor of one thread: an epoll instance that reports the sockets of the thread's sessions.
//!
//! tokio watches the one descriptor of the instance, not each socket in it: tokio keeps 272 bytes
//! for a socket, a sixth of an idle connection, and takes two locks for each ready one. A thread
//! under load asks this instance several times before it returns to tokio's own instance.

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

/// The most events that one call returns.
const EVENTS_MAX: usize = 1024;

/// An epoll instance, with a buffer for its events.
///
/// Sockets may outlive the reactor; they get no reports then.
pub(super) struct Reactor {
    epoll: AsyncFd<mio::Poll>,
    events: Events,
    sources: Arc<Sources>,
    /// Whether the instance may have events left that tokio does not report again.
    is_due: bool,
    /// The wakers of the tasks that the present events wake; empty between calls.
    woken: Vec<Waker>,
}

impl Reactor {
    /// Makes a reactor that the runtime of the caller watches.
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

    /// The sockets of the reactor.
    pub(super) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Wakes the tasks that wait for ready sockets, if tokio reports that there are any; returns
    /// the number of events. The caller is woken when there are more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> usize {
        // Cleared before the instance is asked: tokio reports an event that comes after the clear
        // again. A clear after the question would lose events in between.
        while let Poll::Ready(Ok(mut ready)) = self.epoll.poll_read_ready_mut(cx) {
            ready.clear_ready();
            self.is_due = true;
        }
        if self.is_due { self.poll_epoll(cx) } else { 0 }
    }

    /// Does what [`poll`](Self::poll) does, without asking tokio first.
    pub(super) fn poll_epoll(&mut self, cx: &mut Context<'_>) -> usize {
        let events = &mut self.events;
        let epoll = self.epoll.get_mut();
        let polled = epoll.poll(events, Some(Duration::ZERO));
        let count = events.iter().count();
        // A call interrupted by a signal, or a full buffer, may have left events.
        self.is_due = polled.is_err() || count == events.capacity();
        if self.is_due {
            wake_later(cx);
        }
        self.sources.report(events, &mut self.woken);
        for task in self.woken.drain(..) {
            task.wake();
        }
        count
    }
}

/// Wakes the task after tokio's next pass over its own sources, so that timers and new connections
/// are served however busy this instance is.
fn wake_later(cx: &mut Context<'_>) {
    let _pending = pin!(yield_now()).poll(cx);
}

/// Has the runtime of the caller watch the instance.
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
