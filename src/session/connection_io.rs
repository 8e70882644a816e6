//! A session's socket with its read and write buffers, used by the session and by its fan-out.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::io::AsyncWrite;

use super::frame_reader::{FrameReader, Inbound};
use super::outbox::{Outbox, Passed};
use super::socket::Socket;
use crate::bus::Burst;
use crate::fan_out::{Sink, Written, count};
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::sync::Mutex;

/// The socket, the decoder of its input and the outbox before its output.
pub(super) struct ConnectionIo<S> {
    pub(super) stream: S,
    pub(super) frame_reader: FrameReader,
    pub(super) outbox: Outbox,
    /// Since when the socket has accepted no bytes.
    pub(super) stuck_since: Option<Instant>,
    /// The waker of the session's task; the socket wakes it for writes of a fan-out, too.
    pub(super) task: Waker,
    /// When a fan-out last wrote to the socket, since the session looked.
    pub(super) fan_out_wrote_at: Option<Instant>,
    /// Whether the fan-out has stopped writing to the socket, and the session has not noticed yet.
    pub(super) is_released: bool,
    /// Whether the task has tried a read, so that the socket wakes it for input.
    pub(super) is_asked: bool,
    /// Whether the last read found no input.
    is_read_out: bool,
}

impl<S> ConnectionIo<S> {
    pub(super) fn new(stream: S, frame_reader: FrameReader) -> Self {
        Self {
            stream,
            frame_reader,
            outbox: Outbox::default(),
            stuck_since: None,
            task: Waker::noop().clone(),
            fan_out_wrote_at: None,
            is_released: false,
            is_asked: false,
            is_read_out: false,
        }
    }

    /// Bytes in the read and write buffers.
    pub(super) fn held(&self) -> usize {
        self.frame_reader.held() + self.outbox.len()
    }
}

impl<S: Socket + Unpin> ConnectionIo<S> {
    /// Returns the next event from bytes that were read before, or else from one more read of at
    /// most `bytes_max` bytes; messages that are complete together are returned together, up to
    /// `messages_max`.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        messages_max: usize,
    ) -> Poll<io::Result<Inbound>> {
        match self.frame_reader.next(messages_max) {
            Some(inbound) => Poll::Ready(Ok(inbound)),
            None => {
                self.is_asked = true;
                let stream = &mut self.stream;
                let read = self
                    .frame_reader
                    .poll_read(cx, stream, bytes_max, messages_max);
                self.is_read_out = read.is_pending();
                read
            }
        }
    }

    /// Whether there is no input, and the task is woken as soon as there is some.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.is_asked && self.frame_reader.is_empty() && self.stream.is_silent()
    }

    /// Whether all input that has arrived was decoded, except for the beginning of an incomplete
    /// message.
    pub(super) fn is_read_out(&self) -> bool {
        let is_read_out = self.is_read_out || self.stream.is_silent();
        is_read_out && !self.frame_reader.has_buffered() && !self.stream.has_data()
    }
}

impl<S: AsyncWrite + Unpin> ConnectionIo<S> {
    /// Writes and flushes the outbox.
    pub(super) fn poll_send(&mut self, metrics: &Metrics, now: Instant) -> Poll<io::Result<()>> {
        let before = self.outbox.written();
        let mut cx = Context::from_waker(&self.task);
        let stream = &mut self.stream;
        let sent = self.outbox.poll_send(&mut cx, stream, metrics, now);
        if sent.is_ready() {
            self.stuck_since = None;
        } else if planted::is(Bug::WriteNeverStuck) {
            return sent;
        } else if self.stuck_since.is_none()
            || (self.outbox.written() != before && !planted::is(Bug::ProgressIgnored))
        {
            self.stuck_since = Some(now);
        }
        sent
    }
}

impl<S: AsyncWrite + Unpin + Send> Sink for Mutex<ConnectionIo<S>> {
    fn write(&self, burst: &Arc<Burst>, metrics: &Metrics, now: Instant) -> Written {
        let mut io = self.lock();
        let io = &mut *io;
        io.fan_out_wrote_at = Some(now);
        let mut cx = Context::from_waker(&io.task);
        let (outbox, stream) = (&mut io.outbox, &mut io.stream);
        match outbox.pass(&mut cx, stream, burst, metrics) {
            Passed::Flushed => return Written::Uncounted,
            Passed::Not => {}
            Passed::Written => count(burst, 1, metrics, now),
        }
        match io.poll_send(metrics, now) {
            Poll::Ready(Ok(())) => Written::Counted,
            // The session's own next write to this socket meets the same error, and ends the
            // session.
            Poll::Ready(Err(_)) | Poll::Pending => Written::Incomplete,
        }
    }

    fn keep(&self, burst: &Arc<Burst>) {
        self.lock().outbox.keep(burst);
    }

    fn release(&self) {
        self.lock().is_released = true;
    }

    fn wake(&self) {
        let task = self.lock().task.clone();
        if !planted::is(Bug::ReleaseNotWoken) {
            task.wake();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::pin::Pin;

    use futures::io::AsyncRead;

    use super::*;
    use crate::bus::{
        BurstFilter, Generation, InMemoryMessageBus, MessageBus, SharedCursor, Topic,
    };
    use crate::limits::Window;
    use crate::metrics::SessionCounts;
    use crate::wire::{Frame, Inflation};

    /// A socket with a scripted result for its next write.
    #[derive(Debug, Default)]
    struct Socket {
        does: Option<Does>,
        flushes: bool,
        taken: Vec<u8>,
    }

    #[derive(Clone, Copy, Debug)]
    enum Does {
        Fail,
        Panic,
        Take(usize),
    }

    impl AsyncRead for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.does.take() {
                Some(Does::Fail) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Does::Panic) => panic!("on purpose"),
                Some(Does::Take(room)) => {
                    let taken = bytes.len().min(room);
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Poll::Ready(Ok(taken))
                }
                None => Poll::Pending,
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.flushes {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A burst of two frames of three bytes.
    fn burst() -> Arc<Burst> {
        let bus = InMemoryMessageBus::new(Window::default(), 1);
        let topic: Topic = "t".parse().expect("a valid name");
        let mut reader = bus.subscribe(&topic).expect("there is room");
        let mut cursor = SharedCursor::beside(&reader);
        assert!(cursor.join(&mut reader), "both are at the beginning");
        for text in ["a", "b"] {
            bus.publish(&topic, text.into());
        }
        let filter = BurstFilter {
            bytes_max: 100,
            since: Generation::new(1),
        };
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(burst)) = cursor.poll_burst(&mut cx, filter) else {
            panic!("there is something for everybody");
        };
        cursor.leave(&mut reader);
        burst
    }

    /// The I/O of a connection to such a socket, with `own` frames of the client waiting in its
    /// outbox.
    fn io(does: Option<Does>, flushes: bool, own: usize) -> Mutex<ConnectionIo<Socket>> {
        let socket = Socket {
            does,
            flushes,
            taken: Vec::new(),
        };
        let mut io = ConnectionIo::new(socket, FrameReader::new(100, Inflation::None));
        for _ in 0..own {
            io.outbox.push(Frame::text("o").frames(), None);
        }
        Mutex::new(io)
    }

    /// The result of `write`, the messages counted by then, and the bytes left in the outbox.
    fn write(io: &Mutex<ConnectionIo<Socket>>) -> (Written, SessionCounts, usize) {
        let metrics = Metrics::default();
        let written = io.write(&burst(), &metrics, Instant::ZERO);
        let io = io.lock();
        assert_eq!(io.fan_out_wrote_at, Some(Instant::ZERO));
        let waits = io.outbox.len() - io.outbox.written();
        (written, metrics.counts(), waits)
    }

    #[test]
    fn what_a_socket_takes_at_once_is_for_the_fan_to_count() {
        let io = io(Some(Does::Take(6)), true, 0);
        let (written, counts, waits) = write(&io);
        assert_eq!((written, waits), (Written::Uncounted, 0));
        assert_eq!((counts.messages_out, counts.bytes_out), (0, 0));
        let io = io.lock();
        assert_eq!(io.stream.taken, b"\x81\x01a\x81\x01b");
        assert!(io.outbox.is_settled() && io.stuck_since.is_none());
    }

    #[test]
    fn what_comes_after_something_else_is_counted_with_that() {
        let io = io(Some(Does::Take(9)), true, 1);
        let (written, counts, waits) = write(&io);
        assert_eq!((written, waits), (Written::Counted, 0));
        assert_eq!((counts.messages_out, counts.bytes_out), (3, 9));
        assert_eq!(io.lock().stream.taken, b"\x81\x01o\x81\x01a\x81\x01b");
    }

    #[test]
    fn what_a_socket_does_not_take_waits_and_only_what_it_took_is_counted() {
        let cases = [
            (None, 0),
            (Some(Does::Take(2)), 2),
            (Some(Does::Take(0)), 0),
            (Some(Does::Fail), 0),
        ];
        for (does, taken) in cases {
            let io = io(does, true, 0);
            let (written, counts, waits) = write(&io);
            assert_eq!(
                (written, waits),
                (Written::Incomplete, 6 - taken),
                "{does:?}"
            );
            assert_eq!((counts.messages_out, counts.bytes_out), (0, taken as u64));
            let mut io = io.lock();
            io.stream.does = Some(Does::Take(6));
            let metrics = Metrics::default();
            assert!(io.poll_send(&metrics, Instant::ZERO).is_ready());
            assert_eq!(io.stream.taken, b"\x81\x01a\x81\x01b", "{does:?}");
            assert_eq!(metrics.counts().messages_out, 2);
        }
    }

    #[test]
    fn what_is_written_and_not_flushed_is_counted_once() {
        let io = io(Some(Does::Take(6)), false, 0);
        let (written, counts, waits) = write(&io);
        assert_eq!((written, waits), (Written::Incomplete, 0));
        assert_eq!((counts.messages_out, counts.bytes_out), (2, 6));
        let mut io = io.lock();
        assert!(!io.outbox.is_settled() && io.stuck_since.is_some());
        io.stream.flushes = true;
        let metrics = Metrics::default();
        assert!(io.poll_send(&metrics, Instant::ZERO).is_ready());
        assert!(io.outbox.is_settled());
        assert_eq!(metrics.counts(), SessionCounts::default());
    }

    #[test]
    fn a_socket_that_panics_has_not_taken_it() {
        for before in [0, 1] {
            // The result is about this burst alone, whatever the socket accepted before.
            let io = io(Some(Does::Take(6)), true, 0);
            assert_eq!(write(&io).0, Written::Uncounted);
            let mut broken = io.lock();
            broken.stream.does = Some(Does::Panic);
            for _ in 0..before {
                broken.outbox.push(Frame::text("o").frames(), None);
            }
            drop(broken);
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(&io)));
            assert!(written.is_err());
            io.keep(&burst());
            assert_eq!(io.lock().outbox.messages(), before as u64 + 2);
            io.keep(&burst());
            let messages = io.lock().outbox.messages();
            assert_eq!(messages, before as u64 + 2, "it is kept once");
        }
    }
}
