//! What a client has sent and its service has not taken yet.

use crate::bus::Batch;
use crate::rt::Instant;

/// Messages that are handed over at once, if they were read at once.
pub(super) const MESSAGES_MAX: usize = 16;

/// Messages at hand, one at least.
pub(super) struct AtHand {
    pub(super) batch: Batch,
    /// Since when the first of them is.
    pub(super) since: Instant,
}
