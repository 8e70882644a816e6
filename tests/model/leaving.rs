//! A server that drains: sessions leave one after the other, and are served until then.

use std::num::NonZeroU32;
use std::time::Duration;

use busline::limits::{DrainCode, DrainPolicy, Rate};
use busline::rt::Clock;
use busline::session::Admission;
use busline::{Bucket, CloseReason, Limits, RefuseReason};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::{Peer, Said};

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
