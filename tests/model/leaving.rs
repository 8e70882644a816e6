//! A server that drains: sessions leave one after the other, and are served until then.

use std::num::NonZeroU32;
use std::time::Duration;

use busline::limits::{DrainCode, DrainPolicy, Rate};
use busline::rt::{Clock, Spawn};
use busline::session::{Admission, Session};
use busline::{Bucket, CloseReason, Limits, RefuseReason};
use futures::FutureExt;

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::{Peer, Said};
use crate::regressions::deaf;

const ROOM: usize = 1 << 20;

fn draining(per_second: u32, window: Duration, code: DrainCode) -> Limits {
    Limits {
        drain: DrainPolicy {
            per_second: NonZeroU32::new(per_second).expect("not zero"),
            window,
            code,
        },
        drain_timeout: Duration::from_secs(60),
        ..Limits::default()
    }
}

fn crowd(clients: usize, limits: Limits) -> Crowd {
    let mut crowd = Crowd::limited(limits);
    for _ in 0..clients {
        crowd.join(ROOM);
    }
    crowd
}

fn closed_count(crowd: &Crowd) -> usize {
    crowd
        .peers
        .iter()
        .filter(|peer| closed(peer).is_some())
        .count()
}

/// All clients of a first server come to a second one as soon as they are closed.
#[test]
fn those_who_come_back_at_once_come_at_the_rate_and_not_faster() {
    let first = crowd(200, draining(50, Duration::ZERO, DrainCode::GoingAway));
    let mut second = Crowd::limited(Limits::default());
    let mut accepts = Bucket::new(Rate::new(50, 1), second.rt.now());
    first.app.drain();
    let mut arrived = 0;
    for _ in 0..400 {
        first.rt.settle();
        let closed = closed_count(&first);
        for _ in arrived..closed {
            assert!(accepts.take(second.rt.now(), 1), "faster than the rate");
            second.join(ROOM);
        }
        arrived = closed;
        first.wait(10);
        second.wait(10);
    }
    assert_eq!(arrived, 200);
    first.peers.iter().for_each(Peer::end);
    first.wait(10_000);
    assert_eq!(
        (first.app.sessions_open(), first.rt.tasks()),
        (0, 0),
        "nothing is left"
    );
    assert_eq!(second.app.sessions_open(), 200);
    assert_eq!(
        first.app.counts().sessions.closed_for(CloseReason::Drained),
        200
    );
}

#[test]
fn a_session_is_served_until_its_own_moment() {
    let crowd = crowd(10, draining(1, Duration::ZERO, DrainCode::GoingAway));
    crowd.app.drain();
    crowd.rt.settle();
    for left in 1..=10 {
        assert_eq!(closed_count(&crowd), left);
        crowd.publish("to all");
        crowd.rt.settle();
        for peer in crowd.peers.iter().filter(|peer| closed(peer).is_none()) {
            let before = texts(peer).len();
            peer.send(true, 1, b"question");
            crowd.rt.settle();
            let texts = texts(peer);
            assert_eq!(texts.last().map(String::as_str), Some("question"), "{left}");
            assert!(texts.len() > before);
        }
        let refused = Admission::request(&crowd.app, "s").is_err();
        assert!(refused, "and nobody new is");
        crowd.wait(1000);
    }
    assert_eq!(
        crowd
            .app
            .counts()
            .sessions
            .refused_for(RefuseReason::Draining),
        10
    );
}

#[test]
fn what_was_published_comes_before_the_close() {
    let mut crowd = Crowd::limited(draining(10, Duration::ZERO, DrainCode::Restart));
    let peers: Vec<_> = (0..3).map(|_| crowd.join(0)).collect();
    for n in 0..50 {
        crowd.publish(&n.to_string());
    }
    crowd.app.drain();
    crowd.publish("the last");
    crowd.wait(500);
    peers.iter().for_each(|peer| peer.make_room(ROOM));
    crowd.rt.settle();
    for peer in &peers {
        assert_eq!(texts(peer).len(), 51);
        assert_eq!(peer.said().last(), Some(&Said::Close(Some(1012))));
    }
}

/// Clients of `ping`, of which the last one has said so much when the drain begins.
fn interrupted(clients: usize, said: usize, limits: Limits) -> Crowd {
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", busline::service::ping).expect("a name")
    });
    for _ in 0..clients {
        crowd.join(ROOM);
    }
    let sender = crowd.peers.last().expect("there is one").clone();
    for number in 0..said {
        sender.send(true, 1, number.to_string().as_bytes());
    }
    crowd.app.drain();
    crowd
}

#[test]
fn what_had_arrived_reaches_all_others_before_any_of_them_is_closed() {
    for seed in 0..60 {
        for (clients, said) in [(1, 1), (2, 200), (5, 100)] {
            let crowd = interrupted(clients, said, Limits::default());
            crowd.rt.settle_by(seed);
            crowd.wait(50 + clients as u64);
            let expected: Vec<_> = (0..said).map(|number| number.to_string()).collect();
            for peer in &crowd.peers {
                assert_eq!(texts(peer), expected, "seed {seed}, {clients} clients");
                assert_eq!(peer.said().last(), Some(&Said::Close(Some(1001))));
                peer.end();
            }
            crowd.wait(10_000);
            let counts = crowd.app.counts();
            assert_eq!((counts.sessions.lost_not_taken, crowd.rt.tasks()), (0, 0));
        }
    }
}

#[test]
fn what_had_arrived_is_answered_by_a_service_that_has_just_been_started() {
    let crowd = Crowd::new(|app| app.service("s", busline::service::echo).expect("a name"));
    let peers: Vec<_> = (0..3).map(|_| Peer::default()).collect();
    for peer in &peers {
        peer.make_room(ROOM);
        let admission = Admission::request(&crowd.app, "s").expect("admitted");
        let session = Session::new(admission, peer.socket());
        crowd.rt.spawn(session.map(drop).boxed());
        peer.send(true, 1, b"a");
        peer.send(true, 1, b"b");
    }
    // Neither the instance nor any session has run.
    crowd.app.drain();
    crowd.wait(53);
    for peer in &peers {
        assert_eq!(texts(peer), ["a", "b"]);
        assert_eq!(closed(peer), Some(1001));
    }
}

#[test]
fn what_is_on_its_way_from_who_has_spoken_has_fifty_milliseconds_to_arrive() {
    for (millis, is_in_time) in [(0, true), (49, true), (51, false)] {
        let crowd = interrupted(3, 1, Limits::default());
        crowd.wait(millis);
        let expected_closed = if is_in_time { 0 } else { 3 };
        assert_eq!(closed_count(&crowd), expected_closed, "{millis} ms");
        for number in 1..300 {
            let sender = crowd.peers.last().expect("there are three");
            sender.send(true, 1, number.to_string().as_bytes());
            if number % 100 == 0 {
                crowd.rt.settle();
            }
        }
        crowd.wait(60);
        let expected = if is_in_time { 300 } else { 1 };
        let got = crowd.peers.iter().map(|peer| texts(peer).len());
        assert_eq!(got.collect::<Vec<_>>(), [expected; 3], "{millis} ms");
        crowd.peers.iter().for_each(Peer::end);
        crowd.wait(10_000);
        let lost = crowd.app.counts().sessions.lost_not_taken;
        assert_eq!(lost, 300 - expected as u64, "{millis} ms");
    }
}

#[test]
fn what_has_come_by_its_own_moment_is_answered_before_a_session_leaves() {
    let mut crowd = Crowd::limited(draining(1, Duration::ZERO, DrainCode::GoingAway));
    let peers = [(); 2].map(|()| crowd.join(ROOM));
    crowd.app.drain();
    crowd.wait(999);
    let last = peers.iter().find(|peer| closed(peer).is_none());
    let last = last.expect("its moment is still to come");
    for number in 0..200 {
        last.send(true, 1, number.to_string().as_bytes());
    }
    crowd.rt.block(Duration::from_millis(1));
    crowd.wait(0);
    assert_eq!((texts(last).len(), closed(last)), (200, Some(1001)));
}

/// Fails once it is told to, and answers after half a second.
async fn fragile_and_slow(mut ctx: busline::Context) -> Result<(), &'static str> {
    while let Some(message) = ctx.recv().await {
        if message.as_text() == Some("fail") {
            return Err("as told");
        }
        let _stopped = ctx.sleep(Duration::from_millis(500)).await;
        ctx.publish(&message);
    }
    Ok(())
}

fn fragile(limits: Limits) -> Crowd {
    Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", fragile_and_slow).expect("a valid name")
    })
}

#[test]
fn what_had_arrived_waits_for_an_instance_that_is_started_again() {
    let mut crowd = fragile(Limits::default());
    let peers = [(); 3].map(|()| crowd.join(ROOM));
    peers[0].send(true, 1, b"fail");
    crowd.rt.settle();
    peers[1].send(true, 1, b"after it");
    crowd.app.drain();
    crowd.rt.settle();
    assert_eq!(closed_count(&crowd), 0, "a backoff of 100 ms at most");
    crowd.wait(603);
    for peer in &peers {
        assert_eq!(texts(peer), ["after it"]);
        assert_eq!(closed(peer), Some(1001));
    }
}

#[test]
fn a_service_that_takes_nothing_holds_a_drain_no_longer_than_it_may() {
    for (drain_timeout, millis) in [(30_000, 2_500), (4_000, 1_000)] {
        let limits = Limits {
            window: busline::limits::Window {
                messages: 1.try_into().expect("not zero"),
                ..busline::limits::Window::default()
            },
            drain_timeout: Duration::from_millis(drain_timeout),
            ..Limits::default()
        };
        let mut crowd = Crowd::new(|app| {
            let app = app.limits(limits);
            app.service("s", deaf).expect("a valid name")
        });
        let peers = [(); 2].map(|()| crowd.join(ROOM));
        for text in ["in the inbox", "at hand", "in the socket"] {
            peers[0].send(true, 1, text.as_bytes());
        }
        crowd.app.drain();
        crowd.wait(millis - 1);
        assert_eq!(closed_count(&crowd), 0, "{millis} ms");
        crowd.wait(2);
        assert_eq!(closed(&peers[1]), Some(1001), "{millis} ms");
        // Its service still has its turn with what it has taken, or not.
        crowd.wait(2_500);
        assert_eq!(closed(&peers[0]), Some(1001), "{millis} ms");
        peers.iter().for_each(Peer::end);
        crowd.wait(10_000);
        let counts = crowd.app.counts();
        assert_eq!(counts.sessions.lost_not_taken, 2, "at hand and after it");
        assert_eq!(counts.bus.messages.lost_unsubscribed, 1, "in the inbox");
    }
}

#[test]
fn who_waits_for_its_rate_holds_a_drain_no_longer_than_it_may() {
    let limits = Limits {
        inbound: busline::limits::InboundPolicy {
            messages: Some(Rate::new(1, 1)),
            ..busline::limits::InboundPolicy::default()
        },
        ..Limits::default()
    };
    let crowd = interrupted(2, 9, limits);
    crowd.wait(2_499);
    assert_eq!(closed_count(&crowd), 0);
    crowd.wait(3);
    assert_eq!(closed_count(&crowd), 2);
    let [other, sender] = [&crowd.peers[0], &crowd.peers[1]];
    assert_eq!(
        (texts(other).len(), texts(sender).len()),
        (3, 3),
        "of three seconds"
    );
    crowd.peers.iter().for_each(Peer::end);
    crowd.wait(10_000);
    assert_eq!(crowd.app.counts().sessions.lost_not_taken, 6);
}

#[test]
fn those_whom_their_service_holds_up_leave_at_the_rate_once_it_is_done() {
    let mut crowd = fragile(draining(2, Duration::ZERO, DrainCode::GoingAway));
    let peers = [(); 4].map(|()| crowd.join(ROOM));
    for peer in &peers[..2] {
        peer.send(true, 1, b"takes half a second");
    }
    crowd.app.drain();
    // Three moments have passed by then, and one is now.
    crowd.wait(999);
    assert_eq!(closed_count(&crowd), 0);
    let mut closed = vec![0];
    for _ in 0..24 {
        crowd.wait(100);
        closed.push(closed_count(&crowd));
    }
    let in_a_second = closed.windows(11).map(|second| second[10] - second[0]);
    assert_eq!(in_a_second.max(), Some(2), "{closed:?}");
    assert_eq!(closed.last(), Some(&4), "{closed:?}");
}

/// Whoever is closed last still has the time that a close may take, twice, before the end.
#[test]
fn in_a_hurry_all_are_closed_in_time_for_their_goodbyes() {
    let limits = Limits {
        drain_timeout: Duration::from_secs(10),
        close_timeout: Duration::from_secs(2),
        ..draining(1, Duration::ZERO, DrainCode::GoingAway)
    };
    let crowd = crowd(100, limits);
    crowd.app.drain();
    crowd.wait(5_900);
    assert!(closed_count(&crowd) < 100, "as late as that allows");
    crowd.wait(100);
    assert_eq!(closed_count(&crowd), 100);
}

#[test]
fn a_second_drain_changes_nothing() {
    let crowd = crowd(4, draining(1, Duration::ZERO, DrainCode::GoingAway));
    assert!(!crowd.app.is_draining());
    crowd.app.drain();
    crowd.wait(500);
    crowd.app.drain();
    assert!(crowd.app.is_draining());
    crowd.wait(2499);
    assert_eq!(closed_count(&crowd), 3);
    crowd.wait(1);
    assert_eq!(closed_count(&crowd), 4);
}

#[test]
fn few_clients_wait_for_nothing() {
    let crowd = crowd(10, Limits::default());
    crowd.app.drain();
    crowd.wait(5);
    assert_eq!(closed_count(&crowd), 10);
}

#[test]
fn a_crash_while_it_drains_is_healed_for_those_who_are_still_there() {
    async fn fragile(mut ctx: busline::Context) -> Result<(), &'static str> {
        while let Some(message) = ctx.recv().await {
            if message.as_text() == Some("fail") {
                return Err("as told");
            }
            ctx.reply(&message, &message);
        }
        Ok(())
    }
    let limits = draining(1, Duration::ZERO, DrainCode::GoingAway);
    let mut crowd = Crowd::new(|app| {
        app.limits(limits)
            .service("s", fragile)
            .expect("a valid name")
    });
    (0..4).for_each(|_| drop(crowd.join(ROOM)));
    crowd.app.drain();
    crowd.rt.settle();
    let last = crowd.peers.iter().rfind(|peer| closed(peer).is_none());
    let last = last.expect("three are left").clone();
    last.send(true, 1, b"fail");
    crowd.wait(500);
    last.send(true, 1, b"again");
    crowd.wait(200);
    assert_eq!(texts(&last), ["again"]);
    crowd.wait(4000);
    assert_eq!(closed_count(&crowd), 4);
}
