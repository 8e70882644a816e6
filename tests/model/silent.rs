//! Clients that say nothing: when they are asked, and when they are taken for dead.

use std::time::Duration;

use busline::limits::KeepalivePolicy;
use busline::{CloseReason, Limits};

use crate::model::crowd::{Crowd, closed};
use crate::model::peer::{Peer, Said};

const ROOM: usize = 1 << 20;

/// A client that was pinged just now.
fn pinged() -> (Crowd, Peer) {
    let mut crowd = Crowd::limited(Limits::default());
    let peer = crowd.join(ROOM);
    crowd.wait(24_999);
    assert_eq!(peer.said(), []);
    crowd.wait(1);
    assert_eq!(peer.said(), [Said::Ping]);
    (crowd, peer)
}

fn silent(crowd: &Crowd) -> u64 {
    let sessions = crowd.app.counts().sessions;
    sessions.closed_for(CloseReason::Silent)
}

#[test]
fn a_client_that_answers_no_ping_is_told_so_and_is_not_waited_for() {
    let (crowd, peer) = pinged();
    crowd.wait(9_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(1011));
    assert!(peer.is_closed());
    assert_eq!((silent(&crowd), crowd.app.sessions_open()), (1, 0));
}

#[test]
fn any_byte_answers_a_ping() {
    // The first byte of a frame that does not go on, and the last byte of one.
    for bytes in [&[0x81][..], &[0x8a, 0x80, 0, 0, 0, 0]] {
        let (crowd, peer) = pinged();
        crowd.wait(9_999);
        peer.send_raw(bytes);
        crowd.wait(24_999);
        assert_eq!(peer.said(), [Said::Ping], "{bytes:?}");
        crowd.wait(1);
        assert_eq!(peer.said(), [Said::Ping, Said::Ping], "{bytes:?}");
        crowd.wait(10_000);
        assert_eq!(closed(&peer), Some(1011), "{bytes:?}");
    }
}

#[test]
fn a_client_that_answers_is_pinged_after_each_interval_whatever_its_time_for_an_answer_is() {
    for answer_s in [1, 4, 5, 10, 1_000] {
        let keepalive = KeepalivePolicy {
            interval: Duration::from_secs(1),
            pong_timeout: Duration::from_secs(answer_s),
        };
        let mut crowd = Crowd::limited(Limits {
            keepalive,
            ..Limits::default()
        });
        let peer = crowd.join(ROOM);
        for pings in 1..=3 {
            crowd.wait(999);
            assert_eq!(peer.said().len(), pings - 1, "{answer_s} s for an answer");
            crowd.wait(1);
            assert_eq!(peer.said(), vec![Said::Ping; pings], "{answer_s} s");
            peer.send(true, 10, b"");
            crowd.wait(0);
        }
    }
}

#[test]
fn a_silent_client_whose_socket_takes_no_close_frame_is_dropped_at_once() {
    let mut crowd = Crowd::limited(Limits::default());
    // There is room for a ping.
    let peer = crowd.join(2);
    crowd.wait(35_000);
    assert_eq!(peer.said(), [Said::Ping]);
    assert_eq!((silent(&crowd), crowd.app.sessions_open()), (1, 0));
}

#[test]
fn the_time_for_an_answer_begins_when_the_socket_has_taken_the_ping() {
    let mut crowd = Crowd::limited(Limits::default());
    let peer = crowd.join(1);
    crowd.wait(50_000);
    assert_eq!(peer.said(), [], "half of it was taken");
    peer.make_room(ROOM);
    crowd.wait(9_999);
    assert_eq!(peer.said(), [Said::Ping]);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(1011));
}

#[test]
fn a_ping_that_the_socket_does_not_take_is_bounded_as_any_write() {
    let mut crowd = Crowd::limited(Limits::default());
    let peer = crowd.join(0);
    // `Limits::write_timeout` after the ping was due.
    crowd.wait(84_999);
    assert_eq!(crowd.app.sessions_open(), 1);
    crowd.wait(1);
    assert_eq!(crowd.app.sessions_open(), 0);
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.closed_for(CloseReason::Unwritable), 1);
    assert_eq!(peer.said(), []);
}

#[test]
fn a_machine_that_slept_gives_a_client_time_to_answer() {
    // Whenever it falls asleep, it is awake for three quarters of the time for an answer.
    for (awake, left) in [(0, 7_500), (1, 7_500), (2_499, 7_500), (5_000, 2_500)] {
        let (crowd, peer) = pinged();
        crowd.wait(awake);
        crowd.rt.pause(Duration::from_secs(3_600));
        crowd.wait(left - 1);
        assert_eq!(closed(&peer), None, "asleep after {awake} ms");
        crowd.wait(1);
        assert_eq!(closed(&peer), Some(1011), "asleep after {awake} ms");
    }
}

#[test]
fn a_machine_that_slept_before_it_asked_asks_first_also_where_the_session_had_not_begun() {
    for has_begun in [true, false] {
        let mut crowd = Crowd::limited(Limits::default());
        let peer = crowd.admit(ROOM, |admission| admission);
        if has_begun {
            crowd.rt.settle();
        }
        crowd.rt.pause(Duration::from_secs(3_600));
        crowd.wait(9_999);
        assert_eq!(peer.said(), [Said::Ping], "has begun: {has_begun}");
        crowd.wait(1);
        assert_eq!(closed(&peer), Some(1011), "has begun: {has_begun}");
    }
}

#[test]
fn an_answer_of_which_the_session_was_not_told_yet_saves_its_client() {
    for answers in [true, false] {
        let (crowd, peer) = pinged();
        peer.tell(false);
        if answers {
            peer.send(true, 10, b"");
        }
        crowd.wait(10_000);
        assert_eq!(closed(&peer), (!answers).then_some(1011));
        crowd.wait(60_000);
        peer.tell(true);
        crowd.wait(24_999);
        assert_eq!(closed(&peer), (!answers).then_some(1011));
        let pings = peer
            .said()
            .iter()
            .filter(|said| **said == Said::Ping)
            .count();
        assert_eq!(pings, 1);
    }
}
