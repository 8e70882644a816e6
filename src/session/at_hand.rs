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

/// Messages at hand.
pub(super) struct AtHand {
    pub(super) first: Message,
    pub(super) rest: VecDeque<Message>,
    /// Since when the first of them is.
    pub(super) since: Instant,
}

impl AtHand {
    pub(super) fn one(first: Message, since: Instant) -> Self {
        Self {
            first,
            rest: VecDeque::new(),
            since,
        }
    }

    pub(super) fn messages(&self) -> usize {
        1 + self.rest.len()
    }

    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.first.len() + self.rest.iter().map(Message::len).sum::<usize>()
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_left_is_taken_again_once() {
        spare(VecDeque::with_capacity(40));
        assert!(gather().capacity() >= 40);
        assert_eq!(gather().capacity(), 0);
    }
}
