//! Messages: immutable payloads, each encoded for the wire once and shared by all its receivers.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use super::topic::{ClientId, Topic};
use crate::client::identity::{ANONYMOUS, Identity};
use crate::instant::Instant;
use crate::wire::{DataKind, Frame, Payload};

/// A message on the bus; cheap to clone.
#[derive(Clone)]
pub struct Message {
    frame: Frame,
    origin: Origin,
    /// When a service published the message, on the clock of the service's runtime.
    published: Option<Instant>,
    /// The offset in the history of the room, counted from 1.
    offset: Option<NonZeroU64>,
}

/// The publisher of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A client, through its session.
    Client(Client),
    /// An instance of a service.
    Service(Generation),
    /// Any other publisher on the bus.
    #[default]
    Unknown,
}

impl Origin {
    /// The client, if a client published the message.
    pub fn client(&self) -> Option<&Client> {
        match self {
            Self::Client(sender) => Some(sender),
            Self::Service(_) | Self::Unknown => None,
        }
    }

    /// The instance of a service, if a service published the message.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Service(generation) => Some(*generation),
            Self::Client(_) | Self::Unknown => None,
        }
    }

    /// Whether an older instance of a service than `generation` published the message.
    #[inline]
    pub(super) fn is_before(&self, generation: Generation) -> bool {
        self.generation().is_some_and(|by| by < generation)
    }
}

/// A client of a room, as its service and the receivers of its messages see it; cheap to clone.
///
/// Two clients are equal if they are the same connection: a client that shows a fresh token stays
/// equal to itself. A client is a key of the service's own map:
///
/// ```
/// use std::collections::BTreeMap;
///
/// use busline::service::Event;
/// use busline::{Client, Context};
///
/// async fn scores(mut ctx: Context) {
///     let mut scores: BTreeMap<Client, u64> = BTreeMap::new();
///     while let Some(event) = ctx.event().await {
///         match event {
///             Event::Joined(_) | Event::Request(_) => {}
///             Event::Message(client, _) => *scores.entry(client).or_default() += 1,
///             Event::Left(client, _) => drop(scores.remove(&client)),
///         }
///     }
/// }
/// # fn check(_: impl busline::Service) {}
/// # check(scores);
/// ```
#[derive(Clone)]
pub struct Client(Arc<Record>);

struct Record {
    id: ClientId,
    /// `None` for [`ANONYMOUS`], the usual identity where clients need no credentials.
    identity: Option<Box<Identity>>,
    topic: Topic,
    about: Option<Box<About>>,
}

/// The facts about a client that only services are told that know their clients.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) address: Option<IpAddr>,
    pub(crate) query: Option<Arc<str>>,
    pub(crate) since: SystemTime,
}

impl Client {
    /// Makes the client with this number and this proven identity, which alone reads `topic`.
    pub fn new(id: ClientId, identity: Identity, topic: Topic) -> Self {
        Self::made(id, identity, topic, None)
    }

    fn made(id: ClientId, identity: Identity, topic: Topic, about: Option<Box<About>>) -> Self {
        Self(Arc::new(Record {
            id,
            identity: (identity != ANONYMOUS).then(|| Box::new(identity)),
            topic,
            about,
        }))
    }

    /// Adds the facts that a service is told that knows its clients.
    pub(crate) fn about(&self, about: About) -> Self {
        let (identity, topic) = (self.identity().clone(), self.topic().clone());
        Self::made(self.id(), identity, topic, Some(Box::new(about)))
    }

    /// Makes a copy of the client with a newer identity.
    pub(crate) fn renewed(&self, identity: Identity) -> Self {
        Self::made(
            self.id(),
            identity,
            self.topic().clone(),
            self.0.about.clone(),
        )
    }

    /// Returns the client as others remember it: its number, its subject and its topic, without
    /// its claims, address and query.
    pub(super) fn remembered(&self) -> Self {
        let subject = self.identity().subject.clone();
        let identity = Identity {
            subject,
            ..Identity::default()
        };
        Self::new(self.id(), identity, self.topic().clone())
    }

    /// The number of the client.
    pub fn id(&self) -> ClientId {
        self.0.id
    }

    /// The topic for messages to this client alone.
    pub fn topic(&self) -> &Topic {
        &self.0.topic
    }

    /// The subject of the client's credentials; `None` for a client without credentials.
    pub fn subject(&self) -> Option<&str> {
        self.identity().subject.as_deref()
    }

    /// All claims of the client's credentials, as JSON; `None` for a client without credentials.
    pub fn claims(&self) -> Option<&str> {
        self.identity().claims.as_deref()
    }

    /// The proven identity of the client.
    pub fn identity(&self) -> &Identity {
        self.0.identity.as_deref().unwrap_or(&ANONYMOUS)
    }

    /// The address of the client, not of a proxy; `None` if it is not known, or if the service does
    /// not know its [`members`](crate::ServicePolicy::members).
    pub fn address(&self) -> Option<IpAddr> {
        self.0.about.as_ref()?.address
    }

    /// The query of the client's request, such as `nick=ann` of `/ws/chat/42?nick=ann`, as it was
    /// sent; `None` without a query, or if the service does not know its
    /// [`members`](crate::ServicePolicy::members).
    ///
    /// A token in the query is part of it.
    pub fn query(&self) -> Option<&str> {
        self.0.about.as_ref()?.query.as_deref()
    }

    /// The date and time of the client's admission; `None` if the service does not know its
    /// [`members`](crate::ServicePolicy::members).
    pub fn since(&self) -> Option<SystemTime> {
        Some(self.0.about.as_ref()?.since)
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Client {}

impl PartialOrd for Client {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Client {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Client {
    fn key(&self) -> (ClientId, &Topic) {
        (self.id(), self.topic())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.id(), self.subject())
    }
}

/// The number of an instance of a service: 1 for its first start, increased by each further start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Makes the generation with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the generation.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns the generation after this one.
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

    /// Makes a message of a frame that `origin` published; `published` is the time if a service
    /// did.
    pub(super) fn made(frame: Frame, origin: Origin, published: Option<Instant>) -> Self {
        Self {
            frame,
            origin,
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

    /// Makes a message with another origin; copies no payload.
    #[must_use]
    pub fn from_origin(&self, origin: Origin) -> Self {
        Self::new(self.frame.clone(), origin)
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
        &self.origin
    }

    /// The client that sent the message: its number, its subject, its claims; `None` if no client
    /// did.
    pub fn sender(&self) -> Option<&Client> {
        self.origin.client()
    }

    /// Splits the message into its frame and its origin; clones neither.
    pub fn into_parts(self) -> (Frame, Origin) {
        (self.frame, self.origin)
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
    /// Compares kind, payload and origin.
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame && self.origin() == other.origin()
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
