//! The publishers of messages: clients, instances of services, and others.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::topic::{ClientId, Topic};
use crate::client::identity::{ANONYMOUS, Identity};

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
