//! A listener and its sockets, recording all that the server does with them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shared::Shared;
use crate::trace::{Event, Operation, Recorder};

/// Records every connection that another listener accepts, and what is done with it.
pub struct TracedListener<L> {
    inner: L,
    recorder: Recorder,
    accepted: Shared<u32>,
}

impl<L> TracedListener<L> {
    /// Wraps a listener; `accepted` numbers the connections of all listeners of a run.
    pub(crate) fn new(inner: L, recorder: Recorder, accepted: Shared<u32>) -> Self {
        Self {
            inner,
            recorder,
            accepted,
        }
    }
}

impl<L: Listener<Addr = SocketAddr>> Listener for TracedListener<L> {
    type Io = TracedIo<L::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (inner, peer) = self.inner.accept().await;
        let conn = self.accepted.with(|accepted| {
            *accepted += 1;
            *accepted
        });
        let recorder = self.recorder.clone();
        recorder.record(Event::Accepted {
            conn,
            peer: peer.to_string(),
        });
        let io = TracedIo {
            inner,
            conn,
            recorder,
            flow: Flow::Free,
        };
        (io, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One accepted socket.
pub struct TracedIo<Io> {
    inner: Io,
    conn: u32,
    recorder: Recorder,
    flow: Flow,
}

/// Whether the socket took what was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Blocked,
    Free,
}

impl<Io> TracedIo<Io> {
    fn failed(&self, operation: Operation, error: &io::Error) {
        self.recorder.record(Event::Failed {
            conn: self.conn,
            operation,
            error: format!("{:?}", error.kind()),
        });
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for TracedIo<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        let conn = self.conn;
        match &result {
            Err(error) => self.failed(Operation::Read, error),
            Ok(()) => match &buffer.filled()[before..] {
                [] if room == 0 => {}
                [] => self.recorder.record(Event::ReadEnd { conn }),
                read => self.recorder.record(Event::Read {
                    conn,
                    data: read.into(),
                }),
            },
        }
        Poll::Ready(result)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for TracedIo<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(result) = Pin::new(&mut self.inner).poll_write(cx, bytes) else {
            if std::mem::replace(&mut self.flow, Flow::Blocked) == Flow::Free {
                self.recorder.record(Event::Blocked { conn: self.conn });
            }
            return Poll::Pending;
        };
        self.flow = Flow::Free;
        match &result {
            Err(error) => self.failed(Operation::Write, error),
            Ok(taken) => self.recorder.record(Event::Written {
                conn: self.conn,
                data: bytes[..*taken].into(),
            }),
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        if let Err(error) = &result {
            self.failed(Operation::Flush, error);
        }
        Poll::Ready(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        match &result {
            Err(error) => self.failed(Operation::Shutdown, error),
            Ok(()) => self.recorder.record(Event::Shutdown { conn: self.conn }),
        }
        Poll::Ready(result)
    }
}

impl<Io> Drop for TracedIo<Io> {
    fn drop(&mut self) {
        self.recorder.record(Event::Dropped { conn: self.conn });
    }
}
