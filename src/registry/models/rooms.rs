//! Rooms that are made and removed against clients and a drain.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use loom::future::block_on;

use super::world::*;
use crate::registry::*;
use crate::sync::model;

/// 2 clients x (join a room, wait to be served, leave) against the making and the removal of the
/// room; bound 2.
///
/// Catches: a room that is made twice, a client that joins a room that is over, a room that is
/// removed under a client, a permit or an entry that is kept, a generation that does not rise.
#[test]
fn clients_of_a_room_share_one_room_or_have_one_after_the_other() {
    model(Some(2), || {
        let world = World::with_rooms(2);
        let clients = [(); 2].map(|()| {
            let registry = world.registry.clone();
            world.rt.client(move || {
                let room = registry.room("s", Some("k")).expect("a key");
                let joined = registry.join_room(&room, &Peer::default(), Arrival::default());
                let mut lease = joined.expect("not refused");
                let mut seen = lease.status();
                while !matches!(seen, Status::Running(_)) {
                    seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
                }
                assert!(seen.generation() >= Some(lease.since()));
                let there = registry.room_status(&room).expect("a client is in it");
                assert_eq!(Some(there.generation), seen.generation(), "another room");
            })
        });
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        assert_eq!(world.running.load(Ordering::SeqCst), 0);
        assert_eq!(world.registry.rooms_open(), 0, "a permit is kept");
        let status = world.registry.kind_status("s").expect("registered");
        assert_eq!((status.rooms, status.clients), (0, 0), "a room is kept");
        assert_eq!(status.counts.starts, status.counts.exits);
        assert!((1..=2).contains(&status.counts.starts), "{status:?}");
    });
}

/// A drain against the making of a room; bound 2.
///
/// Catches: a room that is made after the drain has looked at the rooms.
#[test]
fn no_room_is_made_behind_a_drain() {
    model(Some(2), || {
        let world = World::with_rooms(2);
        let registry = world.registry.clone();
        let joiner = world.rt.client(move || {
            let room = registry.room("s", Some("k")).expect("a key");
            if let Ok(mut lease) = registry.join_room(&room, &Peer::default(), Arrival::default()) {
                until_draining(&mut lease);
            }
        });
        let registry = world.registry.clone();
        let drainer = world.rt.client(move || {
            registry.drain();
            block_on(registry.drained());
            let status = registry.kind_status("s").expect("registered");
            assert!(status.is_idle(), "{status:?}");
        });
        world.rt.drive();
        for client in [joiner, drainer] {
            client.join().expect("no panic");
        }
        assert_eq!(world.registry.rooms_open(), 0, "a room is kept");
    });
}
