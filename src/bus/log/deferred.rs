//! Losses that are not decided yet: a topic with a history has lost a message only if its reader
//! does not read it from there.

use super::{Cursor, Log};

impl Log {
    /// Makes the log of a topic with a history: a message that falls out of the window stays
    /// pending for its readers until they read on or leave.
    pub(in crate::bus) fn deferring(self) -> Self {
        let deferred = Some(self.deferred.unwrap_or(0));
        Self { deferred, ..self }
    }

    /// Whether losses are deferred.
    pub(in crate::bus) fn defers(&self) -> bool {
        self.deferred.is_some()
    }

    /// Adds a reader like [`attach`](Self::attach), which is owed so many older messages, too.
    pub(in crate::bus) fn attach_behind(&mut self, older: u64) -> Cursor {
        let cursor = self.attach();
        self.counts.owed += older;
        self.counts.pending += older;
        *self.deferred_mut() += older;
        self.check();
        cursor
    }

    /// The number of messages that fell out of the window before the reader read them.
    pub(in crate::bus) fn missed(&self, cursor: &Cursor) -> u64 {
        self.position(cursor) - cursor.0
    }

    /// Moves the cursor over messages before the window.
    pub(in crate::bus) fn pass(&self, cursor: &mut Cursor, messages: u64) {
        cursor.0 += messages;
        debug_assert!(
            cursor.0 <= self.head(),
            "a reader at {} passes messages that its log has, from {} on",
            cursor.0,
            self.head(),
        );
    }

    /// Counts deferred messages that a reader has read from the history.
    pub(in crate::bus) fn count_recovered(&mut self, messages: u64) {
        self.counts.delivered += messages;
        self.settle(messages);
    }

    /// Counts deferred messages that a reader has lost.
    pub(in crate::bus) fn count_lagged(&mut self, messages: u64) {
        self.counts.lost_lagged += messages;
        self.settle(messages);
    }

    /// Counts deferred messages that a reader gave up because it has left.
    pub(in crate::bus) fn count_unread(&mut self, messages: u64) {
        self.counts.lost_unsubscribed += messages;
        self.settle(messages);
    }

    /// Counts deferred messages that a reader gave up for a newer one.
    pub(in crate::bus) fn count_superseded(&mut self, messages: u64) {
        self.counts.lost_superseded += messages;
        self.settle(messages);
    }

    fn settle(&mut self, messages: u64) {
        if messages == 0 {
            return;
        }
        self.counts.pending -= messages;
        *self.deferred_mut() -= messages;
        self.check();
    }

    fn deferred_mut(&mut self) -> &mut u64 {
        let deferred = self.deferred.as_mut();
        deferred.expect("only the log of a topic with a history defers losses")
    }
}
