//! Clients that come and go against an instance that starts and ends.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::future::block_on;

use super::world::*;
use crate::registry::*;
use crate::sync::model;

/// 2 clients x (join, wait to be served, leave) against the instance's start and exit; bound 2.
///
/// Catches: a start or stop outside of the lock (two instances, or none), a release that counts
/// twice, a client that is bound to a dying instance, a status change that wakes no watcher.
#[test]
fn clients_that_come_and_go_are_all_served_by_one_instance_at_a_time() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let clients = [world.served_client(), world.served_client()];
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        let counts = world.assert_over();
        assert!((1..=2).contains(&counts.starts), "{counts:?}");
        assert_eq!(counts.crashes, 0, "{counts:?}");
    });
}

/// 2 clients as above, with an instance that lingers, whose timer fires at once; bound 2.
///
/// Catches: a timer that is not disarmed by a join, and a stale timer that is taken for a new one.
#[test]
fn a_join_that_races_the_end_of_the_linger_is_served() {
    model(Some(2), || {
        let world = World::new(2, Duration::from_secs(1), Behaviour::Obeys);
        let clients = [world.served_client(), world.served_client()];
        world.rt.drive();
        for client in clients {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}

/// 1 client that comes and goes at once against 1 client that waits for an instance after the
/// first, which fails; bound 2.
///
/// Catches: a crash after which a waiting client gets no new instance, an exit of an old generation
/// that ends the new instance.
#[test]
fn a_client_is_served_after_the_crash_of_the_first_instance() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::FailsFirst);
        let (registry, leases) = (world.registry.clone(), StdArc::clone(&world.leases));
        let passer = world.rt.client(move || {
            let lease = leases.join(&registry).expect("not refused");
            leases.leave(lease);
        });
        let (registry, leases) = (world.registry.clone(), StdArc::clone(&world.leases));
        let stayer = world.rt.client(move || {
            let mut lease = leases.join(&registry).expect("not refused");
            let mut seen = lease.status();
            let served = |seen| matches!(seen, Status::Running(by) if by > Generation::new(1));
            while !served(seen) {
                seen = block_on(poll_fn(|cx| lease.poll_status(cx, seen)));
            }
            leases.leave(lease);
        });
        world.rt.drive();
        for client in [passer, stayer] {
            client.join().expect("no panic");
        }
        let counts = world.assert_over();
        assert!(counts.crashes <= 1 && counts.starts >= 2, "{counts:?}");
    });
}

/// 1 session that polls only after a change, while its first instance fails; bound 3.
///
/// Catches: a watcher that notes that it is parked after it has unlocked, so that it takes a change
/// in between for one that it has seen.
#[test]
fn a_session_that_asks_only_for_news_misses_none() {
    model(Some(3), || {
        let world = World::new(1, Duration::ZERO, Behaviour::FailsFirst);
        let session = world.served_session();
        world.rt.drive();
        session.join().expect("no panic");
        world.assert_over();
    });
}

/// A client waits, in a drain, until all remaining clients have arrived, against a client that
/// leaves without having arrived; an arrived client has left before. Bound 2.
///
/// Catches: a client that leaves without a wake for the waiting client, a client that has left and
/// still counts as arrived, and a wait that is over too early.
#[test]
fn who_waits_for_all_to_arrive_is_woken_by_the_last_one() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let [mut waits, mut arrived, last] =
            [(); 3].map(|()| world.registry.join("s").expect("not refused"));
        world.registry.drain();
        arrived.arrived();
        drop(arrived);
        let is_left = StdArc::new(AtomicUsize::new(1));
        let left = StdArc::clone(&is_left);
        let waiter = world.rt.client(move || {
            waits.arrived();
            block_on(poll_fn(|cx| waits.poll_all_arrived(cx)));
            assert_eq!(left.load(Ordering::SeqCst), 0, "too early");
        });
        let leaver = world.rt.client(move || {
            is_left.store(0, Ordering::SeqCst);
            drop(last);
        });
        world.rt.drive();
        for client in [waiter, leaver] {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}

/// A drain against a join; bound 2.
///
/// Catches: a lease given out after the drain has looked at the leases, and a waiting `drained`
/// that is not woken.
#[test]
fn no_lease_survives_a_finished_drain() {
    model(Some(2), || {
        let world = World::new(2, Duration::ZERO, Behaviour::Obeys);
        let registry = world.registry.clone();
        let joiner = world.rt.client(move || {
            if let Ok(mut lease) = registry.join("s") {
                until_draining(&mut lease);
            }
        });
        let registry = world.registry.clone();
        let drainer = world.rt.client(move || {
            registry.drain();
            block_on(registry.drained());
            let status = registry.status("s").expect("registered");
            assert!(status.is_idle(), "{status:?}");
            assert!(registry.join("s").is_err(), "still joinable");
        });
        world.rt.drive();
        for client in [joiner, drainer] {
            client.join().expect("no panic");
        }
        world.assert_over();
    });
}
