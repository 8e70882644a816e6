//! Messages: immutable payloads, each encoded for the wire once and shared by all its receivers.

use std::fmt;
use std::num::NonZeroU64;

use super::label::Label;
use super::origin::{Client, Origin};
use super::tags::Tags;
use crate::instant::Instant;
use crate::wire::{DataKind, Frame, Payload};

/// A message on the bus; cheap to clone.
#[derive(Clone)]
pub struct Message {
    frame: Frame,
    label: Label,
    /// When a service published the message, on the clock of the service's runtime.
    published: Option<Instant>,
    /// The offset in the history of the room, counted from 1.
    offset: Option<NonZeroU64>,
}

impl Message {
    pub(crate) fn new(frame: Frame, origin: Origin) -> Self {
        Self::made(frame, origin.into(), None)
    }

    /// Makes a message of a frame with its label; `published` is the time if a service published
    /// it.
    pub(super) fn made(frame: Frame, label: Label, published: Option<Instant>) -> Self {
        Self {
            frame,
            label,
            published,
            offset: None,
        }
    }

    /// Sets the offset in the history of the room.
    pub(super) fn recorded(self, offset: Option<u64>) -> Self {
        let offset = offset.and_then(NonZeroU64::new);
        Self { offset, ..self }
    }

    /// The offset of a received message in the history of its room, counted from 1; `None` without
    /// a history, or if the history did not take the message.
    pub fn offset(&self) -> Option<u64> {
        self.offset.map(NonZeroU64::get)
    }

    /// Makes a text message of unknown origin.
    pub fn text(text: impl AsRef<str>) -> Self {
        Frame::text(text).into()
    }

    /// Makes a binary message of unknown origin.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Frame::binary(bytes).into()
    }

    /// Makes a message with another origin, and with the same tags; copies no payload.
    #[must_use]
    pub fn from_origin(&self, origin: Origin) -> Self {
        Self::made(self.frame.clone(), self.label.with_origin(origin), None)
    }

    /// Sets the tags, which travel with the message; empty ones are none. Copies no payload.
    #[must_use]
    pub fn tagged(self, tags: Tags) -> Self {
        let label = self.label.with_tags(tags);
        Self { label, ..self }
    }

    /// The tags that the publisher gave the message; `None` without any. Messages of clients have
    /// none.
    pub fn tags(&self) -> Option<&Tags> {
        self.label.tags()
    }

    /// When a service published the message; `None` if no service did.
    pub(crate) fn published_at(&self) -> Option<Instant> {
        self.published
    }

    /// The payload as text or bytes.
    ///
    /// Checks each time that a text is UTF-8, in time proportional to its length.
    pub fn payload(&self) -> Payload<'_> {
        self.frame.payload()
    }

    /// The text, or `None` for a binary message; as costly as [`payload`](Self::payload).
    pub fn as_text(&self) -> Option<&str> {
        match self.payload() {
            Payload::Text(text) => Some(text),
            Payload::Binary(_) => None,
        }
    }

    /// The bytes of the payload, whether text or binary.
    pub fn as_bytes(&self) -> &[u8] {
        self.frame.payload_bytes()
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the payload is empty; an empty message is a message like any other.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The publisher of the message.
    pub fn origin(&self) -> &Origin {
        self.label.origin()
    }

    /// The client that sent the message: its number, its subject, its claims; `None` if no client
    /// did.
    pub fn sender(&self) -> Option<&Client> {
        self.origin().client()
    }

    /// Splits the message into its frame and its origin.
    pub fn into_parts(self) -> (Frame, Origin) {
        let origin = self.label.origin().clone();
        (self.frame, origin)
    }

    /// Splits the message into its frame and its label; clones neither.
    pub(super) fn into_labelled(self) -> (Frame, Label) {
        (self.frame, self.label)
    }

    /// The message as the WebSocket frame that every client receives.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }
}

impl From<Frame> for Message {
    fn from(frame: Frame) -> Self {
        Self::new(frame, Origin::Unknown)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl From<&Self> for Message {
    fn from(message: &Self) -> Self {
        message.clone()
    }
}

impl PartialEq for Message {
    /// Compares kind, payload, origin and tags.
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame && self.label == other.label
    }
}

impl fmt::Debug for Message {
    /// Writes kind, length and origin; never the payload, which is a client's and may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.frame.kind() {
            DataKind::Text => "text",
            DataKind::Binary => "binary",
        };
        write!(
            f,
            "Message({kind}, {} bytes, {:?})",
            self.len(),
            self.origin()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{ClientId, Generation, Topic};
    use crate::client::identity::Identity;

    #[test]
    fn a_message_is_its_payload_as_text_and_as_bytes() {
        let (text, binary) = (Message::text("abc"), Message::binary([1, 2]));
        assert_eq!(
            (text.as_text(), text.as_bytes()),
            (Some("abc"), &b"abc"[..])
        );
        assert_eq!((binary.as_text(), binary.as_bytes()), (None, &[1, 2][..]));
        assert_eq!((text.len(), text.is_empty()), (3, false));
        let empty = Message::text("");
        assert_eq!((empty.len(), empty.is_empty()), (0, true));
    }

    #[test]
    fn messages_are_equal_in_kind_payload_and_origin() {
        let text = Message::text("a");
        assert_eq!(text, Message::from("a"));
        assert_eq!(text, Message::from("a".to_owned()));
        assert_eq!(text, Message::from(&text));
        assert_eq!(Message::binary("a"), Message::from(&b"a"[..]));
        assert_eq!(Message::binary("a"), Message::from(vec![b'a']));
        assert_ne!(text, Message::text("b"));
        assert_ne!(text, Message::binary("a"));
        let topic: Topic = "to:7".parse().expect("a valid name");
        let sender = Client::new(ClientId::new(7), Identity::default(), topic.clone());
        assert_eq!(sender.topic(), &topic);
        let shown = (format!("{sender}"), format!("{sender:?}"));
        assert_eq!(shown, ("7".into(), "ClientId(7) None".into()));
        let client = Origin::Client(sender);
        let from_client = text.from_origin(client.clone());
        assert_ne!(text, from_client);
        assert_eq!((text.origin(), text.sender()), (&Origin::Unknown, None));
        assert_eq!(from_client.origin(), &client);
        assert_eq!(from_client.sender().map(Client::id), Some(ClientId::new(7)));
        let from_service = text.from_origin(Origin::Service(Generation::new(7)));
        assert_eq!(from_service.sender(), None);
        let (frame, origin) = from_client.into_parts();
        assert_eq!((&frame, origin), (text.frame(), client));
    }

    #[test]
    fn a_message_shows_everything_but_its_payload() {
        let message = Message::text("secret").from_origin(Origin::Service(Generation::new(3)));
        assert_eq!(
            format!("{message:?}"),
            "Message(text, 6 bytes, Service(Generation(3)))"
        );
        assert_eq!(
            format!("{:?}", Message::binary([0])),
            "Message(binary, 1 bytes, Unknown)"
        );
        assert_eq!(Generation::new(3).next().to_string(), "4");
        assert_eq!(Generation::new(3).number(), 3);
        assert_eq!(ClientId::new(12).to_string(), "12");
    }
}
