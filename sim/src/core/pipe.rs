//! A byte pipe in memory between a session and its peer: small, short and strict.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use busline::session;
use futures::io::{AsyncRead, AsyncWrite};

use super::executor::Executor;
use crate::rng::Rng;
use crate::shared::Shared;
use crate::trace::{Event, Operation, Recorder};

/// Both directions of one connection; clones are the same.
#[derive(Clone)]
pub(crate) struct Pipe {
    state: Shared<State>,
    rt: Executor,
}

struct State {
    to_server: VecDeque<u8>,
    /// The peer has ended its side.
    is_ended: bool,
    is_reset: bool,
    /// What the server has written, and how much of that it has flushed.
    from_server: VecDeque<u8>,
    flushed: usize,
    /// The server has ended its side, or dropped its socket.
    is_closed: bool,
    is_dropped: bool,
    /// Bytes that the server may write while nothing is read.
    capacity: usize,
    is_short: bool,
    rng: Rng,
    /// When the peer last sent something.
    said_at: Duration,
    /// Since when the server can write nothing.
    stuck_since: Option<Duration>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    peer: Option<Waker>,
}

/// What a pipe is like.
pub(crate) struct Shape {
    pub(crate) capacity: usize,
    pub(crate) is_short: bool,
}

/// The server's end.
pub(crate) struct Socket {
    pipe: Pipe,
    conn: u32,
    recorder: Recorder,
}

/// What the peer gets.
pub(crate) enum Arrived {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Pipe {
    pub(crate) fn new(shape: &Shape, rng: Rng, rt: &Executor) -> Self {
        let state = Shared::new(State {
            to_server: VecDeque::new(),
            is_ended: false,
            is_reset: false,
            from_server: VecDeque::new(),
            flushed: 0,
            is_closed: false,
            is_dropped: false,
            capacity: shape.capacity.max(1),
            is_short: shape.is_short,
            rng,
            said_at: rt.time(),
            stuck_since: None,
            reader: None,
            writer: None,
            peer: None,
        });
        let rt = rt.clone();
        Self { state, rt }
    }

    pub(crate) fn socket(&self, conn: u32, recorder: &Recorder) -> Socket {
        let peer = format!("peer-{conn}");
        recorder.record(Event::Accepted { conn, peer });
        Socket {
            pipe: self.clone(),
            conn,
            recorder: recorder.clone(),
        }
    }

    /// Changes the pipe and wakes whoever may have waited for that.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, wakers) = self.state.with(|state| {
            let changed = change(state);
            let wakers = [state.reader.take(), state.writer.take(), state.peer.take()];
            (changed, wakers)
        });
        wakers.into_iter().flatten().for_each(Waker::wake);
        changed
    }

    /// Wakes the peer.
    pub(crate) fn nudge(&self) {
        self.change(|_| ());
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        let now = self.rt.time();
        self.change(|state| {
            state.said_at = now;
            if state.is_dropped {
                state.break_off();
            } else {
                state.to_server.extend(bytes);
            }
        });
    }

    /// The peer ends its side.
    pub(crate) fn end(&self) {
        self.change(|state| state.is_ended = true);
    }

    /// The peer breaks the connection.
    pub(crate) fn reset(&self) {
        self.change(|state| state.is_reset = true);
    }

    /// Takes up to `most` bytes that have arrived, or parks the peer.
    pub(crate) fn poll_hear(&self, cx: &mut Context<'_>, most: usize) -> Poll<Arrived> {
        let heard = self.state.with(|state| {
            if state.is_reset {
                return Poll::Ready(Arrived::Reset);
            }
            let count = state.flushed.min(most);
            if count > 0 {
                state.flushed -= count;
                let bytes = state.from_server.drain(..count).collect();
                return Poll::Ready(Arrived::Bytes(bytes));
            }
            if state.is_closed && state.flushed == 0 {
                return Poll::Ready(Arrived::End);
            }
            state.peer = Some(cx.waker().clone());
            Poll::Pending
        });
        if let Poll::Ready(Arrived::Bytes(_)) = heard {
            let writer = self.state.with(|state| state.writer.take());
            writer.into_iter().for_each(Waker::wake);
        }
        heard
    }

    /// Parks the peer until something changes.
    pub(crate) fn park(&self, cx: &mut Context<'_>) {
        self.state
            .with(|state| state.peer = Some(cx.waker().clone()));
    }

    /// Bytes that the server has not read.
    pub(crate) fn unread(&self) -> usize {
        self.state.with(|state| state.to_server.len())
    }

    /// When the peer last sent something.
    pub(crate) fn said_at(&self) -> Duration {
        self.state.with(|state| state.said_at)
    }

    /// Since when the server can write nothing, if it tried.
    pub(crate) fn stuck_since(&self) -> Option<Duration> {
        self.state.with(|state| state.stuck_since)
    }
}

impl State {
    /// At most so many, and in a pipe that is short often less.
    fn shorten(&mut self, most: usize) -> usize {
        if self.is_short && most > 1 && self.rng.chance(1, 2) {
            self.rng.within(1..=most as u64) as usize
        } else {
            most
        }
    }

    /// Unread bytes of a socket that is gone make the kernel reset the connection, and that
    /// overtakes what is under way.
    fn break_off(&mut self) {
        self.is_reset = true;
        self.from_server.clear();
        self.flushed = 0;
    }

    /// Whether the server would find nothing, not even an end.
    fn has_nothing(&self) -> bool {
        self.to_server.is_empty() && !self.is_ended && !self.is_reset
    }

    fn flush(&mut self) {
        self.flushed = self.from_server.len();
    }
}

impl Socket {
    fn failed(&self, operation: Operation) -> io::Error {
        let (conn, kind) = (self.conn, io::ErrorKind::ConnectionReset);
        let error = format!("{kind:?}");
        self.recorder.record(Event::Failed {
            conn,
            operation,
            error,
        });
        kind.into()
    }
}

impl session::Socket for Socket {
    fn is_silent(&self) -> bool {
        let is_silent = |state: &mut State| state.has_nothing() && state.reader.is_some();
        self.pipe.state.with(is_silent)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let conn = self.conn;
        let read = self.pipe.state.with(|state| {
            if state.is_reset {
                return Poll::Ready(None);
            }
            // Also of one that finds something: it need not read again to be told of more.
            state.reader = Some(cx.waker().clone());
            if state.has_nothing() {
                return Poll::Pending;
            }
            let most = into.len().min(state.to_server.len());
            let count = state.shorten(most);
            for (slot, byte) in into.iter_mut().zip(state.to_server.drain(..count)) {
                *slot = byte;
            }
            Poll::Ready(Some(count))
        });
        read.map(|read| match read {
            None => Err(self.failed(Operation::Read)),
            Some(0) => {
                self.recorder.record(Event::ReadEnd { conn });
                Ok(0)
            }
            Some(bytes) => {
                self.recorder.record(Event::Read {
                    conn,
                    data: into[..bytes].into(),
                });
                Ok(bytes)
            }
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (conn, now) = (self.conn, self.pipe.rt.time());
        let mut was_stuck = false;
        let taken = self.pipe.state.with(|state| {
            if state.is_reset {
                return Poll::Ready(None);
            }
            let room = state.capacity.saturating_sub(state.from_server.len());
            if room == 0 {
                was_stuck = state.stuck_since.is_some();
                state.stuck_since.get_or_insert(now);
                state.writer = Some(cx.waker().clone());
                // What is full goes out.
                state.flush();
                return Poll::Pending;
            }
            state.stuck_since = None;
            let most = room.min(bytes.len());
            let count = state.shorten(most);
            state.from_server.extend(&bytes[..count]);
            Poll::Ready(Some(count))
        });
        match taken {
            Poll::Pending => {
                if !was_stuck {
                    self.recorder.record(Event::Blocked { conn });
                }
                let peer = self.pipe.state.with(|state| state.peer.take());
                peer.into_iter().for_each(Waker::wake);
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(Err(self.failed(Operation::Write))),
            Poll::Ready(Some(count)) => {
                let data = bytes[..count].into();
                self.recorder.record(Event::Written { conn, data });
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let peer = self.pipe.state.with(|state| {
            state.flush();
            state.peer.take()
        });
        peer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let conn = self.conn;
        self.recorder.record(Event::Shutdown { conn });
        self.pipe.change(|state| {
            state.flush();
            state.is_closed = true;
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let conn = self.conn;
        self.recorder.record(Event::Dropped { conn });
        self.pipe.change(|state| {
            state.flush();
            if !state.to_server.is_empty() {
                state.break_off();
            }
            state.is_closed = true;
            state.is_dropped = true;
        });
    }
}
