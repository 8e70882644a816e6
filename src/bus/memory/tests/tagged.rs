//! Tags travel with their messages over the bus.

use std::task::{Context, Poll, Waker};

use super::recovering::{World, after, topic, world};
use super::*;
use crate::bus::{
    Client, ClientId, Generation, Maker, Origin, Page, Reading, Received, Start, Subscription, Tags,
};
use crate::client::identity::Identity;
use crate::instant::Instant;

fn tags(text: &str) -> Tags {
    [("unit", text)].into_iter().collect()
}

fn publish(world: &World, batch: Batch) {
    world.bus.publish_by(&topic("a"), batch, &Maker::default());
}

/// Publishes a pair with tags, as a service does, and a message without.
fn publish_all(world: &World) {
    let pair = Batch::join(["1", "2"].map(Message::text)).expect("two");
    let origin = Origin::Service(Generation::new(1));
    let pair = pair.tagged(tags("EUR")).stamped(origin, Instant::ZERO);
    publish(world, pair);
    publish(world, "3".into());
}

/// The tags of all messages that wait for a reader.
fn read(reader: &mut Subscription) -> Vec<Option<Tags>> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Received::Message(message)) = reader.poll_recv(&mut cx) {
        all.push(message.tags().cloned());
    }
    all
}

fn history(world: &World) -> Page {
    let all = Reading {
        since: None,
        limit: 100,
        reverse: false,
    };
    let page = world.bus.history(&topic("a"), &all);
    page.expect("it has a history")
}

fn kept(page: &Page) -> Vec<Option<Tags>> {
    let messages = page.messages.iter();
    messages
        .map(|recorded| recorded.message.tags().cloned())
        .collect()
}

#[test]
fn readers_histories_and_what_is_saved_have_the_tags_of_each_message() {
    let world = world();
    let (mut reader, _) = world.join("a", Start::Next);
    publish_all(&world);
    let expected = [Some(tags("EUR")), Some(tags("EUR")), None];
    assert_eq!(read(&mut reader), expected);
    let (mut late, _) = world.join("a", after(1, 1));
    assert_eq!(read(&mut late), expected[1..]);
    assert_eq!(kept(&history(&world)), expected);
    let restored = recovering::world();
    assert_eq!(restored.bus.import(&world.bus.export()), 1);
    assert_eq!(kept(&history(&restored)), expected);
}

#[test]
fn a_client_that_sends_with_tags_is_remembered_with_them_and_without_its_claims() {
    let world = world();
    let identity = Identity {
        subject: Some("ann".into()),
        claims: Some("{}".into()),
        ..Identity::default()
    };
    let client = Client::new(ClientId::new(7), identity, topic("b"));
    let batch = Batch::from("x").tagged(tags("EUR"));
    publish(&world, batch.from_origin(Origin::Client(client)));
    let page = history(&world);
    assert_eq!(kept(&page), [Some(tags("EUR"))]);
    let sender = page.messages[0].message.sender().expect("a client");
    assert_eq!((sender.subject(), sender.claims()), (Some("ann"), None));
}

#[test]
fn tags_count_as_bytes_of_each_message_in_logs_and_histories() {
    let bytes_of = |tags: Tags| {
        let world = world();
        let (reader, _) = world.join("a", Start::Next);
        let pair = Batch::join(["1", "2"].map(Message::text)).expect("two");
        publish(&world, pair.tagged(tags));
        let kept = world.bus.topics()[0].bytes;
        drop(reader);
        (kept, world.bus.histories().bytes)
    };
    let (long, longer) = (tags(&"x".repeat(100)), tags(&"x".repeat(300)));
    let [plain, long, longer] = [Tags::from_iter([("", ""); 0]), long, longer].map(bytes_of);
    assert_eq!(plain.0, 2);
    assert_eq!(long.0, 2 + 2 * (r#"{"unit":""}"#.len() + 100));
    assert_eq!(longer.0, long.0 + 2 * 200);
    assert!(long.1 > plain.1 + 100, "{plain:?} {long:?}");
    // A history keeps the tags of a batch once, as the batch does.
    assert_eq!(longer.1, long.1 + 200);
}

#[test]
fn as_many_tagged_messages_fit_as_their_bytes_allow() {
    let window = Window {
        bytes: 2 * (1 + tags("EUR").bytes()),
        ..Window::default()
    };
    let bus = InMemoryMessageBus::new(window, 1);
    let topic: Topic = "t".parse().expect("a valid name");
    let reader = bus.subscribe(&topic).expect("there is room");
    let mut publisher = bus.publisher(&topic);
    let three = Batch::join(["1", "2", "3"].map(Message::text)).expect("three");
    let mut cx = Context::from_waker(Waker::noop());
    let Offered::Full(left) = publisher.offer(&mut cx, three.tagged(tags("EUR"))) else {
        panic!("two fit");
    };
    assert_eq!((left.len(), left.tags()), (1, Some(&tags("EUR"))));
    drop(reader);
}
