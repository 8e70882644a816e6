//! The frames gathered for one client.

use std::cell::Cell;

use crate::bus::BatchSpan;
use crate::histogram::Histogram;
use crate::metrics::Metrics;
use crate::rt::Instant;
use crate::wire::{Frames, parts};

/// Gathered frames.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    /// The messages in `bytes`, by batch.
    pub(super) spans: Vec<BatchSpan>,
}

/// The largest capacity, in bytes and in frames, with which an emptied buffer is kept for reuse.
pub(super) const FREE_BYTES_MAX: usize = 65_536;
const FREE_FRAMES_MAX: usize = 1024;

thread_local! {
    /// The last buffer written on this thread, kept for reuse: most buffers are filled and written
    /// within one poll.
    pub(super) static FREE: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

impl Buffer {
    /// An empty buffer, which reuses the kept one's memory if there is one.
    #[inline(never)]
    pub(super) fn acquire() -> Box<Self> {
        let free = FREE.try_with(Cell::take);
        free.ok().flatten().unwrap_or_default()
    }

    /// The number of messages in the buffer.
    pub(super) fn messages(&self) -> usize {
        self.spans.iter().map(|span| span.messages).sum()
    }

    /// The number of messages of which the socket has accepted every byte.
    pub(super) fn whole_messages(&self) -> usize {
        let whole = |span: &BatchSpan| {
            if span.end <= self.written {
                return span.messages;
            }
            let written = self.written.saturating_sub(span.start);
            let frames = parts(&self.bytes[span.start..span.end]);
            frames.take_while(|part| part.end <= written).count()
        };
        self.spans.iter().map(whole).sum()
    }

    #[inline]
    pub(super) fn push(&mut self, frames: &Frames, published: Option<Instant>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frames.as_bytes());
        self.spans.push(BatchSpan {
            start,
            end: self.bytes.len(),
            messages: frames.len(),
            published,
        });
    }

    /// Observes how long after their publish the messages were written, and keeps the memory for
    /// the next buffer of this thread.
    pub(super) fn finish(self: Box<Self>, written_after: &Histogram, now: Instant) {
        let published = self.spans.iter().flat_map(BatchSpan::each_published);
        written_after.observe_all(published.map(|at| now.nanos_since(at)), 1);
        self.free();
    }

    fn free(mut self: Box<Self>) {
        let is_small = self.bytes.capacity() <= FREE_BYTES_MAX;
        if is_small && self.spans.capacity() <= FREE_FRAMES_MAX {
            self.bytes.clear();
            self.spans.clear();
            self.written = 0;
            // A thread that is ending has no storage left for the buffer.
            let _gone = FREE.try_with(|free| free.set(Some(self)));
        }
    }

    /// Releases unused capacity.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
            self.spans.shrink_to_fit();
        }
    }

    /// Drops the frames of which no byte is written, and counts them.
    pub(super) fn cut(&mut self, metrics: &Metrics) {
        let before = self.messages();
        let begun = match self.written {
            0 => 0,
            written => {
                // A control frame that is partly written after the last message stays with the
                // bytes that follow.
                let Some(index) = self.spans.iter().position(|span| span.end >= written) else {
                    return;
                };
                self.spans[index] = self.cut_behind(self.spans[index], written);
                index + 1
            }
        };
        self.spans.truncate(begun);
        self.spans.shrink_to_fit();
        metrics.lost_unsent.add((before - self.messages()) as u64);
        self.bytes
            .truncate(self.spans.last().map_or(0, |span| span.end));
        self.bytes.shrink_to_fit();
    }

    /// The mark of a batch, without the frames after the one in which the written bytes end.
    fn cut_behind(&self, span: BatchSpan, written: usize) -> BatchSpan {
        let written = written.saturating_sub(span.start);
        let mut frames = parts(&self.bytes[span.start..span.end]).enumerate();
        let begun = frames.find(|(_, part)| part.end >= written);
        let (index, part) = begun.expect("the batch ends there or later");
        BatchSpan {
            end: span.start + part.end,
            messages: index + 1,
            ..span
        }
    }
}
