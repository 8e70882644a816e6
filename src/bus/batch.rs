//! The record batch, the unit of the bus: messages of one sender in one block of memory.

use std::sync::Arc;

use super::delivery::Delivery;
use super::label::Label;
use super::message::Message;
use super::origin::{Generation, Origin};
use super::request::Question;
use super::tags::Tags;
use crate::instant::Instant;
use crate::wire::{Encodings, Frames};

/// Messages of one sender, at least one, the oldest first; cheap to clone.
///
/// The messages are encoded for the wire once, one after the other in one block of memory, which
/// all receivers share. A lone [`Message`] is a batch of one. A batch that is split shares its
/// memory with its parts: a part keeps the whole block.
#[derive(Clone, PartialEq)]
pub struct Batch {
    frames: Frames,
    label: Label,
    /// When a service published the messages, on the clock of the service's runtime.
    published: Option<Instant>,
    delivery: Delivery,
    record: Record,
    encodings: Encodings,
}

/// The place of a batch in a history: the offset of its first message, or the reason for none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record(u64);

impl Record {
    /// The batch is in no history; one that it is published into takes it.
    const NONE: Self = Self(0);
    /// No history takes the batch. No history counts as far as this number.
    const LIVE: Self = Self(u64::MAX);

    fn offset(self) -> Option<u64> {
        let is_offset = self != Self::NONE && self != Self::LIVE;
        is_offset.then_some(self.0)
    }

    /// The place of the message that follows this many others.
    fn after(self, messages: usize) -> Self {
        let offset = self.offset().map(|offset| Self(offset + messages as u64));
        offset.unwrap_or(self)
    }
}

impl Batch {
    /// Makes a batch of frames that `origin` sent.
    #[inline]
    pub(crate) fn new(frames: Frames, origin: Origin) -> Self {
        Self::labelled(frames, origin.into())
    }

    /// Makes a batch of frames with their label.
    #[inline]
    pub(super) fn labelled(frames: Frames, label: Label) -> Self {
        Self {
            frames,
            label,
            published: None,
            delivery: Delivery::Everyone,
            record: Record::NONE,
            encodings: Encodings::default(),
        }
    }

    /// Joins messages in one block of memory, to be published together; `None` if there are no
    /// messages.
    ///
    /// A batch has one sender and one set of tags: the joined messages take those of the first
    /// message.
    pub fn join(messages: impl IntoIterator<Item = Message>) -> Option<Self> {
        let messages: Vec<_> = messages.into_iter().collect();
        let frames = Frames::join(messages.iter().map(|message| message.frame().frames()))?;
        let (_frame, label) = messages.into_iter().next()?.into_labelled();
        Some(Self::labelled(frames, label))
    }

    /// The number of messages: at least one.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The length of all payloads together, in bytes, and of the tags for each message.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.frames.payload_bytes() + self.len() * self.label.tag_bytes()
    }

    /// The lengths of the messages, in bytes: each of its payload and of the tags.
    pub(super) fn each_bytes(&self) -> impl Iterator<Item = usize> {
        let tags = self.label.tag_bytes();
        self.frames
            .parts()
            .map(move |part| part.payload.len() + tags)
    }

    /// Iterates over the messages one by one, the oldest first; each shares the memory of the
    /// batch.
    pub fn messages(&self) -> impl Iterator<Item = Message> {
        let (label, published, record) = (self.label.clone(), self.published, self.record);
        self.frames.iter().enumerate().map(move |(n, frame)| {
            let message = Message::made(frame, label.clone(), published);
            message.recorded(record.after(n).offset())
        })
    }

    /// Keeps the messages out of every history: they take no offset, and no client recovers them.
    /// Subscribers receive them in their order.
    #[must_use]
    pub fn live(self) -> Self {
        let record = Record::LIVE;
        Self { record, ..self }
    }

    /// Whether no history takes the messages.
    pub(super) fn is_live(&self) -> bool {
        self.record == Record::LIVE
    }

    /// The offset of the first message in the history of its room, counted from 1; `None` for
    /// messages that no history has taken.
    pub fn offset(&self) -> Option<u64> {
        self.record.offset()
    }

    /// Sets the offset of the first message: a history takes the messages.
    pub(super) fn set_offset(&mut self, first: u64) {
        self.record = Record(first);
    }

    /// Shares the encodings that say more than the messages among several readers, if there may be
    /// any: of messages with a place in a history, with a client that sent them, or with tags.
    pub(super) fn share_encodings(&mut self) {
        let is_told = self.origin().client().is_some() || self.tags().is_some();
        if self.offset().is_some() || is_told {
            self.encodings = Encodings::shared();
        }
    }

    /// The encodings that say more than the messages.
    pub(crate) fn encodings(&self) -> &Encodings {
        &self.encodings
    }

    /// Forgets the offset in a history that the messages come from; returns no position.
    #[inline]
    pub(super) fn forget_offset<T>(&mut self) -> Option<T> {
        if self.record.offset().is_some() {
            self.record = Record::NONE;
        }
        None
    }

    /// Returns the messages from index `from` on, at most `count` and at least one of them.
    pub(super) fn slice(&self, from: usize, count: usize) -> Self {
        let mut part = self.clone();
        if from > 0 {
            drop(part.split_front(from));
        }
        if count < part.len() {
            part = part.split_front(count);
        }
        part
    }

    /// The sender of the messages.
    pub fn origin(&self) -> &Origin {
        self.label.origin()
    }

    /// The tags of each of the messages; `None` without any.
    #[inline]
    pub fn tags(&self) -> Option<&Tags> {
        self.label.tags()
    }

    /// The sender of the messages, and their tags.
    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    /// Sets the tags of each of the messages, which travel with them; empty ones are none. Copies
    /// no payload.
    #[must_use]
    pub fn tagged(self, tags: Tags) -> Self {
        let label = self.label.with_tags(tags);
        Self { label, ..self }
    }

    /// The messages as WebSocket frames.
    #[inline]
    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// When a service published the messages; `None` if no service did.
    #[inline]
    pub(crate) fn published_at(&self) -> Option<Instant> {
        self.published
    }

    /// Whether an older instance of a service than `generation` published the messages.
    #[inline]
    pub(crate) fn is_before(&self, generation: Generation) -> bool {
        self.origin().is_before(generation)
    }

    /// Sets the origin of the messages; their tags stay. Copies no payload.
    #[must_use]
    pub fn from_origin(self, origin: Origin) -> Self {
        let label = self.label.with_origin(origin);
        Self { label, ..self }
    }

    /// Sets the origin and the time of publishing; copies no payload.
    pub(crate) fn stamped(self, origin: Origin, at: Instant) -> Self {
        Self {
            label: self.label.with_origin(origin),
            frames: self.frames,
            published: Some(at),
            delivery: self.delivery,
            record: self.record,
            encodings: self.encodings,
        }
    }

    /// Sets the receivers of the messages.
    pub(crate) fn delivered(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// The request that the message is.
    pub(crate) fn question(&self) -> Option<&Arc<Question>> {
        match &self.delivery {
            Delivery::Request(question) => Some(question),
            Delivery::After(_)
            | Delivery::Close(..)
            | Delivery::End
            | Delivery::Except(_)
            | Delivery::Everyone => None,
        }
    }

    /// Whether the batch is the end of its topic.
    pub(crate) fn is_end(&self) -> bool {
        self.delivery == Delivery::End
    }

    /// The receivers of the messages.
    #[inline]
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Splits the first `count` messages off and returns them; the rest stays in `self`.
    ///
    /// # Panics
    ///
    /// If `count` is 0 or not less than [`len`](Self::len).
    #[must_use = "what is taken off is in it"]
    pub(crate) fn split_front(&mut self, count: usize) -> Self {
        let record = self.record;
        self.record = record.after(count);
        Self {
            frames: self.frames.split_front(count),
            label: self.label.clone(),
            published: self.published,
            delivery: self.delivery.clone(),
            record,
            encodings: self.encodings.clone(),
        }
    }

    /// Returns the newest message as a batch.
    pub(super) fn last(&self) -> Self {
        let mut last = self.clone();
        if last.len() > 1 {
            drop(last.split_front(self.len() - 1));
        }
        last
    }

    /// Turns a batch of one message into this message; a longer batch is cut to its first message.
    pub(crate) fn into_message(self) -> Message {
        let frame = self.frames.iter().next();
        let frame = frame.expect("a batch has one message at least");
        let message = Message::made(frame, self.label, self.published);
        message.recorded(self.record.offset())
    }

    /// The number of leading messages whose payloads have at most `bytes_max` bytes together.
    pub(super) fn fitting(&self, bytes_max: usize) -> usize {
        if self.bytes() <= bytes_max {
            return self.len();
        }
        let mut bytes = 0;
        let fits = self.each_bytes().take_while(|len| {
            bytes += len;
            bytes <= bytes_max
        });
        fits.count()
    }
}

impl From<Message> for Batch {
    fn from(message: Message) -> Self {
        let published = message.published_at();
        let (frame, label) = message.into_labelled();
        Self {
            published,
            ..Self::labelled(frame.into(), label)
        }
    }
}

impl From<&Message> for Batch {
    fn from(message: &Message) -> Self {
        message.clone().into()
    }
}

macro_rules! from_payload {
    ($($payload:ty),*) => {
        $(
            impl From<$payload> for Batch {
                fn from(payload: $payload) -> Self {
                    Message::from(payload).into()
                }
            }
        )*
    };
}

from_payload!(&str, String, &[u8], Vec<u8>);

impl std::fmt::Debug for Batch {
    /// Writes count, length and origin; never a payload, which is a client's and may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, bytes) = (self.len(), self.bytes());
        write!(
            f,
            "Batch({len} messages, {bytes} bytes, {:?})",
            self.origin()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::origin::Client;
    use crate::bus::{ClientId, Topic};
    use crate::client::identity::Identity;

    fn joined(texts: &[&str]) -> Batch {
        let messages = texts.iter().map(Message::text);
        Batch::join(messages).expect("one at least")
    }

    #[test]
    fn joined_messages_are_as_they_were() {
        let batch = joined(&["a", "", "bcd"]);
        assert_eq!((batch.len(), batch.bytes()), (3, 4));
        assert!(batch.messages().eq(["a", "", "bcd"].map(Message::text)));
        assert_eq!(Batch::join([]), None);
    }

    #[test]
    fn a_batch_has_the_sender_and_the_time_it_was_published_with_in_each_part() {
        let topic: Topic = "t".parse().expect("a valid name");
        let sender = Client::new(ClientId::new(7), Identity::default(), topic);
        let batch = joined(&["a", "b", "c"]).from_origin(Origin::Client(sender.clone()));
        let generation = Origin::Service(Generation::new(3));
        let mut rest = batch.clone().stamped(generation.clone(), Instant::END);
        let first = rest.split_front(1);
        for part in [&first, &rest, &rest.last()] {
            assert_eq!(
                (part.origin(), part.published_at()),
                (&generation, Some(Instant::END))
            );
            assert!(part.is_before(Generation::new(4)) && !part.is_before(Generation::new(3)));
        }
        assert!(
            batch
                .messages()
                .all(|message| message.sender() == Some(&sender))
        );
        assert_eq!(rest.last().into_message().as_text(), Some("c"));
    }

    #[test]
    fn as_many_fit_as_their_bytes_allow() {
        let batch = joined(&["ab", "c", "", "def"]);
        for (bytes_max, fitting) in [(0, 0), (1, 0), (2, 1), (3, 3), (5, 3), (6, 4), (7, 4)] {
            assert_eq!(batch.fitting(bytes_max), fitting, "{bytes_max} bytes");
        }
    }

    #[test]
    fn a_batch_shows_everything_but_its_payloads() {
        let shown = format!("{:?}", joined(&["a secret", "b"]));
        assert_eq!(shown, "Batch(2 messages, 9 bytes, Unknown)");
    }
}
