//! The bounds of histories: of the history of one room, and of all of them together.

use std::num::NonZeroUsize;
use std::time::Duration;

/// The messages that each room of a kind keeps for clients that come, or come back. All three
/// bounds apply: a message is kept until the first of them drops it, the oldest message first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The most messages.
    pub messages: NonZeroUsize,
    /// The most bytes of memory that the messages hold, headers of frames and of the history
    /// included.
    pub bytes: usize,
    /// The age at which a message expires; to the millisecond.
    pub ttl: Duration,
    /// The most messages that one recovery brings; a client that missed more is told `too_many`.
    /// Default `None`: as many as [`messages`](Self::messages).
    pub recovery_max: Option<usize>,
}

impl Retention {
    /// The most messages that one recovery brings.
    pub fn recovery_max(&self) -> usize {
        self.recovery_max.unwrap_or_else(|| self.messages.get())
    }
}

/// The bounds of all histories together; [`HistoryLimits::default`] has the default of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The most bytes of memory that the messages of all histories hold. Above the bound, the
    /// oldest messages of rooms without clients are dropped, first those of the same maker.
    /// Default 1 GiB.
    pub history_bytes: u64,
    /// The most histories of rooms without clients, each with its epoch and its offset, some 500
    /// bytes. Default 1,000,000.
    pub positions: usize,
    /// The time from the last use of a room until its epoch and its offset are forgotten, if it has
    /// no client and its messages have expired. Default 24 h.
    pub position_ttl: Duration,
    /// The most messages that one reading of a history returns. Default 1,000.
    pub history_read_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            history_bytes: 1024 * 1024 * 1024,
            positions: 1_000_000,
            position_ttl: Duration::from_secs(24 * 60 * 60),
            history_read_max: 1_000,
        }
    }
}
