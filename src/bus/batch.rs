//! The record batch, the unit of the bus: messages of one sender in one block of memory.

use super::message::{Generation, Message, Origin};
use crate::instant::Instant;
use crate::wire::Frames;

/// One or more messages of one sender, the oldest first; cheap to clone.
///
/// The messages are encoded for the wire once, one after the other in one block of memory, which
/// all receivers share. A lone [`Message`] is a batch of one. A batch that is split shares its
/// memory with its parts: a part keeps the whole block.
#[derive(Clone, PartialEq)]
pub struct Batch {
    frames: Frames,
    origin: Origin,
    /// When a service published it, on its runtime's clock.
    published: Option<Instant>,
}

impl Batch {
    /// The messages of these frames, which `origin` has sent.
    #[inline]
    pub(crate) fn new(frames: Frames, origin: Origin) -> Self {
        Self {
            frames,
            origin,
            published: None,
        }
    }

    /// Joins messages in one block of memory, to be published together; `None` if there are none.
    ///
    /// The messages of a batch have one sender: the joined ones have that of the first.
    pub fn join(messages: impl IntoIterator<Item = Message>) -> Option<Self> {
        let messages: Vec<_> = messages.into_iter().collect();
        let frames = Frames::join(messages.iter().map(|message| message.frame().frames()))?;
        let origin = messages.first()?.origin().clone();
        Some(Self::new(frames, origin))
    }

    /// How many messages there are: one at least.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The bytes of all payloads.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.frames.payload_bytes()
    }

    /// Each message by itself, the oldest first; its memory is shared.
    pub fn messages(&self) -> impl Iterator<Item = Message> {
        let (origin, published) = (self.origin.clone(), self.published);
        self.frames
            .iter()
            .map(move |frame| Message::made(frame, origin.clone(), published))
    }

    /// The sender of the messages.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The messages as WebSocket frames.
    #[inline]
    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// When a service published the messages, if one did.
    #[inline]
    pub(crate) fn published_at(&self) -> Option<Instant> {
        self.published
    }

    /// Whether an instance before this one published the messages.
    #[inline]
    pub(crate) fn is_before(&self, generation: Generation) -> bool {
        self.origin.is_before(generation)
    }

    /// The same messages, not copied, as `origin` published them.
    #[must_use]
    pub fn from_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same messages, not copied, as `origin` publishes them at this time.
    pub(crate) fn stamped(self, origin: Origin, at: Instant) -> Self {
        Self {
            frames: self.frames,
            origin,
            published: Some(at),
        }
    }

    /// Takes the first `count` messages off, of which more than that are left.
    ///
    /// # Panics
    ///
    /// If none would be taken or left.
    #[must_use = "what is taken off is in it"]
    pub(crate) fn split_front(&mut self, count: usize) -> Self {
        Self {
            frames: self.frames.split_front(count),
            origin: self.origin.clone(),
            published: self.published,
        }
    }

    /// The newest message alone.
    pub(super) fn last(&self) -> Self {
        let mut last = self.clone();
        if last.len() > 1 {
            drop(last.split_front(self.len() - 1));
        }
        last
    }

    /// The message, if there is but one.
    pub(super) fn into_message(self) -> Message {
        let frame = self.frames.iter().next();
        let frame = frame.expect("a batch has one message at least");
        Message::made(frame, self.origin, self.published)
    }

    /// How many of the first messages have no more than so many payload bytes together.
    pub(super) fn fitting(&self, bytes_max: usize) -> usize {
        if self.bytes() <= bytes_max {
            return self.len();
        }
        let mut bytes = 0;
        let lens = self.frames.parts().map(|part| part.payload.len());
        let fits = lens.take_while(|len| {
            bytes += len;
            bytes <= bytes_max
        });
        fits.count()
    }
}

impl From<Message> for Batch {
    fn from(message: Message) -> Self {
        let published = message.published_at();
        let (frame, origin) = message.into_parts();
        Self {
            frames: frame.into(),
            origin,
            published,
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
    /// Count, length and origin; never a payload, which is a client's and may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, bytes) = (self.len(), self.bytes());
        write!(f, "Batch({len} messages, {bytes} bytes, {:?})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Sender;
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
        let sender = Sender::new(ClientId::new(7), Identity::default(), topic);
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
