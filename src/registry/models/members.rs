//! Members of a room against an instance that receives their events.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::*;
use crate::bus::{ClientId, Message, Origin, Topic};
use crate::client::identity::Identity;
use crate::registry::*;
use crate::service::{Context, Event as Told};
use crate::sync::model;

/// A client that joins, says something and leaves, against an instance that receives the events of
/// its room and runs for another client; bound 2.
///
/// Catches: a message that is received before the join of its client, a leave that is told before
/// the message, and a change that wakes no waiting instance.
#[test]
fn an_instance_is_told_of_a_client_before_and_after_its_message() {
    model(Some(2), || {
        let (rt, bus) = (ModelRt::new(1), bus());
        let seen = StdArc::new(AtomicUsize::new(0));
        let counted = StdArc::clone(&seen);
        let service = move |mut ctx: Context| {
            let seen = StdArc::clone(&counted);
            async move {
                while let Some(event) = ctx.event().await {
                    // Each event must be the next of these three.
                    let (next, client) = match event {
                        Told::Joined(client) => (0, client),
                        Told::Message(client, _message) => (1, client),
                        Told::Left(client, _reason) => (2, client),
                        Told::Request(_) => unreachable!("nobody asks"),
                    };
                    // The client that was there at the start leaves at any time.
                    if client.id() == ClientId::new(2) {
                        assert_eq!(seen.fetch_add(1, Ordering::SeqCst), next);
                    }
                }
            }
        };
        let registration = Registration {
            service: Some(StdArc::new(service)),
            policy: LifecyclePolicy::default(),
            has_rooms: true,
            has_members: true,
            presence: PresencePolicy::default(),
        };
        let registry = registry(registration, &bus, &rt);
        let room = registry.room("s", Some("k")).expect("a key");
        let join = |id| {
            let topic = Topic::from_service_to_client(&room, ClientId::new(id));
            let client = Client::new(ClientId::new(id), Identity::anonymous(), topic);
            let lease = registry.join_room(&room, &Peer::default(), client.clone().into());
            (lease.expect("not refused"), client)
        };
        let (stays, _first) = join(1);
        let (mut lease, client) = join(2);
        let talks = rt.client(move || {
            lease.publishes();
            let said = Message::text("a").from_origin(Origin::Client(client));
            bus.publish(lease.inbox(), said.into());
            drop(lease);
            drop(stays);
        });
        rt.drive();
        talks.join().expect("no panic");
        assert_eq!(seen.load(Ordering::SeqCst), 3);
        assert_eq!(registry.rooms_open(), 0);
    });
}

/// The last client says something and leaves, against an instance that receives; bound 3.
///
/// Catches: an instance that takes the word to stop for the end of its messages, although a message
/// came between its look at the inbox and its look for the word.
#[test]
fn an_instance_receives_the_last_message_of_its_last_client() {
    model(Some(3), || {
        let (rt, bus) = (ModelRt::new(1), bus());
        let heard = StdArc::new(AtomicUsize::new(0));
        let counted = StdArc::clone(&heard);
        let service = move |mut ctx: Context| {
            let heard = StdArc::clone(&counted);
            async move {
                while ctx.recv().await.is_some() {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let registration = Registration {
            service: Some(StdArc::new(service)),
            policy: LifecyclePolicy::default(),
            has_rooms: false,
            has_members: false,
            presence: PresencePolicy::default(),
        };
        let registry = registry(registration, &bus, &rt);
        let lease = registry.join("s").expect("not refused");
        let talks = rt.client(move || {
            bus.publish(lease.inbox(), Message::text("a").into());
            drop(lease);
        });
        rt.drive();
        talks.join().expect("no panic");
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    });
}
