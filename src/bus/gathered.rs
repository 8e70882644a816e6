//! The memory in which messages are gathered to be published at once.

use std::cell::Cell;

use super::message::Message;

/// Messages for which there is room at most in what is left to the next batch, which a session may
/// hold for as long as its service is busy.
const SPARE_MESSAGES_MAX: usize = 32;

thread_local! {
    /// What this thread has gathered messages in last; empty.
    static SPARE: Cell<Vec<Message>> = const { Cell::new(Vec::new()) };
}

/// Room for what is to be gathered.
pub(crate) fn room() -> Vec<Message> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

/// Leaves room that is not needed to the next one.
pub(crate) fn spare(gathered: Vec<Message>) {
    debug_assert!(gathered.is_empty(), "what is in it would be lost");
    // Whoever has left something in it, it must not get into what others publish.
    if gathered.is_empty() && (1..=SPARE_MESSAGES_MAX).contains(&gathered.capacity()) {
        // A thread that ends keeps nothing.
        let _gone = SPARE.try_with(|spare| spare.set(gathered));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_left_is_taken_again_once() {
        spare(Vec::with_capacity(SPARE_MESSAGES_MAX));
        assert_eq!(room().capacity(), SPARE_MESSAGES_MAX);
        assert_eq!(room().capacity(), 0);
    }

    #[test]
    fn much_room_is_not_kept() {
        spare(Vec::with_capacity(SPARE_MESSAGES_MAX + 1));
        assert_eq!(room().capacity(), 0);
    }
}
