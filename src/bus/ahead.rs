//! What a reader takes out of a log ahead of receiving it: one lock for many messages.

use std::fmt;

use super::cell::{Cell, Read};
use super::log::{Cursor, Log};
use super::message::{Message, Origin};
use super::ring::Ring;
use super::subscription::Received;
use crate::planted::{self, Bug};
use crate::sync::Arc;
use crate::wire::Frame;

/// Messages of one topic that its one reader has taken out and not yet received.
///
/// Until they are [settled](Self::settle) they count as waiting there, and keep their room: what a
/// reader takes ahead, it is to give back before it waits for anything.
pub(crate) struct Ahead {
    cell: Arc<Cell>,
    rest: Ring,
    /// The number after the last one that was taken; `None` once all is settled.
    end: Option<u64>,
}

impl Ahead {
    /// Nothing yet of this topic.
    pub(super) fn new(cell: Arc<Cell>) -> Self {
        Self {
            cell,
            rest: Ring::default(),
            end: None,
        }
    }

    pub(super) fn is_of(&self, cell: &Arc<Cell>) -> bool {
        Arc::ptr_eq(&self.cell, cell)
    }

    /// The next message of those that were taken.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Message> {
        self.rest.pop_front().map(|entry| entry.message)
    }

    /// Moves what the next of them say into `into`, up to the first of another origin; how many
    /// those are.
    #[inline]
    pub(super) fn batch(&mut self, origin: &Origin, into: &mut Vec<Frame>) -> u64 {
        if self.rest.is_empty() {
            return 0;
        }
        let is_of = |message: &&Message| message.origin().is(origin);
        let count = self.rest.all().take_while(is_of).count();
        into.extend(
            self.rest
                .take_first(count)
                .map(|message| message.into_parts().0),
        );
        count as u64
    }

    /// Takes out what there is once all that was taken before is received, and the first of it.
    pub(super) fn refill(&mut self, log: &mut Log, cursor: &mut Cursor) -> Read<Received> {
        if let Some(end) = self.end.take() {
            log.settle(end, &mut self.rest);
        }
        if log.take_ahead(cursor, &mut self.rest) {
            self.end = Some(log.head());
        }
        let received = match self.next() {
            Some(message) => {
                cursor.step(1);
                Some(Received::Message(message))
            }
            None => log.next(cursor),
        };
        received.map_or(Read::None, Read::Part)
    }

    /// Counts what was received and puts the rest back.
    pub(crate) fn settle(&mut self) {
        if let Some(end) = self.end.take() {
            if planted::is(Bug::AheadLost) {
                self.rest = Ring::default();
            }
            self.cell.settle(end, &mut self.rest);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.settle();
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("topic", self.cell.topic())
            .field("messages", &self.rest.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::{Context, Poll, Waker};

    use crate::bus::{InMemoryMessageBus, MessageBus, Received, Topic};
    use crate::limits::Window;

    #[test]
    fn what_is_dropped_before_it_is_settled_is_put_back() {
        let bus = InMemoryMessageBus::new(Window::default(), 1);
        let topic: Topic = "t".parse().expect("a valid name");
        let mut reader = bus.subscribe(&topic).expect("there is room for the topic");
        for text in ["a", "b"] {
            bus.publish(&topic, text.into());
        }
        let mut ahead = reader.ahead();
        let mut cx = Context::from_waker(Waker::noop());
        let received = |text: &str| Poll::Ready(Received::Message(text.into()));
        assert_eq!(reader.poll_ahead(&mut cx, &mut ahead), received("a"));
        let shown = format!("{ahead:?}");
        assert!(shown.contains("messages: 1"), "{shown}");
        assert!(reader.poll_recv(&mut cx).is_pending());
        drop(ahead);
        assert_eq!(reader.poll_recv(&mut cx), received("b"));
    }
}
