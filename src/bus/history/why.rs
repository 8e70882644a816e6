//! The reasons why a history lacks messages.

use std::fmt;

/// The reason why a client could not recover the messages that it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The client knows a newer message than there is.
    Ahead,
    /// The history is another one: its epoch differs.
    Epoch,
    /// A missed message was dropped to keep to a bound.
    Evicted,
    /// A missed message is older than the `ttl`.
    Expired,
    /// A missed message was removed on request.
    Removed,
    /// The client missed more messages than one recovery brings.
    TooMany,
}

/// The reason why a message was dropped from a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A bound on messages or bytes, of the room or of all rooms.
    Evicted,
    /// The `ttl`.
    Expired,
    /// A request to remove all messages.
    Removed,
}

/// Numbers of messages that were dropped from histories, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Messages beyond a bound of their room, or of all rooms.
    pub evicted: u64,
    /// Messages older than the `ttl`.
    pub expired: u64,
    /// Messages that were removed on request.
    pub removed: u64,
}

impl Dropped {
    /// The number of this cause.
    pub(super) fn of_mut(&mut self, cause: Cause) -> &mut u64 {
        match cause {
            Cause::Evicted => &mut self.evicted,
            Cause::Expired => &mut self.expired,
            Cause::Removed => &mut self.removed,
        }
    }
}

impl Why {
    /// The name, as clients are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Epoch => "epoch",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Removed => "removed",
            Self::TooMany => "too_many",
        }
    }
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Evicted => Self::Evicted,
            Cause::Expired => Self::Expired,
            Cause::Removed => Self::Removed,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
