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

/// The history of a service or of a kind of rooms, and the clients that see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// The messages that each room keeps.
    pub retention: Retention,
    /// The clients that get messages which were published before they came. Default
    /// [`Recovery::Asked`].
    pub recovery: Recovery,
    /// The clients that may read the history. Default [`Readers::Members`].
    pub read: Readers,
}

impl From<Retention> for HistoryPolicy {
    fn from(retention: Retention) -> Self {
        Self {
            retention,
            recovery: Recovery::default(),
            read: Readers::default(),
        }
    }
}

/// The clients that get messages which were published before they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// Every client is told positions, and a client that shows one recovers from there.
    ///
    /// For a WebSocket of one room this is [`Asked`](Self::Asked): the two differ where a protocol
    /// lets a client join without being told positions.
    Always,
    /// Every client that can be told positions is told them, and recovers if it shows one.
    #[default]
    Asked,
    /// Every client gets the newest message first.
    Newest,
    /// No client recovers, and none is told a position when it joins.
    Off,
}

/// The clients that may read a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Every client that is admitted to the server, also without joining the room.
    ///
    /// A WebSocket of one room has joined it: for its client this is [`Members`](Self::Members).
    All,
    /// Every client of the service or room.
    #[default]
    Members,
    /// No client.
    Nobody,
}

/// The bounds of the file in which a server leaves its histories to the next one;
/// [`HistoryFileLimits::default`] has the default of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryFileLimits {
    /// The most bytes of the file. Histories that do not fit are left out, and a larger file is not
    /// read. A start holds the file and its histories in memory at once. Default 1 GiB.
    pub bytes: u64,
    /// The longest time in which the file is written. After half of it no further history is
    /// begun. Default 10 s.
    pub timeout: Duration,
}

impl Default for HistoryFileLimits {
    fn default() -> Self {
        Self {
            bytes: 1024 * 1024 * 1024,
            timeout: Duration::from_secs(10),
        }
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
