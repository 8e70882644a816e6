//! The messages of a history, and the notices, that a client wants when it joins.

use super::subprotocol::Subprotocol;
use crate::bus::{Position, Since, Start};
use crate::limits::{HistoryPolicy, Readers, Recovery};

/// The wish of a client for messages that were published before it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The position from which the client goes on; of no effect in
    /// [`Subprotocol::Plain`], which cannot tell whether it could.
    pub since: Option<Since>,
    /// The number of the newest messages that come first; of no effect with `since`.
    pub last: u64,
}

impl Wish {
    /// Whether the client wants to read a history that it may not read.
    pub(super) fn is_forbidden(&self, history: Option<&HistoryPolicy>) -> bool {
        self.last > 0 && history.is_some_and(|history| history.read == Readers::Nobody)
    }

    /// The place at which the client's subscription begins.
    pub(super) fn start(
        &self,
        history: Option<&HistoryPolicy>,
        speaks: Subprotocol,
        most: usize,
    ) -> Start {
        // A position without an epoch is that of any client, also of one that was never there.
        let may_read = history.is_none_or(|history| history.read != Readers::Nobody);
        let since = self.since.filter(|since| may_read || since.epoch.is_some());
        let since = since.filter(|_| speaks.tells_positions());
        let recovery = history.map_or(Recovery::Off, |history| history.recovery);
        match (recovery, since) {
            (Recovery::Newest, _) => Start::Newest,
            (Recovery::Always | Recovery::Asked, Some(since)) => Start::After(since),
            _ if self.last > 0 => Start::Last(self.last.min(most as u64)),
            _ => Start::Next,
        }
    }
}

impl Asking {
    /// Whether the client reads events. It comes back again and again, and only an answer without a
    /// stream keeps it from that; clients of other subprotocols are told of an end once more.
    pub(super) fn is_of_events(&self) -> bool {
        self.subprotocol == Subprotocol::Events
    }

    /// Whether the client has all messages up to this position.
    pub(super) fn is_at(&self, position: Option<Position>) -> bool {
        let since = self.wish.since.filter(|since| since.epoch.is_some());
        let has_all = |position: Position| {
            since.is_some_and(|since| {
                since.matches(position.epoch) && since.offset == position.offset
            })
        };
        position.is_some_and(has_all)
    }
}

/// The subprotocol of a client, and its wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// The subprotocol to speak with the client.
    pub subprotocol: Subprotocol,
    /// The messages that the client wants first.
    pub wish: Wish,
    /// Whether the client wants to be told of joins and leaves; of no effect in
    /// [`Subprotocol::Plain`], which has no notices.
    pub join_leave: bool,
}
