//! The list of tapped topics and clients: a topic without a tap pays nothing for other taps.

use std::collections::BTreeMap;
use std::fmt;

use super::message::Message;
use super::origin::Generation;
use super::topic::{ClientId, Topic};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::wire::DataKind;

/// The subject of a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// A client: the tap sees how the messages of the client are handled.
    Client(ClientId),
    /// A topic: the tap sees which messages are published on the topic.
    Topic(Topic),
}

impl Tapped {
    /// The internal topic on which the events of this subject are published.
    pub(super) fn events(&self) -> Topic {
        match self {
            Self::Client(client) => Topic::internal(&format!("client:{client}")),
            Self::Topic(topic) => Topic::internal(&format!("topic:{topic}")),
        }
    }
}

/// All taps of a bus.
#[derive(Debug)]
pub(super) struct Taps {
    listed: Mutex<Listed>,
    /// The number of taps of topics.
    topics: AtomicU64,
    /// The version of the taps of clients: rises with each change.
    version: AtomicU64,
}

/// The number of taps of each subject.
#[derive(Debug, Default)]
struct Listed {
    clients: BTreeMap<ClientId, usize>,
    topics: BTreeMap<Topic, usize>,
}

impl Default for Taps {
    fn default() -> Self {
        Self {
            listed: Mutex::new(Listed::default()),
            topics: AtomicU64::new(0),
            version: AtomicU64::new(0),
        }
    }
}

impl Taps {
    /// The number of taps of topics and clients.
    pub(super) fn count(&self) -> u64 {
        let listed = self.listed.lock();
        let (clients, topics) = (listed.clients.values(), listed.topics.values());
        clients.chain(topics).sum::<usize>() as u64
    }

    /// Whether at least one topic has a tap.
    #[inline]
    pub(super) fn any_topic(&self) -> bool {
        // Relaxed is enough: a publisher that sees a new tap late leaves an event out, no more.
        self.topics.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_topic_tapped(&self, topic: &Topic) -> bool {
        self.any_topic() && self.listed.lock().topics.contains_key(topic)
    }

    pub(super) fn is_client_tapped(&self, client: ClientId) -> bool {
        self.listed.lock().clients.contains_key(&client)
    }

    /// A version number that changes whenever a tap of a client begins or ends.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        // Relaxed is enough: a session that sees a new tap late leaves an event out, no more.
        self.version.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, tapped: &Tapped) {
        let mut listed = self.listed.lock();
        match tapped {
            Tapped::Client(client) => *listed.clients.entry(*client).or_default() += 1,
            Tapped::Topic(topic) => *listed.topics.entry(topic.clone()).or_default() += 1,
        }
        self.changed(tapped, &listed);
    }

    pub(super) fn remove(&self, tapped: &Tapped) {
        let mut listed = self.listed.lock();
        match tapped {
            Tapped::Client(client) => remove_one(&mut listed.clients, client),
            Tapped::Topic(topic) => remove_one(&mut listed.topics, topic),
        }
        self.changed(tapped, &listed);
    }

    fn changed(&self, tapped: &Tapped, listed: &Listed) {
        match tapped {
            Tapped::Client(_) => {
                self.version.fetch_add(1, Ordering::Relaxed);
            }
            Tapped::Topic(_) => {
                let topics = listed.topics.values().sum::<usize>() as u64;
                self.topics.store(topics, Ordering::Relaxed);
            }
        }
    }
}

/// Removes one tap of this subject.
fn remove_one<K: Ord>(taps: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = taps.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            taps.remove(key);
        }
    }
}

/// A number, or null, in JSON.
struct OrNull(Option<u64>);

impl fmt::Display for OrNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// The event for a published message, as JSON: everything but the payload.
pub(super) fn published(message: &Message, offset: u64, subscribers: usize) -> String {
    let kind = match message.frame().kind() {
        DataKind::Binary => "binary",
        DataKind::Text => "text",
    };
    let client = message.sender().map(|sender| sender.id().number());
    let generation = message.origin().generation().map(Generation::number);
    // Written by hand, without a JSON value: a tap may get a million events a second.
    format!(
        concat!(
            r#"{{"bytes":{},"client":{},"event":"published","generation":{},"#,
            r#""kind":"{}","number":{},"subscribers":{}}}"#
        ),
        message.len(),
        OrNull(client),
        OrNull(generation),
        kind,
        offset,
        subscribers,
    )
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bus::{Client, Origin};
    use crate::client::identity::Identity;

    #[test]
    fn an_event_says_all_of_a_message_but_what_is_in_it() {
        let topic: Topic = "t".parse().expect("a valid name");
        let sender = Client::new(ClientId::new(7), Identity::default(), topic);
        let binary = Message::binary([1, 2, 3]);
        for (origin, client, generation) in [
            (Origin::Unknown, None, None),
            (Origin::Service(Generation::new(4)), None, Some(4)),
            (Origin::Client(sender), Some(7), None),
        ] {
            for (message, kind, bytes) in [
                (Message::text("\"a\""), "text", 3),
                (binary.clone(), "binary", 3),
            ] {
                let event = published(&message.from_origin(origin.clone()), 9, 2);
                let event: Value = serde_json::from_str(&event).expect("JSON");
                let expected = json!({
                    "event": "published", "number": 9, "kind": kind, "bytes": bytes,
                    "subscribers": 2, "client": client, "generation": generation,
                });
                assert_eq!(event, expected);
            }
        }
    }
}
