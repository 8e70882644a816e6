//! Messages of one origin that came together, and go on together.

use super::message::{Generation, Message, Origin};
use crate::instant::Instant;
use crate::wire::Frames;

/// Messages of one origin in one piece of memory, the oldest first.
///
/// A log that has one reader keeps them as they are, and that reader may take them so: what is done
/// once for each message elsewhere is done once for all of these. Whatever does not suit all of
/// them makes [messages](Self::messages) of them, which are as any others.
#[derive(Debug)]
pub(crate) struct Train {
    frames: Box<Frames>,
    origin: Origin,
    /// When a service published them, on its runtime's clock.
    published: Option<Instant>,
}

impl Train {
    /// What this one has said.
    pub(crate) fn new(frames: Box<Frames>, origin: Origin) -> Self {
        Self {
            frames,
            origin,
            published: None,
        }
    }

    /// How many messages there are, one at least.
    pub(crate) fn len(&self) -> usize {
        self.frames.messages()
    }

    /// The bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.frames.payload_bytes()
    }

    /// The messages as WebSocket frames.
    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// When a service published them, if one did.
    pub(crate) fn published_at(&self) -> Option<Instant> {
        self.published
    }

    /// Whether an instance before this one published them.
    pub(crate) fn is_before(&self, generation: Generation) -> bool {
        self.origin.is_before(generation)
    }

    /// The same as published by `origin` at this time; who said them before.
    pub(crate) fn publish(&mut self, origin: Origin, at: Option<Instant>) -> Origin {
        self.published = at;
        std::mem::replace(&mut self.origin, origin)
    }

    /// Each of them by itself.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message> {
        self.frames
            .each()
            .map(|frame| Message::made(frame, self.origin.clone(), self.published))
    }

    /// It is done with: its memory is left to the next one.
    pub(crate) fn leave(self) {
        self.frames.leave();
    }

    /// Takes no more memory than it fills, if it takes more than twice as much.
    pub(crate) fn shrink(&mut self) {
        self.frames.shrink();
    }
}

#[cfg(test)]
impl Train {
    /// These texts, of nobody.
    pub(crate) fn of_texts(texts: &[&str]) -> Self {
        Self::new(Frames::of_texts(texts), Origin::Unknown)
    }
}
