//! What a session is writing: whole frames, gathered for one write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::io::AsyncWrite;

use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::wire::{ControlKind, ControlPayload, Frame, append_control};

/// Frames on their way to the socket; holds no memory while it is empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    batch: Option<Box<Batch>>,
    unflushed: bool,
}

/// What is gathered; there is none while nothing is to be sent.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    written: usize,
    /// Where each data frame in `bytes` ends.
    ends: Vec<usize>,
    /// When each message of those frames was published, if a service has.
    published: Vec<Option<Duration>>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.len())
    }

    /// Whether a message is among what is being written.
    pub(super) fn has_messages(&self) -> bool {
        self.messages() > 0
    }

    /// Messages among what is being written.
    pub(super) fn messages(&self) -> u64 {
        self.batch.as_ref().map_or(0, |batch| batch.ends.len()) as u64
    }

    fn batch(&mut self) -> &mut Batch {
        self.batch.get_or_insert_default()
    }

    /// Makes room for frames of this many bytes in all.
    pub(super) fn reserve(&mut self, frames: usize, bytes: usize) {
        if frames > 0 {
            let batch = self.batch();
            batch.bytes.reserve(bytes);
            batch.ends.reserve(frames);
            batch.published.reserve(frames);
        }
    }

    pub(super) fn push(&mut self, frame: &[u8], published: Option<Duration>) {
        let batch = self.batch();
        batch.bytes.extend_from_slice(frame);
        batch.ends.push(batch.bytes.len());
        batch.published.push(published);
    }

    /// What is said of messages, and is none itself.
    pub(super) fn push_notice(&mut self, frame: &Frame) {
        self.batch().bytes.extend_from_slice(frame.as_bytes());
    }

    pub(super) fn push_control(&mut self, kind: ControlKind, payload: &ControlPayload) {
        append_control(&mut self.batch().bytes, kind, payload);
    }

    /// Bytes of the present content that the socket has taken.
    pub(super) fn written(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.written)
    }

    /// Writes and flushes everything.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        while let Some(batch) = self.batch.as_deref_mut()
            && !batch.bytes.is_empty()
        {
            let rest = &batch.bytes[batch.written..];
            let taken = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            batch.written += planted::one_short(Bug::ShortWriteRepeated, taken, rest.len());
            metrics.bytes_out.add(taken as u64);
            if batch.written == batch.bytes.len() {
                batch.count(metrics, now);
                self.batch = None;
                self.unflushed = !planted::is(Bug::FlushForgotten);
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

    /// Drops the frames that are not yet being written, and counts them.
    pub(super) fn cut(&mut self, metrics: &Metrics) {
        if let Some(batch) = &mut self.batch {
            batch.cut(metrics);
        }
    }

    /// Counts what is and what is not written at the end of the session, and returns the latter.
    pub(super) fn abandon(&mut self, metrics: &Metrics) -> u64 {
        let batch = std::mem::take(self).batch.unwrap_or_default();
        let written = batch.ends.partition_point(|end| *end <= batch.written);
        metrics.messages_out.add(written as u64);
        let unsent = (batch.ends.len() - written) as u64;
        metrics.lost_unsent.add(unsent);
        unsent
    }
}

impl Batch {
    /// Everything is written: counts it.
    fn count(&self, metrics: &Metrics, now: Instant) {
        metrics.messages_out.add(self.ends.len() as u64);
        let published = self.published.iter().flatten();
        let took = published.map(|published| now.since_start().saturating_sub(*published));
        metrics.written_after.observe_all(took);
    }

    fn cut(&mut self, metrics: &Metrics) {
        let begun = match self.written {
            0 => 0,
            written => self.ends.partition_point(|end| *end < written) + 1,
        };
        // A control frame that is being written after the last data frame stays with what follows.
        let Some(end) = begun
            .checked_sub(1)
            .map_or(Some(0), |at| self.ends.get(at).copied())
        else {
            return;
        };
        metrics.lost_unsent.add((self.ends.len() - begun) as u64);
        self.ends.truncate(begun);
        self.published.truncate(begun);
        self.ends.shrink_to_fit();
        self.bytes.truncate(end);
        self.bytes.shrink_to_fit();
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::Waker;

    use futures::io::{BufWriter, Cursor};

    use super::*;

    #[test]
    fn what_is_written_is_flushed() {
        let metrics = Metrics::default();
        let mut outbox = Outbox::default();
        outbox.push(Frame::text("a").as_bytes(), None);
        let mut stream = BufWriter::with_capacity(64, Cursor::new(Vec::new()));
        let mut cx = Context::from_waker(Waker::noop());
        let sent = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        assert_eq!(stream.get_ref().get_ref(), b"\x81\x01a");
        assert!(outbox.batch.is_none(), "nothing is kept");
        assert_eq!(metrics.counts().messages_out, 1);
    }

    #[test]
    fn what_a_broken_connection_has_not_taken_whole_is_counted_as_lost() {
        // Two frames of three bytes, of which so many are written.
        for (room, sent) in [(0, 0), (2, 0), (3, 1), (5, 1)] {
            let metrics = Metrics::default();
            let mut outbox = Outbox::default();
            outbox.push(Frame::text("a").as_bytes(), None);
            outbox.push(Frame::text("b").as_bytes(), None);
            let mut space = vec![0; room];
            let mut stream = Cursor::new(space.as_mut_slice());
            let mut cx = Context::from_waker(Waker::noop());
            let result = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
            assert!(matches!(result, Poll::Ready(Err(_))), "no more room");
            outbox.abandon(&metrics);
            let counts = metrics.counts();
            assert_eq!((counts.messages_out, counts.lost_unsent), (sent, 2 - sent));
            assert_eq!(outbox.len(), 0);
        }
    }

    #[test]
    fn a_cut_keeps_the_frame_that_is_begun_and_nothing_after_it() {
        // Three frames of three bytes, of which so many are written.
        for (written, kept) in [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)] {
            let metrics = Metrics::default();
            let mut outbox = Outbox::default();
            for text in ["a", "b", "c"] {
                outbox.push(Frame::text(text).as_bytes(), None);
            }
            let mut space = vec![0; written];
            let mut stream = Cursor::new(space.as_mut_slice());
            let mut cx = Context::from_waker(Waker::noop());
            let sent = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
            assert!(matches!(sent, Poll::Ready(Err(_))), "there is no more room");
            assert_eq!(outbox.written(), written);
            outbox.cut(&metrics);
            assert_eq!(outbox.len(), kept * 3, "{written} bytes written");
            assert_eq!(metrics.counts().lost_unsent, 3 - kept as u64);
        }
    }

    #[test]
    fn a_batch_is_given_its_memory_at_once() {
        let mut outbox = Outbox::default();
        outbox.reserve(3, 1000);
        let batch = outbox.batch();
        assert!(batch.bytes.capacity() >= 1000 && batch.ends.capacity() >= 3);
        let mut outbox = Outbox::default();
        outbox.reserve(0, 0);
        assert!(outbox.batch.is_none(), "nothing is kept for nothing");
    }
}
