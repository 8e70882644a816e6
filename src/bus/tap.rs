//! Watching what happens, by those who must not be noticed: a tap is no subscriber of what it taps.
//!
//! What is tapped tells its events on a topic beside it, whose name nobody else can have. Without a
//! tap that costs one look at a counter.

use super::memory::Shared;
use super::message::{Message, Origin};
use super::subscription::{Received, Subscription};
use super::topic::{ClientId, Topic};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::wire::DataKind;

/// How many taps there are.
#[derive(Debug)]
pub(super) struct Taps(AtomicU64);

/// What can be tapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// What happens to one client's messages.
    Client(ClientId),
    /// What is published on a topic.
    Topic(Topic),
}

impl Tapped {
    /// The topic its events are told on.
    pub(super) fn events(&self) -> Topic {
        match self {
            Self::Client(client) => Topic::internal(&format!("client:{client}")),
            Self::Topic(topic) => Topic::internal(&format!("topic:{topic}")),
        }
    }
}

/// A live view of a topic or client; it ends when it is dropped.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    events: Subscription,
}

impl Default for Taps {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Taps {
    pub(super) fn count(&self) -> u64 {
        // Whoever is a moment late sees an event less.
        self.0.load(Ordering::Relaxed)
    }

    /// Whether an event may be of interest to anybody.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count() > 0
    }
}

impl Tap {
    pub(super) fn new(shared: Arc<Shared>, events: Subscription) -> Self {
        shared.taps.0.fetch_add(1, Ordering::Relaxed);
        Self { shared, events }
    }

    /// The next event, as JSON; of those it was too slow for it tells the number.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> String {
        match self.events.recv().await {
            Received::Lagged(missed) => serde_json::json!({ "tap_missed": missed }).to_string(),
            Received::Message(message) => message.as_text().unwrap_or_default().to_owned(),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.taps.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on its topic, as a tap sees it: all but what it says.
pub(super) fn published(message: &Message, number: u64, subscribers: usize) -> String {
    let kind = match message.frame().kind() {
        DataKind::Binary => "binary",
        DataKind::Text => "text",
    };
    let (client, generation) = match message.origin() {
        Origin::Client(sender) => (Some(sender.client().number()), None),
        Origin::Service(generation) => (None, Some(generation.number())),
        Origin::Unknown => (None, None),
    };
    let event = serde_json::json!({
        "event": "published",
        "number": number,
        "kind": kind,
        "bytes": message.len(),
        "subscribers": subscribers,
        "client": client,
        "generation": generation,
    });
    event.to_string()
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::{Context, Waker};

    use futures::FutureExt;
    use serde_json::Value;

    use super::*;
    use crate::bus::{InMemoryMessageBus, MessageBus, Offered};
    use crate::limits::Limits;

    fn bus() -> InMemoryMessageBus {
        let limits = Limits::default();
        InMemoryMessageBus::new(limits.window, limits.topics)
    }

    fn topic() -> Topic {
        "t".parse().expect("a valid name")
    }

    fn next(tap: &mut Tap) -> Option<Value> {
        let event = tap.next().now_or_never()?;
        Some(serde_json::from_str(&event).expect("JSON"))
    }

    #[test]
    fn a_tap_sees_each_message_and_never_what_it_says() {
        let bus = bus();
        let mut tap = bus.tap(Tapped::Topic(topic())).expect("there is room");
        bus.publish(&topic(), Message::text("for nobody"));
        let _reader = bus.subscribe(&topic()).expect("there is room");
        bus.publish(&topic(), Message::text("secret"));
        let event = next(&mut tap).expect("an event");
        assert_eq!((&event["number"], &event["bytes"]), (&0.into(), &6.into()));
        assert_eq!(
            (&event["kind"], &event["subscribers"]),
            (&"text".into(), &1.into())
        );
        assert!(!event.to_string().contains("secret"));
        assert_eq!(next(&mut tap), None, "a message for nobody has no number");
    }

    #[test]
    fn what_was_offered_is_seen_with_its_number_as_what_was_published() {
        let bus = bus();
        let mut tap = bus.tap(Tapped::Topic(topic())).expect("there is room");
        let _reader = bus.subscribe(&topic()).expect("there is room");
        let mut publisher = bus.publisher(&topic());
        let mut cx = Context::from_waker(Waker::noop());
        let offered = publisher.offer(&mut cx, Message::text("a"));
        assert_eq!(offered, Offered::Published(1));
        let mut several = [Message::text("b"), Message::text("c")]
            .into_iter()
            .collect();
        publisher.offer_all(&mut cx, &mut several);
        assert_eq!(publisher.publish(Message::text("d")), 1);
        for number in 0..4 {
            let event = next(&mut tap).expect("an event");
            assert_eq!(
                (&event["number"], &event["subscribers"]),
                (&number.into(), &1.into())
            );
        }
        assert_eq!(next(&mut tap), None);
    }

    #[test]
    fn a_tap_is_no_subscriber_and_holds_nobody_up() {
        let bus = bus();
        let mut tap = bus.tap(Tapped::Topic(topic())).expect("there is room");
        assert_eq!(bus.publish(&topic(), Message::text("x")), 0);
        let mut reader = bus.subscribe(&topic()).expect("there is room");
        for _ in 0..5000 {
            assert_eq!(bus.publish(&topic(), Message::text("x")), 1);
            assert!(reader.recv().now_or_never().is_some());
        }
        let missed = next(&mut tap).expect("it was too slow");
        assert_eq!(missed["tap_missed"], 5000 - 4096);
        assert_eq!(next(&mut tap).expect("an event")["number"], 5000 - 4096);
        drop((tap, reader));
        assert_eq!((bus.taps(), bus.counts().topics), (0, 0));
    }
}
