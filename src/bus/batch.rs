//! Messages that are published together.

use std::cell::Cell;

use super::message::Message;
use super::ring::{Entry, KEPT, Ring};

thread_local! {
    /// The room of the last batch of this thread, for the next one; empty.
    static SPARE: Cell<Ring> = const { Cell::new(Ring::new()) };
}

/// Messages to be published together, the oldest first.
///
/// They lie as in the log that is to keep them, so that they get there in one piece. The room of
/// a batch serves the thread's next one, unless it is of more than 32 messages: a session may hold
/// it for as long as its service is busy.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Ring,
    /// Of all payloads.
    bytes: usize,
}

impl Batch {
    /// Nothing yet, with the room that another one has left.
    pub fn new() -> Self {
        Self {
            messages: SPARE.try_with(Cell::take).unwrap_or_default(),
            bytes: 0,
        }
    }

    /// Adds a message behind the others.
    #[inline]
    pub fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.add(message);
    }

    /// Takes the oldest message out; `None` if there are none.
    pub fn pop(&mut self) -> Option<Message> {
        let Entry { message, .. } = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// The messages, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.all()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes of all payloads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops all but the first so many.
    pub(crate) fn truncate(&mut self, count: usize) {
        let dropped = self.messages.take_after(count);
        self.bytes -= dropped.map(|message| message.len()).sum::<usize>();
    }

    /// Moves all of them behind those of a log.
    pub(super) fn move_into(&mut self, entries: &mut Ring) {
        self.bytes = 0;
        entries.append(&mut self.messages);
    }
}

impl Extend<Message> for Batch {
    fn extend<I: IntoIterator<Item = Message>>(&mut self, messages: I) {
        let Self {
            messages: ring,
            bytes,
        } = self;
        ring.extend(messages.into_iter().map(|message| {
            *bytes += message.len();
            Entry {
                message,
                readers: 0,
            }
        }));
    }
}

impl FromIterator<Message> for Batch {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        let mut batch = Self::new();
        batch.extend(messages);
        batch
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if (1..=KEPT).contains(&self.messages.capacity()) {
            let mut room = std::mem::take(&mut self.messages);
            room.clear();
            // A thread that ends keeps nothing.
            let _gone = SPARE.try_with(|spare| spare.set(room));
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn batch(texts: &[&str]) -> Batch {
        texts.iter().copied().map(Message::text).collect()
    }

    fn room() -> usize {
        SPARE.take().capacity()
    }

    #[test]
    fn it_gives_what_it_was_given_and_knows_how_much_that_is() {
        let mut batch = batch(&["a", "bc", "def"]);
        assert_eq!((batch.len(), batch.bytes()), (3, 6));
        assert_eq!(batch.pop(), Some("a".into()));
        batch.push("g".into());
        assert!(batch.iter().eq(&["bc", "def", "g"].map(Message::text)));
        assert_eq!((batch.len(), batch.bytes()), (3, 6));
        batch.truncate(1);
        assert_eq!((batch.len(), batch.bytes()), (1, 2));
        assert_eq!((batch.pop(), batch.pop()), (Some("bc".into()), None));
        assert!(batch.is_empty() && batch.bytes() == 0);
    }

    #[test]
    fn the_room_of_one_serves_the_next_one_and_nothing_is_in_it() {
        room();
        let first = batch(&["a"; KEPT]);
        assert_eq!(room(), 0, "it is in use");
        drop(first);
        let next = Batch::new();
        assert!(next.is_empty() && next.bytes() == 0 && next.messages.capacity() == KEPT);
        assert_eq!(room(), 0, "it serves one");
        drop(next);
        assert_eq!(room(), KEPT);
    }

    #[test]
    fn much_room_is_not_kept() {
        room();
        drop(batch(&["a"; KEPT + 1]));
        assert_eq!(room(), 0);
    }
}
