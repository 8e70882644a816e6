//! What a reader takes out of a log ahead of receiving it: one lock for many messages.

use std::fmt;

use super::batch::Batch;
use super::cell::{Cell, Read};
use super::log::{Cursor, Log};
use super::message::{Message, Origin};
use super::ring::Ring;
use super::subscription::Received;
use crate::planted::{self, Bug};
use crate::sync::Arc;

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

/// What there is once all that was taken before is received.
#[derive(Debug, PartialEq)]
pub(crate) enum Refill {
    /// Something that was taken ahead.
    Ahead,
    /// Something that cannot be taken ahead.
    Received(Received),
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
        self.rest.pop_front().map(|(message, _)| message)
    }

    /// The next of them that one origin has said together, or in a row; none of them names it.
    #[inline]
    pub(super) fn next_batch(&mut self) -> Option<(Origin, Batch)> {
        let first = self.rest.pop_parcel()?;
        let is_train = first.is_train();
        let (origin, mut batch) = Batch::said(first);
        while !is_train
            && let Some(mut next) = self.rest.pop_one_if(|next| next.origin().is(&origin))
        {
            drop(next.publish(Origin::Unknown, None));
            batch.push(next);
        }
        Some((origin, batch))
    }

    /// Takes out what there is once all that was taken before is received.
    pub(super) fn refill(&mut self, log: &mut Log, cursor: &mut Cursor) -> Read<Refill> {
        if let Some(end) = self.end.take() {
            log.settle(end, &mut self.rest);
        }
        if log.take_ahead(cursor, &mut self.rest) {
            self.end = Some(log.head());
            return Read::Part(Refill::Ahead);
        }
        let received = log.next(cursor);
        received.map_or(Read::None, |received| {
            Read::Part(Refill::Received(received))
        })
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

    use super::Refill;
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
        let refill = reader.poll_ahead(&mut cx, &mut ahead);
        assert_eq!(refill, Poll::Ready(Refill::Ahead));
        assert_eq!(reader.next_ahead(&mut ahead), Some("a".into()));
        let shown = format!("{ahead:?}");
        assert!(shown.contains("messages: 1"), "{shown}");
        assert!(reader.poll_recv(&mut cx).is_pending());
        drop(ahead);
        assert_eq!(reader.poll_recv(&mut cx), received("b"));
    }
}
