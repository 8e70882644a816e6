//! Live views of a topic or a client.
//!
//! A tap is no subscriber of the topic it watches. Its events are published on an internal topic,
//! whose name no other topic can have.

use super::subscription::{Received, Subscription};
use super::taps::{Tapped, Taps};
use super::topics::Topics;
use crate::sync::Arc;

/// A live view of a topic or a client; dropping it ends it.
#[derive(Debug)]
pub struct Tap {
    topics: Arc<Topics>,
    tapped: Tapped,
    events: Subscription,
}

impl Tap {
    pub(super) fn new(topics: Arc<Topics>, tapped: Tapped, events: Subscription) -> Self {
        topics.change_taps(&tapped, Taps::add);
        Self {
            topics,
            tapped,
            events,
        }
    }

    /// Waits for the next event, as JSON; for events that were lost, an object with their number.
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
        self.topics.change_taps(&self.tapped, Taps::remove);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::task::{Context, Waker};

    use futures::FutureExt;
    use serde_json::Value;

    use super::*;
    use crate::bus::{Batch, InMemoryMessageBus, Message, MessageBus, Offered, Topic};
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
        bus.publish(&topic(), "for nobody".into());
        let _reader = bus.subscribe(&topic()).expect("there is room");
        bus.publish(&topic(), "secret".into());
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
        let offered = publisher.offer(&mut cx, "a".into());
        assert_eq!(offered, Offered::Published(1));
        let several = Batch::join(["b", "c"].map(Message::text)).expect("two");
        assert_eq!(publisher.offer(&mut cx, several), Offered::Published(1));
        assert_eq!(publisher.publish("d".into()), 1);
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
        assert_eq!(bus.publish(&topic(), "x".into()), 0);
        let mut reader = bus.subscribe(&topic()).expect("there is room");
        for _ in 0..5000 {
            assert_eq!(bus.publish(&topic(), "x".into()), 1);
            assert!(reader.recv().now_or_never().is_some());
        }
        let missed = next(&mut tap).expect("it was too slow");
        assert_eq!(missed["tap_missed"], 5000 - 4096);
        assert_eq!(next(&mut tap).expect("an event")["number"], 5000 - 4096);
        drop((tap, reader));
        assert_eq!((bus.taps(), bus.counts().topics), (0, 0));
    }

    #[test]
    fn a_tap_of_another_topic_is_told_nothing_and_one_that_is_dropped_ends() {
        let bus = bus();
        let _reader = bus.subscribe(&topic()).expect("there is room");
        let other: Topic = "other".parse().expect("a valid name");
        let mut tap = bus
            .tap(Tapped::Topic(other.clone()))
            .expect("there is room");
        bus.publish(&topic(), "x".into());
        assert_eq!(next(&mut tap), None);
        // The topic is made after its tap has begun.
        let _other = bus.subscribe(&other).expect("there is room");
        bus.publish(&other, "x".into());
        assert_eq!(next(&mut tap).expect("an event")["number"], 0);
        // The second tap of a topic goes on when the first one ends.
        let mut second = bus
            .tap(Tapped::Topic(other.clone()))
            .expect("there is room");
        drop(tap);
        bus.publish(&other, "x".into());
        assert_eq!(next(&mut second).expect("an event")["number"], 1);
        drop(second);
        assert!(!bus.is_topic_tapped(&other));
        assert_eq!(bus.taps(), 0);
    }
}
