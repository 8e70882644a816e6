//! A listening socket whose system runs out of file descriptors for a while.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use busline::server::Accept;

use crate::shared::Shared;
use crate::trace::{Event, Recorder};

/// Until when there are no file descriptors; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Descriptors(Shared<Duration>);

impl Descriptors {
    /// There are none until then.
    pub(crate) fn exhaust(&self, until: Duration) {
        self.0.with(|end| *end = until.max(*end));
    }
}

/// Accepts as another socket does, while there are descriptors.
pub(crate) struct Exhausted<A> {
    inner: A,
    descriptors: Descriptors,
    recorder: Recorder,
}

impl<A> Exhausted<A> {
    pub(crate) fn new(inner: A, descriptors: Descriptors, recorder: Recorder) -> Self {
        Self {
            inner,
            descriptors,
            recorder,
        }
    }
}

impl<A: Accept<Addr = SocketAddr>> Accept for Exhausted<A> {
    type Io = A::Io;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(A::Io, SocketAddr)>> {
        let until = self.descriptors.0.with(|until| *until);
        if self.recorder.now() < until {
            self.recorder.record(Event::AcceptFailed);
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EMFILE)));
        }
        self.inner.poll_accept(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
