//! What a client has sent and its service has not taken yet.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::bus::Message;
use crate::rt::Instant;

/// Messages that are handed over at once, if they were read at once.
pub(super) const MESSAGES_MAX: usize = 16;

thread_local! {
    /// What the last session of this thread has handed its messages over in; empty.
    static SPARE: Cell<VecDeque<Message>> = const { Cell::new(VecDeque::new()) };
}

/// Messages at hand, the oldest first: one at least.
pub(super) struct AtHand {
    pub(super) messages: VecDeque<Message>,
    /// Since when the first of them is.
    pub(super) since: Instant,
}

impl AtHand {
    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.messages.iter().map(Message::len).sum()
    }
}

/// Room for what is read at once.
pub(super) fn gather() -> VecDeque<Message> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

/// Leaves room that is not needed to the next one.
pub(super) fn spare(gathered: VecDeque<Message>) {
    debug_assert!(gathered.is_empty(), "what is in it would be lost");
    // A thread that ends keeps nothing.
    let _gone = SPARE.try_with(|spare| spare.set(gathered));
}
