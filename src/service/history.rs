//! The history of a room, as the room's own service sees it.

use super::Context;
use crate::bus::{Batch, HistoryError, Page, Position, Reading};

impl Context {
    /// Publishes a message or a batch to every client of this service, as
    /// [`publish`](Self::publish) does, but keeps it out of the history: for cursors, typing and
    /// other news that no client wants later. Returns the number of clients.
    ///
    /// Such messages have no offset and are never recovered; clients receive them in their order.
    pub fn publish_live(&self, messages: impl Into<Batch>) -> usize {
        self.publish(messages.into().live())
    }

    /// Reads from the history of the room, at most
    /// [`history_read_max`](crate::limits::HistoryLimits::history_read_max) messages; it outlives
    /// this run of the service, and has messages of earlier runs, too.
    ///
    /// # Errors
    ///
    /// When the service has no history, or the reading wants another epoch.
    pub fn history(&self, reading: &Reading) -> Result<Page, HistoryError> {
        self.bus().history(self.to_all(), reading)
    }

    /// The position of the history: its epoch and the offset of the newest message; `None` without
    /// a history.
    ///
    /// A snapshot that a client gets with this position is complete together with the messages
    /// after it.
    pub fn position(&self) -> Option<Position> {
        self.bus().position(self.to_all())
    }
}
