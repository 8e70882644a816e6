//! The presence of a kind of rooms: the clients that are there, as others see them.

use std::time::Duration;

use super::history::Readers;

/// The presence of a service or of a kind of rooms.
///
/// A room tells the number of a client, its subject and the facts that are chosen here; never its
/// address, its query or its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresencePolicy {
    /// The clients that can be asked for. Default [`Keep::Off`].
    pub keep: Keep,
    /// The clients that are told of joins and leaves. Default [`Tell::Off`].
    pub tell: Tell,
    /// The time for which the notice of a leave is held back. A client of the same subject that
    /// joins meanwhile takes the place of the client that has left. At most [`HELD_LEAVES_MAX`]
    /// leaves are held back. Default 0.
    pub leave_delay: Duration,
    /// The clients that may ask for the clients of a room. Default [`Readers::Members`].
    pub read: Readers,
    /// The claims of a client's token that others see as its `info`. Default none.
    pub claims: Vec<String>,
}

impl PresencePolicy {
    /// Whether a room has to know its clients for it.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep != Keep::Off || self.tell != Tell::Off
    }
}

/// The extent to which the clients of a room can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Only the numbers of clients and of subjects can be asked for.
    Count,
    /// The clients can be asked for.
    List,
    /// Nothing can be asked for.
    #[default]
    Off,
}

/// The clients that are told of the joins and leaves of their room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tell {
    /// Every client that can be told.
    All,
    /// Every client that asks for it when it joins.
    Asked,
    /// No client.
    #[default]
    Off,
}

/// The most leaves that one room holds back; for one more the oldest is told.
pub const HELD_LEAVES_MAX: usize = 100_000;

/// The bounds of presence in each room; [`PresenceLimits::default`] has the default of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceLimits {
    /// The most clients that one answer or one notice lists, at least one. An answer and a notice
    /// have about 512 KiB of what clients show, but for a single client. Default 1,000.
    pub clients: usize,
    /// The joins and leaves of a second that are told at once; further ones are told together at
    /// the end of the second. Default 10.
    pub at_once: usize,
}

impl Default for PresenceLimits {
    fn default() -> Self {
        Self {
            clients: 1_000,
            at_once: 10,
        }
    }
}
