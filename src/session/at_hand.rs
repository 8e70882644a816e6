//! What a client has sent and its service has not taken yet.

use crate::bus::{Batch, Message};
use crate::rt::Instant;

/// Messages that are handed over at once, if they were read at once.
pub(super) const MESSAGES_MAX: usize = 16;

/// Messages at hand.
pub(super) struct AtHand {
    pub(super) first: Message,
    pub(super) rest: Batch,
    /// Since when the first of them is.
    pub(super) since: Instant,
}

impl AtHand {
    pub(super) fn one(first: Message, since: Instant) -> Self {
        Self {
            first,
            rest: Batch::default(),
            since,
        }
    }

    pub(super) fn messages(&self) -> usize {
        1 + self.rest.len()
    }

    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.first.len() + self.rest.bytes()
    }
}
