//! What a session is writing: whole frames, gathered for one write.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use crate::bus::{Burst, Mark, Train};
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::wire::{ControlKind, ControlPayload, Frame, append_control};

/// Frames on their way to the socket; holds no memory while it is empty.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Gathered for this client.
    own: Option<Box<Buffer>>,
    /// What everybody gets who keeps up, in the place of what is gathered.
    shared: Option<Shared>,
    unflushed: bool,
    /// Whether something is being passed on that is not here.
    passes: bool,
}

/// What is gathered.
#[derive(Debug, Default)]
struct Buffer {
    /// All there is, until there is something else.
    train: Option<Train>,
    bytes: Vec<u8>,
    written: usize,
    /// The data frames in `bytes`.
    marks: Vec<Mark>,
}

/// Bytes and frames for which an emptied buffer has room at most, if it is used again.
const SPARE_BYTES_MAX: usize = 65_536;
const SPARE_FRAMES_MAX: usize = 1024;

thread_local! {
    /// The buffer that was written last: mostly one is gathered and written in the same poll.
    static SPARE: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

/// How far something was passed on to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It is written and flushed.
    Flushed,
    /// Not all of it is written.
    Not,
    /// It is written, and to be flushed.
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
            (None, Some(buffer)) => buffer.bytes(),
            (None, None) => &[],
        }
    }

    /// What it is writing, from now on of this client alone.
    #[inline]
    fn own(&mut self) -> &mut Buffer {
        if self.shared.is_some() {
            self.copy_shared();
        }
        let buffer = self.own.get_or_insert_with(Buffer::spared);
        if buffer.train.is_some() {
            buffer.copy_train();
        }
        buffer
    }

    #[cold]
    fn copy_shared(&mut self) {
        if let Some(Shared { burst, written }) = self.shared.take() {
            self.own = Some(Box::new(Buffer {
                train: None,
                bytes: burst.bytes().to_vec(),
                written,
                marks: burst.marks().to_vec(),
            }));
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self.shared.is_none() && self.own.is_none();
        debug_assert_eq!(is_empty, self.len() == 0, "nothing empty is kept");
        is_empty
    }

    /// Whether it is empty, and what was in it is flushed.
    pub(super) fn is_settled(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether a message is among what is being written.
    pub(super) fn has_messages(&self) -> bool {
        self.messages() > 0
    }

    /// Messages among what is being written.
    pub(super) fn messages(&self) -> u64 {
        let messages = match (&self.shared, &self.own) {
            (Some(shared), _) => shared.burst.marks().len(),
            (None, Some(buffer)) => buffer.messages(),
            (None, None) => 0,
        };
        messages as u64
    }

    pub(super) fn push(&mut self, frame: &[u8], published: Option<Instant>) {
        self.own().push(frame, published);
    }

    /// Adds messages that came together; they are not copied where there is nothing else.
    pub(super) fn push_train(&mut self, train: Train) {
        let is_alone = self.is_empty();
        let buffer = self.own();
        if is_alone {
            buffer.train = Some(train);
        } else {
            buffer.push_train(train);
        }
    }

    /// Adds what everybody gets; it is not copied where there is nothing else.
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
        buffer.marks.extend(burst.marks().iter().map(|mark| Mark {
            end: before + mark.end,
            ..*mark
        }));
    }

    /// What is said of messages, and is none itself.
    pub(super) fn push_notice(&mut self, frame: &Frame) {
        self.own().bytes.extend_from_slice(frame.as_bytes());
    }

    pub(super) fn push_control(&mut self, kind: ControlKind, payload: &ControlPayload) {
        append_control(&mut self.own().bytes, kind, payload);
    }

    /// Bytes of the present content that the socket has taken.
    pub(super) fn written(&self) -> usize {
        match (&self.shared, &self.own) {
            (Some(shared), _) => shared.written,
            (None, Some(buffer)) => buffer.written,
            (None, None) => 0,
        }
    }

    /// The socket has taken so many bytes more.
    fn advance(&mut self, bytes: usize) {
        match (&mut self.shared, &mut self.own) {
            (Some(shared), _) => shared.written += bytes,
            (None, Some(buffer)) => buffer.written += bytes,
            (None, None) => {}
        }
    }

    /// Writes what everybody gets through to the socket, if there is nothing else, and leaves it
    /// to the caller to count it; what is not written is added.
    ///
    /// If the stream panics, it is for the caller to [keep](Self::keep) it.
    pub(super) fn pass<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        (burst, metrics): (&Arc<Burst>, &Metrics),
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
            // What it is, the next write is told as well.
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
            // And so is the next flush.
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.unflushed = true;
                Passed::Written
            }
        }
    }

    /// Adds what a panic has kept from being passed on; it is here already if it came that far.
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

    /// Everything is written: counts it and gives the memory back.
    fn finish(&mut self, metrics: &Metrics, now: Instant) {
        metrics.messages_out.add(self.messages());
        let histogram = &metrics.written_after;
        if let Some(Shared { burst, .. }) = self.shared.take() {
            burst.observe(histogram, 1, now);
        }
        if let Some(mut buffer) = self.own.take() {
            if let Some(train) = buffer.train.take() {
                let took = train.published_at().map(|at| now.nanos_since(at));
                histogram.observe_all(took, train.len() as u64);
                train.leave();
            }
            let published = buffer.marks.iter().filter_map(|mark| mark.published);
            histogram.observe_all(published.map(|at| now.nanos_since(at)), 1);
            buffer.spare();
        }
        self.unflushed = !planted::is(Bug::FlushForgotten);
    }

    /// What waits takes no more memory than it needs.
    fn shrink(&mut self) {
        let Some(buffer) = &mut self.own else {
            return;
        };
        if let Some(train) = &mut buffer.train {
            train.shrink();
        }
        if buffer.bytes.capacity() > 2 * buffer.bytes.len() {
            buffer.bytes.shrink_to_fit();
            buffer.marks.shrink_to_fit();
        }
    }

    /// Drops the frames that are not yet being written, and counts them.
    pub(super) fn cut(&mut self, metrics: &Metrics) {
        if !self.is_empty() {
            self.own().cut(metrics);
            self.own.take_if(|buffer| buffer.bytes.is_empty());
        }
    }

    /// Counts what is and what is not written at the end of the session, and returns the latter.
    pub(super) fn abandon(&mut self, metrics: &Metrics) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let Buffer { marks, written, .. } = self.own();
        let whole = marks.partition_point(|mark| mark.end <= *written);
        metrics.messages_out.add(whole as u64);
        let unsent = (marks.len() - whole) as u64;
        metrics.lost_unsent.add(unsent);
        *self = Self::default();
        unsent
    }
}

impl Buffer {
    /// An empty one, with the memory of the last one if there is.
    #[inline(never)]
    fn spared() -> Box<Self> {
        let spare = SPARE.try_with(Cell::take);
        spare.ok().flatten().unwrap_or_default()
    }

    fn bytes(&self) -> &[u8] {
        match &self.train {
            Some(train) => train.frames().as_bytes(),
            None => &self.bytes,
        }
    }

    fn messages(&self) -> usize {
        self.train.as_ref().map_or(self.marks.len(), Train::len)
    }

    /// Something comes behind a train that was all there was.
    #[cold]
    fn copy_train(&mut self) {
        if let Some(train) = self.train.take() {
            self.push_train(train);
        }
    }

    /// Adds a copy of messages that came together.
    fn push_train(&mut self, train: Train) {
        let (before, published) = (self.bytes.len(), train.published_at());
        self.bytes.extend_from_slice(train.frames().as_bytes());
        self.marks.extend(train.frames().ends().map(|end| Mark {
            end: before + end,
            published,
        }));
        train.leave();
    }

    #[inline]
    fn push(&mut self, frame: &[u8], published: Option<Instant>) {
        self.bytes.extend_from_slice(frame);
        let end = self.bytes.len();
        self.marks.push(Mark { end, published });
    }

    /// Leaves its memory to the next one of this thread.
    fn spare(mut self: Box<Self>) {
        let is_small = self.bytes.capacity() <= SPARE_BYTES_MAX;
        if is_small && self.marks.capacity() <= SPARE_FRAMES_MAX {
            self.bytes.clear();
            self.marks.clear();
            self.written = 0;
            // A thread that ends keeps nothing.
            let _gone = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }

    fn cut(&mut self, metrics: &Metrics) {
        let begun = match self.written {
            0 => 0,
            written => self.marks.partition_point(|mark| mark.end < written) + 1,
        };
        // A control frame that is being written after the last data frame stays with what follows.
        let Some(end) = begun
            .checked_sub(1)
            .map_or(Some(0), |at| self.marks.get(at).map(|mark| mark.end))
        else {
            return;
        };
        metrics.lost_unsent.add((self.marks.len() - begun) as u64);
        self.marks.truncate(begun);
        self.marks.shrink_to_fit();
        self.bytes.truncate(end);
        self.bytes.shrink_to_fit();
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::Waker;

    use futures::io::{BufWriter, Cursor};

    use super::*;
    use crate::bus::Origin;

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
        assert!(
            outbox.own.is_none() && outbox.shared.is_none(),
            "nothing is kept"
        );
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

    /// What becomes of two messages that came together, of which so many bytes are written.
    #[test]
    fn of_what_came_together_each_message_is_written_or_lost_by_itself() {
        for (room, sent) in [(0, 0), (2, 0), (3, 1), (5, 1)] {
            let metrics = Metrics::default();
            let mut outbox = Outbox::default();
            outbox.push_train(Train::of_texts(&["a", "b"]));
            assert_eq!((outbox.messages(), outbox.len()), (2, 6));
            let mut space = vec![0; room];
            let mut stream = Cursor::new(space.as_mut_slice());
            let mut cx = Context::from_waker(Waker::noop());
            let result = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
            assert!(matches!(result, Poll::Ready(Err(_))), "no more room");
            assert_eq!(outbox.abandon(&metrics), 2 - sent);
            let counts = metrics.counts();
            assert_eq!((counts.messages_out, counts.lost_unsent), (sent, 2 - sent));
        }
    }

    #[test]
    fn what_came_together_is_written_as_it_is_and_counted_one_by_one() {
        let frame = Frame::text("x");
        let train = || {
            let mut train = Train::of_texts(&["a", "b"]);
            train.publish(Origin::Unknown, Some(Instant::ZERO));
            train
        };
        for (before, after) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
            let metrics = Metrics::default();
            let mut outbox = Outbox::default();
            (0..before).for_each(|_| outbox.push(frame.as_bytes(), None));
            outbox.push_train(train());
            (0..after).for_each(|_| outbox.push(frame.as_bytes(), None));
            let mut written = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            let sent = outbox.poll_send(&mut cx, &mut written, &metrics, Instant::ZERO);
            assert!(matches!(sent, Poll::Ready(Ok(()))));
            let x = |count| frame.as_bytes().repeat(count);
            let expected = [x(before), b"\x81\x01a\x81\x01b".to_vec(), x(after)];
            assert_eq!(written, expected.concat());
            let counts = metrics.counts();
            assert_eq!(counts.messages_out, (before + 2 + after) as u64);
            assert_eq!(counts.written_after.count(), 2, "those a service published");
            assert!(outbox.is_settled());
        }
    }

    #[test]
    fn what_came_together_is_cut_as_messages_are_and_takes_no_more_memory_than_it_needs() {
        for (written, kept) in [(0, 0), (1, 1), (3, 1), (4, 2)] {
            let metrics = Metrics::default();
            let mut outbox = Outbox::default();
            outbox.push_train(Train::of_texts(&["a", "b", "c"]));
            let mut space = vec![0; written];
            let mut stream = Cursor::new(space.as_mut_slice());
            let mut cx = Context::from_waker(Waker::noop());
            let sent = outbox.poll_send(&mut cx, &mut stream, &metrics, Instant::ZERO);
            assert!(matches!(sent, Poll::Ready(Err(_))), "there is no more room");
            outbox.cut(&metrics);
            assert_eq!(outbox.len(), kept * 3, "{written} bytes written");
            assert_eq!(metrics.counts().lost_unsent, 3 - kept as u64);
        }
        let mut outbox = Outbox::default();
        outbox.push_train(Train::of_texts(&["a", "b"]));
        assert!(send(&mut outbox, 2).is_pending());
        let train = outbox.own.as_ref().and_then(|buffer| buffer.train.as_ref());
        let memory = train.expect("it is alone").frames().capacity();
        assert_eq!((memory, outbox.written()), (6, 2));
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

    /// Sends all that is in the outbox into so much room.
    fn send(outbox: &mut Outbox, room: usize) -> Poll<io::Result<()>> {
        struct Narrow(usize);

        impl AsyncWrite for Narrow {
            fn poll_write(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken > 0 {
                    Poll::Ready(Ok(taken))
                } else {
                    Poll::Pending
                }
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        let mut cx = Context::from_waker(Waker::noop());
        outbox.poll_send(
            &mut cx,
            &mut Narrow(room),
            &Metrics::default(),
            Instant::ZERO,
        )
    }

    #[test]
    fn what_was_written_leaves_its_memory_to_the_next_unless_that_is_much() {
        for (bytes, kept) in [(SPARE_BYTES_MAX, true), (SPARE_BYTES_MAX + 1, false)] {
            SPARE.set(None);
            let mut outbox = Outbox::default();
            outbox.own().bytes.reserve_exact(bytes);
            outbox.push(Frame::text("a").as_bytes(), None);
            assert!(send(&mut outbox, 3).is_ready());
            let buffer = SPARE.take();
            assert_eq!(buffer.is_some(), kept, "{bytes} bytes");
            assert!(buffer.is_none_or(|buffer| buffer.bytes.is_empty() && buffer.written == 0));
        }
    }

    #[test]
    fn what_waits_for_the_socket_takes_no_more_memory_than_it_needs() {
        let mut outbox = Outbox::default();
        outbox.own().bytes.reserve(10_000);
        outbox.own().marks.reserve(100);
        outbox.push(Frame::text("a").as_bytes(), None);
        assert!(send(&mut outbox, 2).is_pending());
        let buffer = outbox.own();
        assert_eq!((buffer.bytes.capacity(), buffer.marks.capacity()), (3, 1));
        assert_eq!(buffer.written, 2);
        // Up to twice as much is left as it is.
        for (reserved, capacity) in [(60, 60), (61, 30)] {
            let mut outbox = Outbox::default();
            outbox.own().bytes.reserve_exact(reserved);
            for _ in 0..10 {
                outbox.push(Frame::text("a").as_bytes(), None);
            }
            assert!(send(&mut outbox, 2).is_pending());
            assert_eq!(outbox.own().bytes.capacity(), capacity);
        }
    }
}
