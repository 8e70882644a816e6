//! A client's end and a session's end of a connection that is no socket: frames are counted.
//!
//! A client sends one frame, always the same, and of what it is sent it counts the messages. So it
//! holds no bytes, and what is measured is the session.
#![expect(
    clippy::disallowed_types,
    reason = "a lock of the bench's own, which loom need not see"
)]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::io::{AsyncRead, AsyncWrite};

/// A masked frame with a text of 32 bytes; the mask is zero.
const FRAME: &[u8; 38] = b"\x81\xa0\x00\x00\x00\x000123456789abcdef0123456789abcdef";

/// A whole message of text, as a server begins its frame.
const TEXT: u8 = 0x81;

/// Both ends; clones are the same.
#[derive(Clone)]
pub(crate) struct Pipe {
    state: Arc<Mutex<State>>,
    tally: Tally,
}

#[derive(Default)]
struct State {
    /// Frames that the client has sent and the session has not read.
    sent: usize,
    reader: Option<Waker>,
}

impl Pipe {
    pub(crate) fn new(tally: &Tally) -> Self {
        Self {
            state: Arc::default(),
            tally: tally.clone(),
        }
    }

    /// Sends one message.
    pub(crate) fn send(&self) {
        let mut state = lock(&self.state);
        state.sent += 1;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        if state.sent == 0 {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.sent -= 1;
        let Some(room) = buf.get_mut(..FRAME.len()) else {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        };
        room.copy_from_slice(FRAME);
        Poll::Ready(Ok(FRAME.len()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tally.add(messages(buf));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The messages in what a session wrote: whole frames, none of them long.
fn messages(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, len, ..] = *bytes {
        count += usize::from(kind == TEXT);
        bytes = bytes.get(2 + usize::from(len)..).unwrap_or_default();
    }
    count
}

/// What all clients have been sent; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Owed>>);

#[derive(Default)]
struct Owed {
    messages: usize,
    waiter: Option<Waker>,
}

impl Tally {
    /// So many more are to come.
    pub(crate) fn owe(&self, messages: usize) {
        lock(&self.0).messages += messages;
    }

    /// Ready once all have come.
    pub(crate) fn poll_all(&self, cx: &Context<'_>) -> Poll<()> {
        let mut owed = lock(&self.0);
        if owed.messages == 0 {
            return Poll::Ready(());
        }
        owed.waiter = Some(cx.waker().clone());
        Poll::Pending
    }

    fn add(&self, messages: usize) {
        let mut owed = lock(&self.0);
        let left = owed.messages.checked_sub(messages);
        owed.messages = left.expect("no more comes than was sent");
        let waiter = (owed.messages == 0).then(|| owed.waiter.take());
        drop(owed);
        if let Some(Some(waiter)) = waiter {
            waiter.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under this lock")
}
