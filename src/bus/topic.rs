//! Topics, and the numbers of clients.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

use super::room::{NameError, Room, ServiceName, check};
use crate::limits::{PRESENCE_WINDOW, TAP_WINDOW, TOPIC_BYTES_MAX, Window};
use crate::planted::{self, Bug};

/// The first character of the text of an internal topic; a parsed text never has it.
const INTERNAL: char = '\u{1}';

/// A topic: the messages between a room or service and its clients in one direction, or any other
/// name.
///
/// Cheap to clone. The text of a topic is for people and for operators; two topics with equal texts
/// are equal. A name of any other topic has 1 to [`TOPIC_BYTES_MAX`] visible ASCII characters,
/// without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Name);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    /// A topic between a room and its clients.
    Between(Room, Packed),
    /// A topic with any other name.
    Named(Arc<Named>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Named {
    /// Whether the topic is the bus's own.
    is_internal: bool,
    text: Box<str>,
}

/// The receivers of a room's topic.
#[derive(Clone, Copy)]
enum Direction {
    Service,
    Everyone,
    /// The clients that are told of joins and leaves.
    Followers,
    Client(ClientId),
}

/// A direction in eight bytes: each client has a topic, and each topic its direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Packed(NonZeroU64);

impl Packed {
    const SERVICE: u64 = 1;
    const EVERYONE: u64 = 2;
    const FOLLOWERS: u64 = 3;
    const CLIENTS: u64 = 4;

    fn new(direction: Direction) -> Self {
        let number = match direction {
            Direction::Service => Self::SERVICE,
            Direction::Everyone => Self::EVERYONE,
            Direction::Followers => Self::FOLLOWERS,
            Direction::Client(client) => client.number().saturating_add(Self::CLIENTS),
        };
        Self(NonZeroU64::new(number).expect("no direction has the number 0"))
    }

    fn direction(self) -> Direction {
        match self.0.get() {
            Self::SERVICE => Direction::Service,
            Self::EVERYONE => Direction::Everyone,
            Self::FOLLOWERS => Direction::Followers,
            number => Direction::Client(ClientId::new(number - Self::CLIENTS)),
        }
    }
}

const TO_SERVICE: &str = "from-ws-to-service";
const TO_CLIENTS: &str = "from-service-to-ws";
const TO_FOLLOWERS: &str = "from-presence-to-ws";

impl Topic {
    /// Makes the topic on which a room or service receives from its clients:
    /// `ping:from-ws-to-service`, `chat:42:from-ws-to-service`.
    pub fn from_ws_to_service(room: impl Into<Room>) -> Self {
        Self::between(room, Direction::Service)
    }

    /// Makes the topic on which a room or service reaches every client: `ping:from-service-to-ws`.
    pub fn from_service_to_ws(room: impl Into<Room>) -> Self {
        Self::between(room, Direction::Everyone)
    }

    /// Makes the topic on which a room or service reaches one client:
    /// `echo:from-service-to-ws:42`.
    pub fn from_service_to_client(room: impl Into<Room>, client: ClientId) -> Self {
        Self::between(room, Direction::Client(client))
    }

    /// Makes the topic on which a room or service tells clients of joins and leaves:
    /// `chat:42:from-presence-to-ws`.
    pub fn from_presence_to_ws(room: impl Into<Room>) -> Self {
        let room = room.into();
        if planted::is(Bug::PresenceShared) {
            return Self::between(room.kind(), Direction::Followers);
        }
        Self::between(room, Direction::Followers)
    }

    fn between(room: impl Into<Room>, direction: Direction) -> Self {
        Self(Name::Between(room.into(), Packed::new(direction)))
    }

    fn named(text: &str, is_internal: bool) -> Self {
        let text = text.into();
        Self(Name::Named(Arc::new(Named { is_internal, text })))
    }

    /// Makes an internal topic of the bus, with a text that cannot be parsed.
    pub(super) fn internal(name: &str) -> Self {
        Self::named(name, true)
    }

    /// The room of a topic between a room and its clients.
    pub(super) fn room(&self) -> Option<&Room> {
        match &self.0 {
            Name::Between(room, _direction) => Some(room),
            Name::Named(_) => None,
        }
    }

    /// The room whose clients all read the topic; `None` for other topics. Only such a topic may
    /// have a history.
    pub(super) fn room_of_all(&self) -> Option<&Room> {
        match &self.0 {
            Name::Between(room, packed) => match packed.direction() {
                Direction::Everyone => Some(room),
                Direction::Client(_) | Direction::Followers | Direction::Service => None,
            },
            Name::Named(_) => None,
        }
    }

    /// The client that the topic reaches alone.
    pub(super) fn client(&self) -> Option<ClientId> {
        match &self.0 {
            Name::Between(_, packed) => match packed.direction() {
                Direction::Client(client) => Some(client),
                Direction::Everyone | Direction::Followers | Direction::Service => None,
            },
            Name::Named(_) => None,
        }
    }

    /// The fixed window of an internal topic and of the notices of joins and leaves; `None` for
    /// other topics.
    pub(super) fn own_window(&self) -> Option<Window> {
        match &self.0 {
            Name::Named(named) => named.is_internal.then_some(TAP_WINDOW),
            Name::Between(_, packed) => match packed.direction() {
                Direction::Followers => Some(PRESENCE_WINDOW),
                Direction::Client(_) | Direction::Everyone | Direction::Service => None,
            },
        }
    }
}

/// Parses the topic of a room or service; `None` for any other text.
fn of_room(text: &str) -> Option<Topic> {
    let (kind, rest) = text.split_once(':')?;
    let (before, direction) = split_direction(rest)?;
    let kind: ServiceName = kind.parse().ok()?;
    let room = match before {
        "" => Room::from(&kind),
        before => Room::new(&kind, before.strip_suffix(':')?).ok()?,
    };
    let topic = Topic::between(room, direction);
    // `7` and `07` are one number, but only `7` is the text of a topic.
    (topic.to_string() == text).then_some(topic)
}

/// Splits the direction off the end of a text. A key may look like a direction, so only the end
/// counts.
fn split_direction(text: &str) -> Option<(&str, Direction)> {
    if let Some(before) = text.strip_suffix(TO_SERVICE) {
        return Some((before, Direction::Service));
    }
    if let Some(before) = text.strip_suffix(TO_CLIENTS) {
        return Some((before, Direction::Everyone));
    }
    if let Some(before) = text.strip_suffix(TO_FOLLOWERS) {
        return Some((before, Direction::Followers));
    }
    let (before, client) = text.rsplit_once(':')?;
    let client = ClientId::new(client.parse().ok()?);
    Some((before.strip_suffix(TO_CLIENTS)?, Direction::Client(client)))
}

impl FromStr for Topic {
    type Err = NameError;

    /// Parses a topic, for example from a configuration or an operator's request.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(topic) = of_room(text) {
            return Ok(topic);
        }
        check(text, TOPIC_BYTES_MAX, u8::is_ascii_graphic)?;
        Ok(Self::named(text, false))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Between(room, packed) => match packed.direction() {
                Direction::Service => write!(f, "{room}:{TO_SERVICE}"),
                Direction::Everyone => write!(f, "{room}:{TO_CLIENTS}"),
                Direction::Followers => write!(f, "{room}:{TO_FOLLOWERS}"),
                Direction::Client(client) => write!(f, "{room}:{TO_CLIENTS}:{client}"),
            },
            Name::Named(named) if named.is_internal => write!(f, "{INTERNAL}{}", named.text),
            Name::Named(named) => f.write_str(&named.text),
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The number of one connected client, unique within one running application; at most
/// `u64::MAX - 4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// Makes the number of a client.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number as an integer.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_takes_visible_ascii_up_to_its_limit() {
        for good in ["a", "ping:from-ws-to-service", "!~", &"x".repeat(255)] {
            assert_eq!(
                good.parse::<Topic>().map(|t| t.to_string()),
                Ok(good.to_owned())
            );
        }
        assert_eq!("".parse::<Topic>(), Err(NameError::Empty));
        assert_eq!("a b".parse::<Topic>(), Err(NameError::BadByte { at: 1 }));
        assert_eq!("\u{7f}".parse::<Topic>(), Err(NameError::BadByte { at: 0 }));
        assert_eq!(
            "ab\u{e9}".parse::<Topic>(),
            Err(NameError::BadByte { at: 2 })
        );
        let error = NameError::TooLong {
            bytes: 256,
            max: 255,
        };
        assert_eq!("x".repeat(256).parse::<Topic>(), Err(error));
    }

    #[test]
    fn every_topic_of_the_longest_service_is_a_valid_topic() {
        let service: ServiceName = "z".repeat(64).parse().expect("valid");
        let client = ClientId::new(u64::MAX - 4);
        for topic in [
            Topic::from_ws_to_service(&service),
            Topic::from_service_to_ws(&service),
            Topic::from_presence_to_ws(&service),
            Topic::from_service_to_client(&service, client),
        ] {
            assert_eq!(topic.to_string().parse::<Topic>(), Ok(topic.clone()));
        }
    }

    #[test]
    fn a_name_is_shown_as_it_is_and_debugged_in_quotes() {
        let topic: Topic = "a:b".parse().expect("valid");
        assert_eq!(topic.to_string(), "a:b");
        assert_eq!(format!("{topic:?}"), r#""a:b""#);
    }

    #[test]
    fn topics_have_the_names_the_contract_states() {
        let ping: ServiceName = "ping".parse().expect("valid");
        assert_eq!(
            Topic::from_ws_to_service(&ping).to_string(),
            "ping:from-ws-to-service"
        );
        assert_eq!(
            Topic::from_service_to_ws(&ping).to_string(),
            "ping:from-service-to-ws"
        );
        let presence = Topic::from_presence_to_ws(&ping);
        assert_eq!(presence.to_string(), "ping:from-presence-to-ws");
        let one = Topic::from_service_to_client(&ping, ClientId::new(7));
        assert_eq!(one.to_string(), "ping:from-service-to-ws:7");
    }

    #[test]
    fn a_text_that_is_nearly_one_of_a_service_is_another_topic() {
        let ping: ServiceName = "ping".parse().expect("valid");
        let one = Topic::from_service_to_client(&ping, ClientId::new(7));
        assert_eq!("ping:from-service-to-ws:7".parse(), Ok(one));
        for near in [
            "ping:from-service-to-ws:07",
            "ping:from-service-to-ws:+7",
            "ping:from-service-to-ws:",
            "ping:from-service-to-ws:7:",
            "ping:from-service-to-ws:18446744073709551616",
            "ping:from-ws-to-service:7",
            "ping:from-ws-to-service:",
            "ping:from-service-to-w",
            "Ping:from-ws-to-service",
            ":from-ws-to-service",
            "ping",
        ] {
            let topic: Topic = near.parse().expect("a valid name");
            assert_eq!((topic.to_string().as_str(), topic.room()), (near, None));
            assert_eq!(topic, near.parse().expect("a valid name"));
        }
    }

    /// Keys that look like a part of a topic's text.
    const KEYS: [&str; 11] = [
        "",
        "a",
        "a b:c",
        ":",
        "7",
        TO_CLIENTS,
        TO_FOLLOWERS,
        TO_SERVICE,
        "from-service-to-ws:7",
        ":from-service-to-ws",
        "from-service-to-ws:",
    ];

    #[test]
    fn every_topic_of_a_room_comes_back_from_its_text_and_no_two_have_the_same() {
        let kind: ServiceName = "chat".parse().expect("valid");
        let rooms = KEYS.map(|key| Room::new(&kind, key).expect("valid"));
        let mut texts = std::collections::BTreeSet::new();
        for room in rooms.into_iter().chain([Room::from(&kind)]) {
            for topic in [
                Topic::from_ws_to_service(&room),
                Topic::from_service_to_ws(&room),
                Topic::from_presence_to_ws(&room),
                Topic::from_service_to_client(&room, ClientId::new(7)),
            ] {
                assert_eq!(topic.to_string().parse(), Ok(topic.clone()));
                assert_eq!(topic.room(), Some(&room));
                assert!(texts.insert(topic.to_string()), "{topic} twice");
            }
        }
    }

    #[test]
    fn no_text_is_that_of_the_bus_own_topics() {
        let own = Topic::internal("topic:t");
        assert!(own.to_string().parse::<Topic>().is_err());
        assert_ne!(own, "topic:t".parse().expect("a valid name"));
        assert_eq!(own.own_window(), Some(TAP_WINDOW));
    }
}
