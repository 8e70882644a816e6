//! A coalesced write: the newest messages of a topic, joined once for all readers that keep up.

use super::batch::Batch;
use super::origin::{Generation, Origin};
use crate::histogram::{Histogram, Moments};
use crate::instant::Instant;
use crate::planted::{self, Bug};
use crate::wire::Frames;

/// The plain frames of a topic's newest messages, from an offset to the tail of the log.
#[derive(Debug)]
pub(crate) struct Burst {
    first: u64,
    frames: Frames,
    spans: Box<[BatchSpan]>,
    /// The times at which services published the messages, as sums.
    published: Moments,
    /// The oldest service instance among the publishers; `None` if no service published a message.
    oldest: Option<Generation>,
}

/// The position of one batch among bytes that are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    /// The position where the first frame starts.
    pub(crate) start: usize,
    /// The position where the last frame ends.
    pub(crate) end: usize,
    pub(crate) messages: usize,
    /// When a service published the messages; `None` for messages of other origin.
    pub(crate) published: Option<Instant>,
}

/// The conditions under which a reader accepts a burst; it reads other messages batch by batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BurstFilter {
    /// The largest length of all frames together, in bytes.
    pub(crate) bytes_max: usize,
    /// The oldest service instance whose messages the reader accepts.
    pub(crate) since: Generation,
}

impl BatchSpan {
    /// Makes the span of a batch whose frames start at `start`.
    pub(crate) fn of(batch: &Batch, start: usize) -> Self {
        Self {
            start,
            end: start + batch.frames().as_bytes().len(),
            messages: batch.len(),
            published: batch.published_at(),
        }
    }

    /// The time at which a service published the messages, once for each message; empty for
    /// messages of other origin.
    pub(crate) fn each_published(&self) -> impl Iterator<Item = Instant> + use<> {
        let messages = self.published.map_or(0, |_published| self.messages);
        std::iter::repeat_n(self.published, messages).flatten()
    }
}

impl Burst {
    /// Joins batches, the first message of which has the offset `first`; `None` without batches.
    pub(super) fn of<'a>(
        first: u64,
        batches: impl Iterator<Item = &'a Batch> + Clone,
    ) -> Option<Self> {
        let frames = Frames::join(batches.clone().map(Batch::frames))?;
        let mut end = 0;
        let spans = batches.clone().map(|batch| {
            let span = BatchSpan::of(batch, end);
            end = span.end;
            span
        });
        let spans: Box<[BatchSpan]> = spans.collect();
        let generations = batches.filter_map(|batch| match batch.origin() {
            Origin::Service(generation) => Some(*generation),
            Origin::Client(_) | Origin::Unknown => None,
        });
        Some(Self {
            first,
            published: spans.iter().flat_map(BatchSpan::each_published).collect(),
            frames,
            oldest: generations.min(),
            spans,
        })
    }

    /// The offset of the first message.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the message that follows the burst.
    pub(super) fn end(&self) -> u64 {
        self.first + self.messages() as u64
    }

    /// The number of messages.
    pub(crate) fn messages(&self) -> usize {
        self.frames.len()
    }

    /// The encoded frames, one after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.frames.as_bytes()
    }

    /// The positions of the batches in [`bytes`](Self::bytes).
    pub(crate) fn spans(&self) -> &[BatchSpan] {
        &self.spans
    }

    /// Records the time from the publish of each message to `end`, at which this many writes ended.
    pub(crate) fn observe(&self, histogram: &Histogram, writes: u64, end: Instant) {
        let each = || self.spans.iter().flat_map(BatchSpan::each_published);
        histogram.observe_since(&self.published, each, end, writes);
    }

    fn is_since(&self, since: Generation) -> bool {
        let is_fresh = |oldest| oldest >= since || planted::is(Bug::StaleDelivered);
        self.oldest.is_none_or(is_fresh)
    }

    pub(super) fn suits(&self, filter: BurstFilter) -> bool {
        self.bytes().len() <= filter.bytes_max && self.is_since(filter.since)
    }
}
