//! The pipe between a session and the response that carries its events.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::io::{AsyncRead, AsyncWrite};
use hyper::body::Bytes;

use crate::server::sse::unframing::Unframing;
use crate::session::Socket;
use crate::sync::{Arc, Mutex};

/// The most bytes of a write that the pipe takes at once.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// The first bytes of each stream: a comment, so that the client knows at once that it is in.
const FIRST: &[u8] = b": busline\n\n";

/// A client's answer to a ping: a masked pong without payload.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// The two ends of a new pipe.
pub(super) struct Ends {
    pub(super) socket: EventSocket,
    pub(super) reader: EventReader,
    /// Completes when the session has ended: its socket is dropped.
    pub(super) over: oneshot::Receiver<()>,
}

/// The session's end.
pub(in crate::server) struct EventSocket {
    pipe: Arc<Mutex<Pipe>>,
    _alive: oneshot::Sender<()>,
}

/// The response's end.
pub(super) struct EventReader(Arc<Mutex<Pipe>>);

/// Keeps the session waiting for the end of its connection, which dropping this tells.
pub(in crate::server) struct Hold(Arc<Mutex<Pipe>>);

struct Pipe {
    unframing: Unframing,
    /// Events that the response has not taken.
    text: Vec<u8>,
    /// Whether a ping is in the text.
    has_ping: bool,
    /// Whether the client owes a pong, which the session has not read yet.
    owes_pong: bool,
    writing: Writing,
    reading: Reading,
    /// The tasks that wait for the other end.
    session_reads: Option<Waker>,
    session_writes: Option<Waker>,
    response: Option<Waker>,
}

/// The state of the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// The session has ended without an end of the stream.
    Broken,
    /// The stream has its end.
    Ended,
    Open,
}

/// The state of the response's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The connection is over, after the end of the stream or before it.
    Gone,
    Open,
    /// The response has taken the end of the stream.
    TookEnd,
}

/// The next part of the response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The session has ended, and the rest of the stream with it.
    Broken,
    End,
    Text(Bytes),
}

/// Makes a pipe whose session tells clients of a server that goes away to come back after `retry`.
pub(super) fn ends(retry: Duration) -> Ends {
    let pipe = Arc::new(Mutex::new(Pipe {
        unframing: Unframing::new(retry),
        text: FIRST.to_vec(),
        has_ping: false,
        owes_pong: false,
        writing: Writing::Open,
        reading: Reading::Open,
        session_reads: None,
        session_writes: None,
        response: None,
    }));
    let (_alive, over) = oneshot::channel();
    Ends {
        reader: EventReader(Arc::clone(&pipe)),
        socket: EventSocket { pipe, _alive },
        over,
    }
}

/// Changes the pipe, and wakes the given tasks once it is unlocked.
fn change<T>(pipe: &Mutex<Pipe>, change: impl FnOnce(&mut Pipe, &mut Wakers) -> T) -> T {
    let mut wakers = Wakers::default();
    let mut locked = pipe.lock();
    let changed = change(&mut locked, &mut wakers);
    drop(locked);
    for waker in wakers.0.into_iter().flatten() {
        waker.wake();
    }
    changed
}

/// The tasks to wake once a pipe is unlocked.
#[derive(Default)]
struct Wakers([Option<Waker>; 2]);

impl Pipe {
    fn wake_session(&mut self, wakers: &mut Wakers) {
        wakers.0 = [self.session_reads.take(), self.session_writes.take()];
    }

    fn wake_response(&mut self, wakers: &mut Wakers) {
        wakers.0[0] = self.response.take();
    }
}

/// Registers a task in a place, and returns the waker that was there, to be dropped without a lock.
fn park(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        Some(_) | None => place.replace(cx.waker().clone()),
    }
}

/// The error of a session whose client is gone.
fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl EventReader {
    /// The next part of the response; parks the task until there is one.
    pub(super) fn poll_part(&self, cx: &Context<'_>) -> Poll<Part> {
        let mut replaced = None;
        let part = change(&self.0, |pipe, wakers| {
            if !pipe.text.is_empty() {
                let text = std::mem::take(&mut pipe.text);
                pipe.owes_pong |= std::mem::take(&mut pipe.has_ping);
                pipe.wake_session(wakers);
                return Poll::Ready(Part::Text(text.into()));
            }
            match pipe.writing {
                Writing::Broken => Poll::Ready(Part::Broken),
                Writing::Ended => {
                    pipe.reading = Reading::TookEnd;
                    Poll::Ready(Part::End)
                }
                Writing::Open => {
                    replaced = park(&mut pipe.response, cx);
                    Poll::Pending
                }
            }
        });
        drop(replaced);
        part
    }

    /// A hold on the session, for as long as the connection lasts.
    pub(super) fn hold(&self) -> Hold {
        Hold(Arc::clone(&self.0))
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        change(&self.0, |pipe, wakers| {
            // After the end the hold tells when the connection is over.
            if pipe.reading == Reading::Open {
                pipe.reading = Reading::Gone;
                pipe.wake_session(wakers);
            }
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        change(&self.0, |pipe, wakers| {
            pipe.reading = Reading::Gone;
            pipe.wake_session(wakers);
        });
    }
}

impl EventSocket {
    /// Ready once the response has taken everything.
    fn poll_taken(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut replaced = None;
        let taken = change(&self.pipe, |pipe, _| {
            if pipe.text.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if pipe.reading == Reading::Gone {
                return Poll::Ready(Err(gone()));
            }
            replaced = park(&mut pipe.session_writes, cx);
            Poll::Pending
        });
        drop(replaced);
        taken
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
        change(&self.pipe, |pipe, wakers| {
            if pipe.writing == Writing::Open {
                pipe.writing = Writing::Broken;
            }
            pipe.wake_response(wakers);
        });
    }
}

impl Socket for EventSocket {}

impl AsyncRead for EventSocket {
    /// Reads the pong for a ping that the response has taken: a client of events answers nothing.
    /// The stream ends when the connection does, orderly if the client was sent the end before.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut replaced = None;
        let read = change(&self.pipe, |pipe, _| match (pipe.reading, pipe.writing) {
            (Reading::Gone, Writing::Ended) if pipe.text.is_empty() => Poll::Ready(Ok(0)),
            (Reading::Gone, _) => Poll::Ready(Err(gone())),
            (Reading::Open | Reading::TookEnd, _) if pipe.owes_pong && into.len() >= PONG.len() => {
                pipe.owes_pong = false;
                into[..PONG.len()].copy_from_slice(&PONG);
                Poll::Ready(Ok(PONG.len()))
            }
            (Reading::Open | Reading::TookEnd, _) => {
                replaced = park(&mut pipe.session_reads, cx);
                Poll::Pending
            }
        });
        drop(replaced);
        read
    }
}

impl AsyncWrite for EventSocket {
    /// Takes the events of a write once the response has taken those of the write before.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.poll_taken(cx)?;
        if taken.is_pending() {
            return Poll::Pending;
        }
        let part = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        change(&self.pipe, |pipe, wakers| {
            if pipe.reading == Reading::Gone {
                return Poll::Ready(Err(gone()));
            }
            let control = pipe.unframing.take(part, &mut pipe.text);
            pipe.has_ping |= control.has_ping;
            if control.has_close {
                pipe.writing = Writing::Ended;
            }
            pipe.wake_response(wakers);
            Poll::Ready(Ok(part.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_taken(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        change(&self.pipe, |pipe, wakers| {
            pipe.writing = Writing::Ended;
            pipe.wake_response(wakers);
        });
        Poll::Ready(Ok(()))
    }
}

#[cfg(all(test, feature = "loom"))]
mod models;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
