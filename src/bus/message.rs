//! A message: an immutable payload, encoded for the wire once, shared by all its receivers.

use std::fmt;
use std::sync::Arc;

use super::topic::{ClientId, Topic};
use crate::client::identity::{ANONYMOUS, Identity};
use crate::instant::Instant;
use crate::wire::{DataKind, Frame, Payload};

/// One message on the bus; cheap to clone.
#[derive(Clone)]
pub struct Message {
    frame: Frame,
    origin: Origin,
    /// When a service published it, on its runtime's clock.
    published: Option<Instant>,
}

/// Who published a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A client, through its session.
    Client(Sender),
    /// One instance of a service.
    Service(Generation),
    /// Anybody else on the bus.
    #[default]
    Unknown,
}

impl Origin {
    /// The client, if it is one.
    pub fn client(&self) -> Option<&Sender> {
        match self {
            Self::Client(sender) => Some(sender),
            Self::Service(_) | Self::Unknown => None,
        }
    }

    /// The instance of a service, if it is one.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Service(generation) => Some(*generation),
            Self::Client(_) | Self::Unknown => None,
        }
    }

    /// Whether it is an instance before this one.
    #[inline]
    pub(super) fn is_before(&self, generation: Generation) -> bool {
        self.generation().is_some_and(|by| by < generation)
    }
}

/// A client as its messages show it; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Sender(Arc<Client>);

#[derive(PartialEq, Eq)]
struct Client {
    number: ClientId,
    /// `None` for [`ANONYMOUS`], as most are where nobody has to say who it is.
    identity: Option<Box<Identity>>,
    topic: Topic,
}

impl Sender {
    /// The client of this number that has shown to be this, and that alone reads `topic`.
    pub fn new(number: ClientId, identity: Identity, topic: Topic) -> Self {
        Self(Arc::new(Client {
            number,
            identity: (identity != ANONYMOUS).then(|| Box::new(identity)),
            topic,
        }))
    }

    /// The same client with what it has shown since.
    pub(crate) fn renewed(&self, identity: Identity) -> Self {
        Self::new(self.client(), identity, self.topic().clone())
    }

    /// Its number.
    pub fn client(&self) -> ClientId {
        self.0.number
    }

    /// The topic of what is said to this client alone.
    pub fn topic(&self) -> &Topic {
        &self.0.topic
    }

    /// Whom its credentials name; `None` for one without.
    pub fn subject(&self) -> Option<&str> {
        self.identity().subject.as_deref()
    }

    /// All that its credentials say, as JSON; `None` for a client without.
    pub fn claims(&self) -> Option<&str> {
        self.identity().claims.as_deref()
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        self.0.identity.as_deref().unwrap_or(&ANONYMOUS)
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client().fmt(f)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.client(), self.subject())
    }
}

/// The number of an instance of a service: 1 for its first start, one more for each further one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The generation of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Message {
    pub(crate) fn new(frame: Frame, origin: Origin) -> Self {
        Self::made(frame, origin, None)
    }

    /// The message of this frame, as `origin` published it at this time, if a service did.
    pub(super) fn made(frame: Frame, origin: Origin, published: Option<Instant>) -> Self {
        Self {
            frame,
            origin,
            published,
        }
    }

    /// A text message of unknown origin.
    pub fn text(text: impl AsRef<str>) -> Self {
        Frame::text(text).into()
    }

    /// A binary message of unknown origin.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Frame::binary(bytes).into()
    }

    /// The same payload, not copied, as published by `origin`.
    #[must_use]
    pub fn from_origin(&self, origin: Origin) -> Self {
        Self::new(self.frame.clone(), origin)
    }

    /// When a service published it, if one did.
    pub(crate) fn published_at(&self) -> Option<Instant> {
        self.published
    }

    /// Text or bytes.
    ///
    /// A text is checked again to be UTF-8, in time proportional to its length.
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

    /// The payload's bytes, of a text as well.
    pub fn as_bytes(&self) -> &[u8] {
        self.frame.payload_bytes()
    }

    /// The payload's length in bytes.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the payload is empty, which is a message like any other.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who published it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The client that sent it, if a client did: its number, its subject, its claims.
    pub fn sender(&self) -> Option<&Sender> {
        self.origin.client()
    }

    /// What it says, and who has said it: each without the other, and neither shared anew.
    pub fn into_parts(self) -> (Frame, Origin) {
        (self.frame, self.origin)
    }

    /// The message as the WebSocket frame every client receives.
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
    /// Equal payload of the same kind and equal origin.
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame && self.origin() == other.origin()
    }
}

impl fmt::Debug for Message {
    /// Kind, length and origin; never the payload, which is a client's and may be a secret.
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
        let sender = Sender::new(ClientId::new(7), Identity::default(), topic.clone());
        assert_eq!(sender.topic(), &topic);
        let shown = (format!("{sender}"), format!("{sender:?}"));
        assert_eq!(shown, ("7".into(), "ClientId(7) None".into()));
        let client = Origin::Client(sender);
        let from_client = text.from_origin(client.clone());
        assert_ne!(text, from_client);
        assert_eq!((text.origin(), text.sender()), (&Origin::Unknown, None));
        assert_eq!(from_client.origin(), &client);
        assert_eq!(
            from_client.sender().map(Sender::client),
            Some(ClientId::new(7))
        );
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
