//! What a topic has for those who keep up: frames joined for one write, once for all of them.

use super::message::{Generation, Message, Origin};
use crate::histogram::{Histogram, Moments};
use crate::instant::Instant;
use crate::planted::{self, Bug};

/// The plain frames of a topic's newest messages, from an offset to the tail.
#[derive(Debug)]
pub(crate) struct Burst {
    first: u64,
    bytes: Box<[u8]>,
    marks: Box<[Mark]>,
    /// When services published them, all in all.
    published: Moments,
    /// The oldest instance that says any of it; `None` where none does.
    oldest: Option<Generation>,
}

/// One message of what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where its frame ends.
    pub(crate) end: usize,
    /// When a service published it, if one did.
    pub(crate) published: Option<Instant>,
}

/// What a reader takes as a burst, and otherwise message by message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Bytes of all frames at most.
    pub(crate) bytes_max: usize,
    /// Nothing of an older instance.
    pub(crate) since: Generation,
}

impl Burst {
    /// Joins the frames of these messages, of which the first has this number.
    pub(super) fn of<'a>(first: u64, messages: impl Iterator<Item = &'a Message> + Clone) -> Self {
        // Exactly as much as there will be: a box of it is the same memory.
        let frames = messages.clone().map(|m| m.frame().as_bytes().len());
        let mut bytes = Vec::with_capacity(frames.sum());
        let mut marks = Vec::with_capacity(messages.size_hint().0);
        let mut oldest: Option<Generation> = None;
        for message in messages {
            bytes.extend_from_slice(message.frame().as_bytes());
            marks.push(Mark {
                end: bytes.len(),
                published: message.published_at(),
            });
            if let Origin::Service(generation) = message.origin() {
                oldest = Some(oldest.map_or(*generation, |oldest| *generation.min(&oldest)));
            }
        }
        Self {
            first,
            published: marks.iter().filter_map(|mark| mark.published).collect(),
            bytes: bytes.into_boxed_slice(),
            marks: marks.into_boxed_slice(),
            oldest,
        }
    }

    /// The number of its first message.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the message that follows it.
    pub(super) fn next(&self) -> u64 {
        self.first + self.marks.len() as u64
    }

    /// The frames, one after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its messages.
    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Observes how long each message took from its publish to so many writes that ended then.
    pub(crate) fn observe(&self, histogram: &Histogram, writes: u64, end: Instant) {
        let each = || self.marks.iter().filter_map(|mark| mark.published);
        histogram.observe_since(&self.published, each, (end, writes));
    }

    fn is_since(&self, since: Generation) -> bool {
        let is_fresh = |oldest| oldest >= since || planted::is(Bug::StaleDelivered);
        self.oldest.is_none_or(is_fresh)
    }

    pub(super) fn suits(&self, terms: Terms) -> bool {
        self.bytes.len() <= terms.bytes_max && self.is_since(terms.since)
    }
}
