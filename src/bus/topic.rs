//! Names of topics and services, and the topics between a service and its clients.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{SERVICE_NAME_BYTES_MAX, TAP_WINDOW, TOPIC_BYTES_MAX, Window};

/// The first character of the text of an internal topic; a parsed text never has it.
const INTERNAL: char = '\u{1}';

/// A topic: the messages between a service and its clients in one direction, or any other name.
///
/// Cheap to clone. The text of a topic has 1 to [`TOPIC_BYTES_MAX`] visible ASCII characters,
/// without spaces. Two topics with equal texts are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<Name>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    /// A topic between a service and its clients.
    Between(ServiceName, Direction),
    /// An internal topic of the bus.
    Internal(Box<str>),
    /// A topic with any other name.
    Other(Box<str>),
}

/// The receivers of a service's topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Direction {
    Service,
    Everyone,
    Client(ClientId),
}

const TO_SERVICE: &str = "from-ws-to-service";
const TO_CLIENTS: &str = "from-service-to-ws";

impl Topic {
    /// Makes the topic on which a service receives from its clients: `ping:from-ws-to-service`.
    pub fn from_ws_to_service(service: &ServiceName) -> Self {
        Self::between(service, Direction::Service)
    }

    /// Makes the topic on which a service reaches every client: `ping:from-service-to-ws`.
    pub fn from_service_to_ws(service: &ServiceName) -> Self {
        Self::between(service, Direction::Everyone)
    }

    /// Makes the topic on which a service reaches one client: `echo:from-service-to-ws:42`.
    pub fn from_service_to_client(service: &ServiceName, client: ClientId) -> Self {
        Self::between(service, Direction::Client(client))
    }

    fn between(service: &ServiceName, direction: Direction) -> Self {
        Self(Arc::new(Name::Between(service.clone(), direction)))
    }

    /// Makes an internal topic of the bus, with a text that cannot be parsed.
    pub(super) fn internal(name: &str) -> Self {
        Self(Arc::new(Name::Internal(name.into())))
    }

    /// The service of a topic between a service and its clients.
    pub(super) fn service(&self) -> Option<&ServiceName> {
        match &*self.0 {
            Name::Between(service, _direction) => Some(service),
            Name::Internal(_) | Name::Other(_) => None,
        }
    }

    /// Whether the topic reaches a single client.
    pub(super) fn is_of_client(&self) -> bool {
        matches!(&*self.0, Name::Between(_, Direction::Client(_)))
    }

    /// The fixed window of an internal topic; `None` for other topics.
    pub(super) fn own_window(&self) -> Option<Window> {
        match &*self.0 {
            Name::Internal(_) => Some(TAP_WINDOW),
            Name::Between(..) | Name::Other(_) => None,
        }
    }
}

/// Parses the topic of a service; `None` for any other text.
fn of_service(text: &str) -> Option<Topic> {
    let (service, direction) = text.split_once(':')?;
    let direction = match direction.split_once(':') {
        None if direction == TO_SERVICE => Direction::Service,
        None if direction == TO_CLIENTS => Direction::Everyone,
        Some((TO_CLIENTS, client)) => Direction::Client(ClientId::new(client.parse().ok()?)),
        None | Some(_) => return None,
    };
    let topic = Topic::between(&service.parse().ok()?, direction);
    // `7` and `07` are one number, but only `7` is the text of a topic.
    (topic.to_string() == text).then_some(topic)
}

impl FromStr for Topic {
    type Err = NameError;

    /// Parses a topic, for example from a configuration.
    fn from_str(text: &str) -> Result<Self, NameError> {
        check(text, TOPIC_BYTES_MAX, u8::is_ascii_graphic)?;
        let other = || Self(Arc::new(Name::Other(text.into())));
        Ok(of_service(text).unwrap_or_else(other))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Name::Between(service, Direction::Service) => write!(f, "{service}:{TO_SERVICE}"),
            Name::Between(service, Direction::Everyone) => write!(f, "{service}:{TO_CLIENTS}"),
            Name::Between(service, Direction::Client(client)) => {
                write!(f, "{service}:{TO_CLIENTS}:{client}")
            }
            Name::Internal(name) => write!(f, "{INTERNAL}{name}"),
            Name::Other(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The name of a service: 1 to [`SERVICE_NAME_BYTES_MAX`] of `a-z 0-9 . _ -`, the first a letter or
/// digit. A name needs no escape in a path or a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check(
            name,
            SERVICE_NAME_BYTES_MAX,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
        )?;
        match name.as_bytes()[0] {
            first if first.is_ascii_alphanumeric() => Ok(Self(name.into())),
            _ => Err(NameError::BadByte { at: 0 }),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The number of one connected client, unique within one running application.
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

/// The reason why a text is no name of a topic or service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The byte at this position is not allowed there.
    #[error("the character at byte {at} is not allowed there")]
    BadByte {
        /// The position of the first such byte.
        at: usize,
    },
    /// The text is empty.
    #[error("a name needs at least one character")]
    Empty,
    /// The text is too long.
    #[error("the name has {bytes} bytes, {max} are allowed")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
        /// The largest allowed length in bytes.
        max: usize,
    },
}

fn check(name: &str, max: usize, allowed: impl Fn(&u8) -> bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max {
        let bytes = name.len();
        return Err(NameError::TooLong { bytes, max });
    }
    match name.bytes().position(|byte| !allowed(&byte)) {
        Some(at) => Err(NameError::BadByte { at }),
        None => Ok(()),
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
    fn service_name_is_lower_case_and_starts_with_a_letter_or_digit() {
        for good in ["a", "0", "time-now_2.b", &"z".repeat(64)] {
            assert_eq!(
                good.parse::<ServiceName>().map(|t| t.to_string()),
                Ok(good.to_owned())
            );
        }
        for (bad, at) in [
            ("Ping", 0),
            (".", 0),
            ("..", 0),
            ("-a", 0),
            ("a/b", 1),
            ("a:b", 1),
        ] {
            assert_eq!(
                bad.parse::<ServiceName>(),
                Err(NameError::BadByte { at }),
                "{bad}"
            );
        }
        assert!("z".repeat(65).parse::<ServiceName>().is_err());
    }

    #[test]
    fn every_topic_of_the_longest_service_is_a_valid_topic() {
        let service: ServiceName = "z".repeat(64).parse().expect("valid");
        let client = ClientId::new(u64::MAX);
        for topic in [
            Topic::from_ws_to_service(&service),
            Topic::from_service_to_ws(&service),
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
        let service: ServiceName = "ping".parse().expect("valid");
        assert_eq!(
            (service.as_str(), format!("{service}")),
            ("ping", "ping".into())
        );
        assert_eq!(format!("{service:?}"), r#""ping""#);
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
            assert_eq!((topic.to_string().as_str(), topic.service()), (near, None));
            assert_eq!(topic, near.parse().expect("a valid name"));
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
