//! Messages that arrive slowly: what shows that a client lives, and how long one may take.

use std::time::Duration;

use busline::limits::{InboundPolicy, KeepalivePolicy, OverRate, Rate};
use busline::{CloseReason, Limits};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;

const ROOM: usize = 1 << 20;

/// The first frame of a text, or all of it, with a mask of zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a short payload");
    let mut frame = match u8::try_from(len) {
        Ok(len @ 0..126) => vec![first, 0x80 | len],
        Ok(_) | Err(_) => [&[first, 0xfe][..], &len.to_be_bytes()].concat(),
    };
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

const TEXT: u8 = 0x81;
/// A text that goes on in further frames.
const PART: u8 = 0x01;
/// A further frame, and the last one.
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const PONG: u8 = 0x8a;

fn joined(limits: Limits) -> (Crowd, Peer) {
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(ROOM);
    (crowd, peer)
}

/// Shows that the client lives, every five seconds of so many milliseconds.
fn live(crowd: &Crowd, peer: &Peer, millis: u64) {
    for _ in 0..millis / 5_000 {
        crowd.wait(5_000);
        peer.send_raw(&frame(PONG, b""));
        crowd.rt.settle();
    }
    crowd.wait(millis % 5_000);
}

#[track_caller]
fn assert_late(crowd: &Crowd, peer: &Peer) {
    assert_eq!(closed(peer), Some(1008));
    peer.end();
    crowd.rt.settle();
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.closed_for(CloseReason::MessageTooSlow), 1);
}

#[test]
fn each_byte_of_a_message_shows_that_its_client_lives() {
    let limits = Limits {
        keepalive: KeepalivePolicy {
            interval: Duration::from_secs(1),
            pong_timeout: Duration::from_secs(1),
        },
        ..Limits::default()
    };
    let (crowd, peer) = joined(limits);
    for byte in frame(TEXT, &[b'x'; 25]) {
        crowd.wait(1_900);
        peer.send_raw(&[byte]);
    }
    crowd.rt.settle();
    assert_eq!(texts(&peer), ["x".repeat(25)]);
    assert_eq!(closed(&peer), None);
}

#[test]
fn a_message_of_a_byte_a_second_closes_with_1008_when_its_time_is_over() {
    let (crowd, peer) = joined(Limits::default());
    crowd.wait(500);
    for byte in &frame(TEXT, &[b'x'; 100])[..60] {
        peer.send_raw(&[*byte]);
        crowd.wait(999);
        assert_eq!(closed(&peer), None);
        crowd.wait(1);
    }
    assert_late(&crowd, &peer);
}

#[test]
fn a_message_that_stops_has_a_second_more_for_each_kib_of_it_that_has_come() {
    for (bytes, seconds) in [(0, 60), (1023, 60), (1024, 61), (10_240, 70)] {
        let (crowd, peer) = joined(Limits::default());
        peer.send_raw(&frame(PART, &vec![b'x'; bytes]));
        // What is not a part of it gives it no time: control frames, empty fragments.
        live(&crowd, &peer, 40_000);
        peer.send_raw(&frame(MORE, b""));
        live(&crowd, &peer, seconds * 1000 - 40_001);
        assert_eq!(closed(&peer), None, "{bytes} bytes");
        crowd.wait(1);
        assert_late(&crowd, &peer);
    }
}

#[test]
fn all_fragments_of_a_message_count() {
    let (crowd, peer) = joined(Limits::default());
    peer.send_raw(&frame(PART, &[b'x'; 512]));
    live(&crowd, &peer, 30_000);
    peer.send_raw(&frame(MORE, &[b'x'; 512]));
    live(&crowd, &peer, 30_000);
    assert_eq!(closed(&peer), None);
    peer.send_raw(&frame(LAST, b""));
    crowd.wait(999);
    assert_eq!(texts(&peer), ["x".repeat(1024)]);
    live(&crowd, &peer, 100_000);
    assert_eq!(closed(&peer), None, "its time ends with it");
}

#[test]
fn a_long_message_on_a_slow_line_has_the_time_it_takes() {
    let (crowd, peer) = joined(Limits::default());
    let mut first = PART;
    // In 114 seconds, of 120.
    for _ in 0..60 {
        peer.send_raw(&frame(first, &[b'x'; 1024]));
        crowd.wait(1_900);
        first = MORE;
    }
    peer.send_raw(&frame(LAST, b""));
    crowd.rt.settle();
    assert_eq!(texts(&peer), ["x".repeat(61_440)]);
    assert_eq!(closed(&peer), None);
}

#[test]
fn each_message_has_its_own_time_also_where_one_read_has_the_end_of_another() {
    let (crowd, peer) = joined(Limits::default());
    peer.send_raw(&frame(PART, b"a"));
    for _ in 0..3 {
        live(&crowd, &peer, 59_000);
        peer.send_raw(&[frame(LAST, b"b"), frame(PART, b"a")].concat());
        crowd.rt.settle();
    }
    assert_eq!(texts(&peer), ["ab"; 3]);
    live(&crowd, &peer, 59_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_late(&crowd, &peer);
}

#[test]
fn a_control_frame_that_stops_is_as_late_as_a_message() {
    let limits = Limits {
        message_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let (crowd, peer) = joined(limits);
    peer.send_raw(&frame(PONG, b"never all of it")[..10]);
    crowd.wait(4_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_late(&crowd, &peer);
}

#[test]
fn the_time_in_which_a_client_waits_for_its_rate_does_not_count() {
    let limits = Limits {
        inbound: InboundPolicy {
            bytes: Some(Rate::new(100, 100)),
            over: OverRate::Wait,
            ..InboundPolicy::default()
        },
        message_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let (crowd, peer) = joined(limits);
    peer.send_raw(&frame(TEXT, &[b'x'; 20_000]));
    crowd.wait(200_000);
    assert_eq!(closed(&peer), None);
    assert_eq!(texts(&peer), ["x".repeat(20_000)]);
    // Of this one less comes than it may send: it waits for nothing but its client.
    peer.send_raw(&frame(PART, b"it stops"));
    crowd.wait(4_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_late(&crowd, &peer);
}

#[test]
fn a_machine_that_slept_gives_a_message_time_to_arrive() {
    let (crowd, peer) = joined(Limits::default());
    peer.send_raw(&frame(PART, b"a"));
    crowd.wait(1_000);
    crowd.rt.pause(Duration::from_secs(3_600));
    live(&crowd, &peer, 44_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_late(&crowd, &peer);
}

#[test]
fn a_timeout_of_zero_is_any_time() {
    let limits = Limits {
        message_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let (crowd, peer) = joined(limits);
    peer.send_raw(&frame(PART, b"a"));
    live(&crowd, &peer, 1_000_000);
    peer.send_raw(&frame(LAST, b"b"));
    crowd.rt.settle();
    assert_eq!((texts(&peer), closed(&peer)), (vec!["ab".to_owned()], None));
}
