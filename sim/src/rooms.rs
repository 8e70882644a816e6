//! The rooms of a plan: their kinds and bounds, and what a path is the name of.

use busline::app::{Builder, RegisterError};
use busline::limits::{LifecyclePolicy, Publish, RelayPolicy};
use busline::rt::Runtime;
use busline::{Limits, Service, ServicePolicy};
use serde::{Deserialize, Serialize};

use crate::wild::Wild;

/// The kind of rooms with an instance: `hall.rs`.
pub const HALL: &str = "hall";

/// The kind of rooms that is a relay.
pub const RELAY: &str = "relay";

/// Both kinds.
pub const KINDS: [&str; 2] = [HALL, RELAY];

/// The keys of rooms, as they stand in a path: plain ones, and such that need to be encoded.
pub const KEYS: [&str; 5] = ["a", "b", "B", "a%2Fb", "%7e%20"];

/// The first number of the clients that come to rooms.
pub const FIRST: u32 = 5_000;

/// The bounds of the rooms of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rooms {
    /// Rooms in all.
    pub most: usize,
    /// Rooms that clients of one address have made.
    pub per_address: usize,
    /// Rooms that clients of one subject have made.
    pub per_subject: usize,
    /// Clients of one room.
    pub clients: usize,
    /// Whether a client of the relay gets its own messages.
    pub echo: bool,
}

impl Rooms {
    /// These limits with the bounds of rooms.
    pub(crate) fn limit(self, limits: Limits) -> Limits {
        Limits {
            rooms: self.most,
            rooms_per_address: self.per_address,
            rooms_per_subject: self.per_subject,
            ..limits
        }
    }

    /// Registers both kinds, with `hall` for the instances of the first.
    pub(crate) fn register<R: Runtime>(
        self,
        builder: Builder<R>,
        wild: &Wild,
        hall: impl Service,
    ) -> Result<Builder<R>, RegisterError> {
        let lifecycle = LifecyclePolicy {
            clients_max: self.clients,
            ..wild.lifecycle()
        };
        let own = |policy: ServicePolicy| ServicePolicy {
            lifecycle: lifecycle.clone(),
            slow_consumer: wild.slow_consumer(),
            ..policy
        };
        let relay = RelayPolicy {
            publish: Publish::Members,
            echo: self.echo,
            ..RelayPolicy::default()
        };
        builder
            .room_with(HALL, hall, own(ServicePolicy::of_rooms()))?
            .relay_with(RELAY, own(ServicePolicy::of_relay(relay)))
    }
}

/// The kind and the key of a room by its path below `/ws/`; `None` for the path of a service.
pub(crate) fn parts(path: &str) -> Option<(&str, String)> {
    let (kind, key) = path.split_once('/')?;
    Some((kind, decoded(key)))
}

/// The name of the room in logs and topics.
pub(crate) fn name(path: &str) -> Option<String> {
    parts(path).map(|(kind, key)| format!("{kind}:{key}"))
}

/// Whether the path or the name is of a room of this kind.
pub(crate) fn is_of(kind: &str, name: &str) -> bool {
    let rest = name.strip_prefix(kind);
    rest.is_some_and(|rest| rest.starts_with(['/', ':']))
}

/// Whether the name in a log is of a room.
pub(crate) fn is_room(name: &str) -> bool {
    name.contains(':')
}

/// The path with the number of the client as its query, by which an instance knows it.
pub(crate) fn asked(path: &str, client: u32) -> String {
    match parts(path) {
        Some(_) => format!("{path}?{}", query(client)),
        None => path.to_owned(),
    }
}

/// The query of a client of a room.
pub(crate) fn query(client: u32) -> String {
    format!("n={client}")
}

/// The client with this query.
pub(crate) fn client_of(query: Option<&str>) -> u32 {
    let number = query.and_then(|query| query.strip_prefix("n="));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Decodes what stands in a path, on its own and not by the product.
fn decoded(key: &str) -> String {
    let mut parts = key.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        decoded.extend(code.map(char::from));
        decoded.push_str(part.get(2..).unwrap_or_default());
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_name_of_a_room() {
        let names = KEYS.map(|key| name(&format!("hall/{key}")));
        let expected = ["hall:a", "hall:b", "hall:B", "hall:a/b", "hall:~ "];
        assert_eq!(names, expected.map(|name| Some(name.to_owned())));
        assert_eq!(name("echo"), None);
        assert!(is_of(HALL, "hall/a") && is_of(HALL, "hall:a"));
        assert!(!is_of(HALL, "halls:a") && !is_of(HALL, "relay:a"));
    }

    #[test]
    fn a_client_is_known_by_its_query() {
        assert_eq!(asked("hall/a", 7), "hall/a?n=7");
        assert_eq!(asked("echo", 7), "echo");
        assert_eq!(client_of(Some(&query(7))), 7);
    }
}
