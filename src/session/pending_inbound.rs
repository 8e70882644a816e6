//! Messages of a client that its service has not accepted yet.

use crate::bus::Batch;
use crate::rt::Instant;

/// Messages of one read that are handed over together, at most.
pub(super) const MESSAGES_MAX: usize = 16;

/// Messages at hand, at least one.
pub(super) struct PendingInbound {
    pub(super) batch: Batch,
    /// When the first of the messages arrived.
    pub(super) since: Instant,
}
