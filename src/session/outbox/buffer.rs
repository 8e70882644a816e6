//! What is gathered for one client.

use std::cell::Cell;

use crate::bus::{Mark, Train};
use crate::histogram::Histogram;
use crate::metrics::Metrics;
use crate::rt::Instant;

/// What is gathered.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// All there is, until there is something else.
    pub(super) train: Option<Train>,
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    /// The data frames in `bytes`.
    pub(super) marks: Vec<Mark>,
}

/// Bytes and frames for which an emptied buffer has room at most, if it is used again.
pub(super) const SPARE_BYTES_MAX: usize = 65_536;
const SPARE_FRAMES_MAX: usize = 1024;

thread_local! {
    /// The buffer that was written last: mostly one is gathered and written in the same poll.
    pub(super) static SPARE: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

impl Buffer {
    /// An empty one, with the memory of the last one if there is.
    #[inline(never)]
    pub(super) fn spared() -> Box<Self> {
        let spare = SPARE.try_with(Cell::take);
        spare.ok().flatten().unwrap_or_default()
    }

    /// The frames, one after the other.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.train {
            Some(train) => train.frames().as_bytes(),
            None => &self.bytes,
        }
    }

    /// Messages among them.
    pub(super) fn messages(&self) -> usize {
        self.train.as_ref().map_or(self.marks.len(), Train::len)
    }

    /// Something comes behind a train that was all there was.
    #[cold]
    pub(super) fn copy_train(&mut self) {
        if let Some(train) = self.train.take() {
            self.push_train(train);
        }
    }

    /// Adds a copy of messages that came together.
    pub(super) fn push_train(&mut self, train: Train) {
        let (before, published) = (self.bytes.len(), train.published_at());
        self.bytes.extend_from_slice(train.frames().as_bytes());
        self.marks.extend(train.frames().ends().map(|end| Mark {
            end: before + end,
            published,
        }));
        train.leave();
    }

    #[inline]
    pub(super) fn push(&mut self, frame: &[u8], published: Option<Instant>) {
        self.bytes.extend_from_slice(frame);
        let end = self.bytes.len();
        self.marks.push(Mark { end, published });
    }

    /// Everything was written: observes how long after their publish, and leaves the memory to the
    /// next one of this thread.
    pub(super) fn finish(mut self: Box<Self>, written_after: &Histogram, now: Instant) {
        if let Some(train) = self.train.take() {
            let took = train.published_at().map(|at| now.nanos_since(at));
            written_after.observe_all(took, train.len() as u64);
            train.leave();
        }
        let published = self.marks.iter().filter_map(|mark| mark.published);
        written_after.observe_all(published.map(|at| now.nanos_since(at)), 1);
        self.spare();
    }

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

    /// Takes no more memory than it needs.
    pub(super) fn shrink(&mut self) {
        if let Some(train) = &mut self.train {
            train.shrink();
        }
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
            self.marks.shrink_to_fit();
        }
    }

    /// Drops the frames that are not yet being written, and counts them.
    pub(super) fn cut(&mut self, metrics: &Metrics) {
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
