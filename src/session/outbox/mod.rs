//! The write buffer of a session: whole frames, gathered for one write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use crate::bus::{BatchSpan, Burst};
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::wire::{ControlKind, ControlPayload, Frame, Frames, append_control};

use self::buffer::Buffer;

mod buffer;

#[cfg(all(test, not(feature = "loom")))]
mod tests;

/// Frames on their way to the socket; holds no memory while it is empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames gathered for this client.
    own: Option<Box<Buffer>>,
    /// A burst shared with other clients, in the place of gathered frames.
    shared: Option<Shared>,
    unflushed: bool,
    /// Whether a burst that the outbox does not hold is being written through to the socket.
    passes: bool,
}

/// How far a burst was written through to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The burst is written and flushed.
    Flushed,
    /// The burst is not completely written.
    Not,
    /// The burst is written, and still to be flushed.
    Written,
}

#[derive(Debug)]
struct Shared {
    burst: Arc<Burst>,
    written: usize,
}

impl Outbox {
    fn bytes(&self) -> &[u8] {
        match (&self.shared, &self.own) {
            (Some(shared), _) => shared.burst.bytes(),
            (None, Some(buffer)) => &buffer.bytes,
            (None, None) => &[],
        }
    }

    /// The buffer of this client alone; copies a shared burst into it first.
    #[inline]
    fn own(&mut self) -> &mut Buffer {
        if self.shared.is_some() {
            self.copy_shared();
        }
        self.own.get_or_insert_with(Buffer::acquire)
    }

    #[cold]
    fn copy_shared(&mut self) {
        if let Some(Shared { burst, written }) = self.shared.take() {
            self.own = Some(Box::new(Buffer {
                bytes: burst.bytes().to_vec(),
                written,
                spans: burst.spans().to_vec(),
            }));
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self.shared.is_none() && self.own.is_none();
        debug_assert_eq!(is_empty, self.len() == 0, "nothing empty is kept");
        is_empty
    }

    /// Whether the outbox is empty and its last content is flushed.
    pub(super) fn is_settled(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether the outbox holds a message.
    pub(super) fn has_messages(&self) -> bool {
        self.messages() > 0
    }

    /// The number of messages in the outbox.
    pub(super) fn messages(&self) -> u64 {
        let messages = match (&self.shared, &self.own) {
            (Some(shared), _) => shared.burst.messages(),
            (None, Some(buffer)) => buffer.messages(),
            (None, None) => 0,
        };
        messages as u64
    }

    /// Adds messages; `published` is when a service published them, if one did.
    pub(super) fn push(&mut self, frames: &Frames, published: Option<Instant>) {
        self.own().push(frames, published);
    }

    /// Adds a burst; an empty outbox shares it without a copy.
    pub(super) fn add(&mut self, burst: &Arc<Burst>) {
        if self.is_empty() {
            self.shared = Some(Shared {
                burst: Arc::clone(burst),
                written: 0,
            });
            return;
        }
        let buffer = self.own();
        let before = buffer.bytes.len();
        buffer.bytes.extend_from_slice(burst.bytes());
        buffer
            .spans
            .extend(burst.spans().iter().map(|span| BatchSpan {
                start: before + span.start,
                end: before + span.end,
                ..*span
            }));
    }

    /// Adds a notice, which does not count as a message.
    pub(super) fn push_notice(&mut self, frame: &Frame) {
        self.own().bytes.extend_from_slice(frame.as_bytes());
    }

    pub(super) fn push_control(&mut self, kind: ControlKind, payload: &ControlPayload) {
        append_control(&mut self.own().bytes, kind, payload);
    }

    /// Bytes of the present content that the socket has accepted.
    pub(super) fn written(&self) -> usize {
        match (&self.shared, &self.own) {
            (Some(shared), _) => shared.written,
            (None, Some(buffer)) => buffer.written,
            (None, None) => 0,
        }
    }

    /// Notes that the socket has accepted `bytes` bytes more.
    fn advance(&mut self, bytes: usize) {
        match (&mut self.shared, &mut self.own) {
            (Some(shared), _) => shared.written += bytes,
            (None, Some(buffer)) => buffer.written += bytes,
            (None, None) => {}
        }
    }

    /// Writes a burst through to the socket, if the outbox is empty and flushed; the rest, or all
    /// of it, is added to the outbox. The caller counts a burst that was written.
    ///
    /// If the stream panics, the caller has to [keep](Self::keep) the burst.
    pub(super) fn pass<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        burst: &Arc<Burst>,
        metrics: &Metrics,
    ) -> Passed {
        let planted = [Bug::FlushForgotten, Bug::ShortWriteRepeated];
        if !self.is_settled() || planted.into_iter().any(planted::is) {
            self.add(burst);
            return Passed::Not;
        }
        self.passes = true;
        let written = Pin::new(&mut *stream).poll_write(cx, burst.bytes());
        self.passes = false;
        let taken = match written {
            Poll::Ready(Ok(taken)) => taken,
            // The session's own next write meets the same error.
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        if taken < burst.bytes().len() {
            self.add(burst);
            self.advance(taken);
            metrics.bytes_out.add(taken as u64);
            return Passed::Not;
        }
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => Passed::Flushed,
            // The session's own next flush meets the same error.
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.unflushed = true;
                Passed::Written
            }
        }
    }

    /// Adds the burst that a panic has kept from being written through; a burst that was added
    /// before the panic is not added twice.
    pub(super) fn keep(&mut self, burst: &Arc<Burst>) {
        if std::mem::take(&mut self.passes) {
            self.add(burst);
        }
    }

    /// Writes and flushes everything.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let rest = &self.bytes()[self.written()..];
            let Poll::Ready(taken) = Pin::new(&mut *stream).poll_write(cx, rest) else {
                self.shrink();
                return Poll::Pending;
            };
            let taken = taken?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let repeated = planted::one_short(Bug::ShortWriteRepeated, taken, rest.len());
            let is_all = repeated == rest.len();
            self.advance(repeated);
            metrics.bytes_out.add(taken as u64);
            if is_all {
                self.finish(metrics, now);
            }
        }
        self.poll_flush(cx, stream)
    }

    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Counts the content, which is completely written, and gives its memory back.
    fn finish(&mut self, metrics: &Metrics, now: Instant) {
        metrics.messages_out.add(self.messages());
        let histogram = &metrics.written_after;
        if let Some(Shared { burst, .. }) = self.shared.take() {
            burst.observe(histogram, 1, now);
        }
        if let Some(buffer) = self.own.take() {
            buffer.finish(histogram, now);
        }
        self.unflushed = !planted::is(Bug::FlushForgotten);
    }

    /// Releases unused capacity while the content waits for the socket.
    fn shrink(&mut self) {
        if let Some(buffer) = &mut self.own {
            buffer.shrink();
        }
    }

    /// Drops the frames of which no byte is written, and counts them.
    pub(super) fn cut(&mut self, metrics: &Metrics) {
        if !self.is_empty() {
            self.own().cut(metrics);
            self.own.take_if(|buffer| buffer.bytes.is_empty());
        }
    }

    /// Counts the written and the unwritten messages at the end of the session, and returns the
    /// number of unwritten ones.
    pub(super) fn abandon(&mut self, metrics: &Metrics) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let buffer = self.own();
        let whole = buffer.whole_messages();
        metrics.messages_out.add(whole as u64);
        let unsent = (buffer.messages() - whole) as u64;
        metrics.lost_unsent.add(unsent);
        *self = Self::default();
        unsent
    }
}
