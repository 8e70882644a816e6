//! Messages that are published together.

use std::cell::Cell;

use super::message::{Message, Origin};
use super::ring::{Gathers, KEPT, Parcel, Ring};
use super::train::Train;
use crate::instant::Instant;
use crate::planted::{self, Bug};

thread_local! {
    /// The room of the last batch of this thread, for the next one; empty.
    static SPARE: Cell<Option<Box<Ring>>> = const { Cell::new(None) };
}

/// Messages to be published together, the oldest first.
///
/// What one client has sent at once stays in one piece of memory until it is written again. Other
/// messages lie as in the log that is to keep them, so that they get there in one piece. The room
/// of a batch serves the thread's next one, unless it is of more than 32 messages: a session may
/// hold it for as long as its service is busy.
#[derive(Debug, Default)]
pub struct Batch {
    /// The oldest messages, which for most batches are all.
    first: Option<Parcel>,
    /// What is behind it.
    rest: Option<Box<Ring>>,
    /// Of all payloads.
    bytes: usize,
}

impl Batch {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            first: None,
            rest: None,
            bytes: 0,
        }
    }

    /// What somebody has said, which names nobody any more, and who that is.
    #[inline]
    pub(crate) fn said(mut parcel: Parcel) -> (Origin, Self) {
        let origin = parcel.publish(Origin::Unknown, None);
        (origin, Self::of(parcel))
    }

    #[inline]
    fn of(parcel: Parcel) -> Self {
        Self {
            bytes: parcel.bytes(),
            first: Some(parcel),
            rest: None,
        }
    }

    /// Adds a message behind the others.
    #[inline]
    pub fn push(&mut self, message: Message) {
        if self.is_empty() {
            *self = Self::from(message);
        } else {
            self.bytes += message.len();
            self.behind().add(message);
        }
    }

    /// What is behind the first, with the room that another one has left.
    fn behind(&mut self) -> &mut Ring {
        self.rest.get_or_insert_with(|| {
            let spare = SPARE.try_with(Cell::take);
            spare.ok().flatten().unwrap_or_default()
        })
    }

    /// Takes the oldest message out; `None` if there are none.
    pub fn pop(&mut self) -> Option<Message> {
        self.unpack();
        let message = match self.first.take() {
            Some(Parcel::One(message)) => message,
            Some(Parcel::Train(_)) | None => self.rest.as_mut()?.pop_front()?.0,
        };
        self.bytes -= message.len();
        Some(message)
    }

    /// Takes out what is kept together of the oldest messages.
    #[inline]
    pub(crate) fn pop_parcel(&mut self) -> Option<Parcel> {
        let parcel = match self.first.take() {
            Some(first) => first,
            None => self.rest.as_mut()?.pop_parcel()?,
        };
        self.bytes -= parcel.bytes();
        Some(parcel)
    }

    /// The length of the oldest message.
    pub(super) fn next_len(&mut self) -> Option<usize> {
        self.unpack();
        match &self.first {
            Some(Parcel::One(message)) => Some(message.len()),
            Some(Parcel::Train(_)) | None => {
                let mut rest = self.rest.as_ref()?.messages_from(0);
                rest.next().map(Message::len)
            }
        }
    }

    /// All of them as published by `origin` at this time.
    pub(crate) fn publish(&mut self, origin: &Origin, at: Instant) {
        let publish = |parcel: &mut Parcel| drop(parcel.publish(origin.clone(), Some(at)));
        self.first.iter_mut().for_each(publish);
        if let Some(rest) = &mut self.rest {
            rest.parcels_mut().for_each(publish);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        self.first.as_ref().map_or(0, Parcel::len) + rest
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_empty())
    }

    /// The bytes of all payloads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops all but the first so many.
    #[inline]
    pub(crate) fn truncate(&mut self, count: usize) {
        if count < self.len() {
            *self = std::mem::take(self).into_iter().take(count).collect();
        }
    }

    /// Makes single messages of those that came together.
    #[inline]
    pub(super) fn unpack(&mut self) {
        if let Some(Parcel::Train(train)) = self.first.take_if(|first| first.is_train()) {
            let rest = self.rest.take();
            let behind = self.behind();
            behind.extend(train.messages());
            if let Some(mut rest) = rest {
                behind.append(&mut rest);
            }
            train.leave();
        }
        if let Some(rest) = &mut self.rest {
            rest.unpack();
        }
    }

    /// Moves all of them behind those of a log, whose readers behind these stand before the first.
    #[inline]
    pub(super) fn move_into(&mut self, entries: &mut Ring, readers: &mut usize) {
        self.bytes = 0;
        if let Some(first) = self.first.take() {
            entries.push(first, std::mem::take(readers));
        }
        if let Some(rest) = &mut self.rest
            && let Some(first) = rest.readers_mut(0)
        {
            *first = std::mem::take(readers);
            entries.append(rest);
        }
    }
}

impl Gathers for Batch {
    fn gathered(&self) -> usize {
        self.len()
    }

    fn gather(&mut self, message: Message) {
        self.push(message);
    }

    #[inline]
    fn gather_all(&mut self, ring: &mut Ring, bytes: usize) {
        self.bytes += bytes;
        if self.is_empty() {
            self.first = ring.pop_parcel();
        }
        if !ring.is_empty() {
            self.behind().take(ring);
        }
    }

    fn swap_after(&mut self, before: usize) {
        if planted::is(Bug::BatchSwapped) {
            let mut messages: Vec<_> = std::mem::take(self).into_iter().collect();
            planted::swap(Bug::BatchSwapped, &mut messages[before..]);
            *self = messages.into();
        }
    }
}

impl From<Message> for Batch {
    fn from(message: Message) -> Self {
        Self::of(Parcel::One(message))
    }
}

impl From<Train> for Batch {
    fn from(train: Train) -> Self {
        Self::of(Parcel::Train(train))
    }
}

impl<M: Into<Message>> Extend<M> for Batch {
    fn extend<I: IntoIterator<Item = M>>(&mut self, messages: I) {
        let mut messages = messages.into_iter().map(Into::into);
        if self.is_empty()
            && let Some(first) = messages.next()
        {
            *self = Self::from(first);
        }
        if let Some(second) = messages.next() {
            let mut bytes = second.len();
            let rest = self.behind();
            rest.add(second);
            rest.extend(messages.inspect(|message| bytes += message.len()));
            self.bytes += bytes;
        }
    }
}

impl<M: Into<Message>> FromIterator<M> for Batch {
    fn from_iter<I: IntoIterator<Item = M>>(messages: I) -> Self {
        let mut batch = Self::new();
        batch.extend(messages);
        batch
    }
}

impl<M: Into<Message>> From<Vec<M>> for Batch {
    fn from(messages: Vec<M>) -> Self {
        messages.into_iter().collect()
    }
}

impl<M: Into<Message>, const N: usize> From<[M; N]> for Batch {
    fn from(messages: [M; N]) -> Self {
        messages.into_iter().collect()
    }
}

/// The messages of a [`Batch`], the oldest first.
#[derive(Debug)]
pub struct Messages(Batch);

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl ExactSizeIterator for Messages {}

impl IntoIterator for Batch {
    type Item = Message;
    type IntoIter = Messages;

    fn into_iter(self) -> Messages {
        Messages(self)
    }
}

impl Drop for Batch {
    #[inline]
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            leave(rest);
        }
    }
}

/// Leaves the room of a batch to the next one, or if it is much to a log.
fn leave(mut room: Box<Ring>) {
    room.clear();
    if room.capacity() > KEPT {
        room.shrink(true);
    } else {
        // A thread that ends keeps nothing.
        let _gone = SPARE.try_with(|spare| spare.set(Some(room)));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::bus::Generation;

    fn batch(texts: &[&str]) -> Batch {
        texts.iter().copied().map(Message::text).collect()
    }

    fn room() -> usize {
        SPARE.take().map_or(0, |room| room.capacity())
    }

    #[test]
    fn it_gives_what_it_was_given_and_knows_how_much_that_is() {
        let mut batch = batch(&["a", "bc", "def"]);
        assert_eq!((batch.len(), batch.bytes()), (3, 6));
        assert_eq!(batch.pop(), Some("a".into()));
        batch.push("g".into());
        assert_eq!((batch.len(), batch.bytes()), (3, 6));
        batch.truncate(2);
        assert_eq!((batch.len(), batch.bytes()), (2, 5));
        let mut messages = batch.into_iter();
        assert_eq!(messages.len(), 2);
        assert!(messages.by_ref().eq(["bc", "def"].map(Message::text)));
        assert_eq!((messages.len(), messages.0.bytes()), (0, 0));
    }

    #[test]
    fn what_came_together_is_what_comes_before_the_rest() {
        let mut batch = Batch::from(Train::of_texts(&["a", "bc"]));
        assert_eq!((batch.len(), batch.bytes()), (2, 3));
        batch.push("d".into());
        batch.extend(["e", "f"]);
        assert_eq!(
            (batch.len(), batch.bytes(), batch.next_len()),
            (5, 6, Some(1))
        );
        batch.truncate(4);
        assert!(
            batch
                .into_iter()
                .eq(["a", "bc", "d", "e"].map(Message::text))
        );
        let mut batch = Batch::from(Train::of_texts(&["a", "b"]));
        batch.publish(&Origin::Service(Generation::new(3)), Instant::ZERO);
        let message = batch.pop().expect("it is there");
        let by = (message.generation(), message.published_at());
        assert_eq!(by, (Some(Generation::new(3)), Some(Instant::ZERO)));
    }

    #[test]
    fn it_gives_what_came_together_in_one_piece() {
        let mut batch = Batch::from(Train::of_texts(&["a", "bc"]));
        batch.extend(["defg", "h"]);
        for (is_train, messages, bytes) in [(true, 2, 5), (false, 1, 1), (false, 0, 0)] {
            let parcel = batch.pop_parcel().expect("it is there");
            assert_eq!(parcel.is_train(), is_train);
            assert_eq!((batch.len(), batch.bytes()), (messages, bytes));
        }
        assert!(batch.pop_parcel().is_none());
    }

    #[test]
    fn the_room_of_one_serves_the_next_one_and_nothing_is_in_it() {
        room();
        let first = batch(&["a"; KEPT]);
        assert_eq!(room(), 0, "it is in use");
        drop(first);
        let next = batch(&["b", "c"]);
        assert_eq!((next.len(), next.bytes()), (2, 2));
        assert_eq!(room(), 0, "it serves one");
        drop(next);
        assert!(room() > 0);
    }

    #[test]
    fn it_takes_all_there_is_of_a_log_with_its_room() {
        for (before, count) in [(0, 1), (0, 2), (0, KEPT + 2), (1, 1), (2, 2)] {
            room();
            let mut batch = batch(&["a"; 2][..before]);
            let mut log = Ring::default();
            (0..count).for_each(|_| log.add("bc".into()));
            batch.gather_all(&mut log, 2 * count);
            assert_eq!((log.len(), batch.len()), (0, before + count));
            assert_eq!(batch.bytes(), before + 2 * count);
            let room_behind = batch.rest.as_ref().map(|rest| rest.capacity());
            assert_eq!(
                room_behind.is_some(),
                before + count > 1,
                "{before}, {count}"
            );
            let texts = ["a"; 2][..before].iter().chain(&["bc"; KEPT + 2][..count]);
            assert!(batch.into_iter().eq(texts.copied().map(Message::text)));
        }
    }

    #[test]
    fn neither_much_room_is_kept_nor_any_taken_for_one_message() {
        room();
        drop(batch(&["a"; KEPT + 2]));
        assert!(SPARE.take().is_none());
        let one = batch(&["a"]);
        assert!(one.rest.is_none());
    }
}
