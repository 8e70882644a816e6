//! The bounds of a session at their edges: what is just allowed passes, one more has its reason.

use std::num::NonZeroUsize;
use std::time::Duration;

use busline::identity::Identity;
use busline::limits::{AgePolicy, InboundPolicy, KeepalivePolicy, OverRate, Rate, Window};
use busline::session::Admission;
use busline::{CloseReason, Limits, Peer as Who, RefuseReason};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::{Peer, Said};
use crate::regressions::deaf;

const ROOM: usize = 1 << 20;

fn inbound(bytes: Option<Rate>, messages: Option<Rate>, over: OverRate) -> Limits {
    Limits {
        inbound: InboundPolicy {
            bytes,
            messages,
            over,
        },
        ..Limits::default()
    }
}

#[track_caller]
fn assert_closed(crowd: &Crowd, peer: &Peer, code: u16, reason: CloseReason) {
    assert_eq!(closed(peer), Some(code));
    peer.end();
    crowd.rt.settle();
    assert_eq!(crowd.app.counts().sessions.closed_for(reason), 1);
}

#[test]
fn pings_up_to_the_burst_are_answered_and_one_more_closes_with_1008() {
    let limits = Limits {
        pings: Rate::new(1, 5),
        ..Limits::default()
    };
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(ROOM);
    for n in 0..5 {
        peer.send(true, 9, &[n]);
        crowd.rt.settle();
    }
    assert_eq!(
        peer.said(),
        (0..5).map(|n| Said::Pong(vec![n])).collect::<Vec<_>>()
    );
    crowd.wait(1000);
    peer.send(true, 9, b"a second later");
    crowd.rt.settle();
    assert_eq!(closed(&peer), None);
    peer.send(true, 9, b"one too many");
    crowd.rt.settle();
    assert_closed(&crowd, &peer, 1008, CloseReason::PingFlood);
}

#[test]
fn a_client_that_sends_too_many_messages_waits_and_loses_none() {
    let mut crowd = Crowd::limited(inbound(None, Some(Rate::new(10, 2)), OverRate::Wait));
    let peer = crowd.join(ROOM);
    for n in 0..5 {
        peer.send(true, 1, format!("{n}").as_bytes());
    }
    crowd.rt.settle();
    assert_eq!(texts(&peer), ["0", "1"], "the burst");
    crowd.wait(99);
    assert_eq!(texts(&peer).len(), 2, "a millisecond too early");
    crowd.wait(1);
    assert_eq!(texts(&peer).len(), 3);
    crowd.wait(200);
    assert_eq!(texts(&peer), ["0", "1", "2", "3", "4"]);
    assert_eq!(
        crowd.app.counts().sessions.pauses,
        4,
        "once after the burst and each message"
    );
    assert_eq!(closed(&peer), None);
}

#[test]
fn a_client_that_sends_too_many_bytes_waits_and_loses_none() {
    let mut crowd = Crowd::limited(inbound(Some(Rate::new(100, 50)), None, OverRate::Wait));
    let peer = crowd.join(ROOM);
    // Each is a frame of 50 bytes.
    for _ in 0..3 {
        peer.send(true, 1, &[b'x'; 44]);
    }
    crowd.rt.settle();
    assert_eq!(texts(&peer).len(), 1, "the burst");
    crowd.wait(499);
    assert_eq!(texts(&peer).len(), 1, "a byte is missing");
    crowd.wait(1);
    assert_eq!(texts(&peer).len(), 2);
    crowd.wait(500);
    assert_eq!(texts(&peer).len(), 3);
}

#[test]
fn nobody_is_taken_for_dead_while_it_waits_for_its_rate() {
    let limits = Limits {
        keepalive: KeepalivePolicy {
            // Less than it waits for each message.
            interval: Duration::from_millis(100),
            ..KeepalivePolicy::default()
        },
        ..inbound(None, Some(Rate::new(1, 1)), OverRate::Wait)
    };
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(ROOM);
    for n in 0..30 {
        peer.send(true, 1, format!("{n}").as_bytes());
    }
    crowd.wait(29_000);
    assert_eq!(texts(&peer).len(), 30);
    assert_eq!(crowd.app.sessions_open(), 1);
}

#[test]
fn nobody_is_taken_for_dead_while_its_service_takes_nothing() {
    let limits = Limits {
        keepalive: KeepalivePolicy {
            interval: Duration::from_secs(5),
            ..KeepalivePolicy::default()
        },
        window: Window {
            messages: NonZeroUsize::MIN,
            ..Window::default()
        },
        ..Limits::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", deaf).expect("a valid name")
    });
    let peer = crowd.join(ROOM);
    for _ in 0..2 {
        peer.send(true, 1, b"a message");
    }
    crowd.wait(59_999);
    assert_eq!(closed(&peer), None);
    // `Limits::accept_timeout`.
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(1013));
}

#[test]
fn a_message_above_the_rate_closes_with_1008_where_that_is_the_policy() {
    let mut crowd = Crowd::limited(inbound(None, Some(Rate::new(1, 3)), OverRate::Close));
    let peer = crowd.join(ROOM);
    for n in 0..3 {
        peer.send(true, 1, format!("{n}").as_bytes());
    }
    crowd.rt.settle();
    assert_eq!(
        (texts(&peer).len(), closed(&peer)),
        (3, None),
        "the burst passes"
    );
    peer.send(true, 1, b"3");
    crowd.rt.settle();
    assert_closed(&crowd, &peer, 1008, CloseReason::RateExceeded);
    assert_eq!(crowd.app.counts().sessions.lost_not_taken, 1);
}

#[test]
fn a_byte_above_the_rate_closes_with_1008_where_that_is_the_policy() {
    let mut crowd = Crowd::limited(inbound(Some(Rate::new(1, 50)), None, OverRate::Close));
    let peer = crowd.join(ROOM);
    peer.send(true, 1, &[b'x'; 44]);
    crowd.rt.settle();
    assert_eq!(
        (texts(&peer).len(), closed(&peer)),
        (1, None),
        "50 bytes pass"
    );
    peer.send_raw(&[0x81]);
    crowd.rt.settle();
    assert_closed(&crowd, &peer, 1008, CloseReason::RateExceeded);
}

fn aged(idle: u64, max: u64) -> Crowd {
    let limits = Limits {
        age: AgePolicy {
            idle: Duration::from_secs(idle),
            max: Duration::from_secs(max),
        },
        // Nobody is dead before it is idle.
        keepalive: KeepalivePolicy {
            pong_timeout: Duration::from_secs(1_000),
            ..KeepalivePolicy::default()
        },
        ..Limits::default()
    };
    Crowd::limited(limits)
}

#[test]
fn an_idle_session_ends_in_its_last_quarter_and_pings_do_not_help() {
    let mut crowd = aged(100, 0);
    let peer = crowd.join(ROOM);
    crowd.wait(74_999);
    peer.send(true, 9, b"");
    crowd.rt.settle();
    assert_eq!(closed(&peer), None);
    crowd.wait(25_001);
    assert_closed(&crowd, &peer, 1001, CloseReason::Idle);
}

#[test]
fn a_session_that_says_or_hears_something_is_not_idle() {
    let mut crowd = aged(100, 0);
    let (speaks, hears) = (crowd.join(ROOM), crowd.join(ROOM));
    for round in 0..10 {
        crowd.wait(70_000);
        speaks.send(true, 10, b"");
        hears.send(true, 10, b"");
        if round % 2 == 0 {
            speaks.send(true, 1, b"I am here");
            crowd.publish("to everybody");
        } else {
            crowd.publish("to everybody");
        }
        crowd.rt.settle();
    }
    assert_eq!((closed(&speaks), closed(&hears)), (None, None));
}

#[test]
fn an_aged_session_ends_in_its_last_quarter_however_busy_and_each_at_its_own_time() {
    let mut crowd = aged(0, 100);
    let peers: Vec<_> = (0..20).map(|_| crowd.join(ROOM)).collect();
    let mut open = Vec::new();
    for second in 1..=100_u64 {
        crowd.wait(1000);
        for peer in peers.iter().filter(|peer| closed(peer).is_none()) {
            peer.send(true, 1, b"busy");
        }
        crowd.rt.settle();
        let count = peers.iter().filter(|peer| closed(peer).is_none()).count();
        assert!(second >= 75 || count == 20, "{second}");
        open.push(count);
    }
    assert_eq!(open.last(), Some(&0));
    open.dedup();
    assert!(open.len() > 5, "they end together: {open:?}");
    assert!(peers.iter().all(|peer| closed(peer) == Some(1001)));
}

#[test]
fn who_holds_most_is_closed_with_1013_when_the_node_holds_too_much() {
    let limits = Limits {
        queue_bytes: 8000,
        outbox_bytes: 100,
        ..Limits::default()
    };
    let mut crowd = Crowd::limited(limits);
    let (worst, bad, good) = (crowd.join(0), crowd.join(0), crowd.join(ROOM));
    for peer in [&worst, &bad] {
        // Its answers wait for the socket, and more than one batch of them.
        for _ in 0..3 {
            peer.send(true, 1, &[b'x'; 1000]);
        }
    }
    crowd.rt.settle();
    let held = crowd.app.counts().queued_bytes;
    assert!((6000..=8000).contains(&held), "{held}");
    // A message that never ends.
    worst.send_raw(&[0x01, 0xfe, 0x07, 0xd0, 0, 0, 0, 0]);
    worst.send_raw(&[b'x'; 1999]);
    crowd.rt.settle();
    assert!(crowd.app.counts().queued_bytes <= 8000);
    worst.make_room(ROOM);
    bad.make_room(ROOM);
    crowd.rt.settle();
    assert_closed(&crowd, &worst, 1013, CloseReason::Shed);
    assert_eq!(
        (texts(&bad).len(), closed(&bad)),
        (3, None),
        "the other one stays"
    );
    good.send(true, 1, b"unmoved");
    crowd.rt.settle();
    assert_eq!(texts(&good), ["unmoved"]);
    assert_eq!(crowd.app.counts().queued_bytes, 0, "all is read");
}

#[test]
fn who_is_shed_gets_the_rest_of_the_frame_that_was_begun_and_nothing_after_it() {
    let limits = Limits {
        queue_bytes: 250,
        ..Limits::default()
    };
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(10);
    let text = |n: usize| n.to_string().repeat(50);
    (0..3).for_each(|n| crowd.publish(&text(n)));
    crowd.rt.settle();
    assert_eq!(crowd.app.counts().queued_bytes, 3 * 52);
    // A message that does not end.
    peer.send_raw(&[0x81, 0xfe, 0x00, 0xd0, 0, 0, 0, 0]);
    peer.send_raw(&[b'x'; 150]);
    crowd.rt.settle();
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(texts(&peer), [text(0)]);
    assert_closed(&crowd, &peer, 1013, CloseReason::Shed);
    assert_eq!(crowd.app.counts().sessions.lost_unsent, 2);
}

#[test]
fn answers_that_a_client_does_not_read_count_at_once() {
    let limits = Limits {
        queue_bytes: 4000,
        outbox_bytes: 1,
        ..Limits::default()
    };
    let mut crowd = Crowd::limited(limits);
    let peer = crowd.join(0);
    for _ in 0..3 {
        peer.send(true, 1, &[b'x'; 1000]);
    }
    crowd.rt.settle();
    assert_eq!(crowd.app.counts().sessions.closed_for(CloseReason::Shed), 0);
    peer.send(true, 1, &[b'x'; 1000]);
    crowd.rt.settle();
    peer.make_room(ROOM);
    crowd.rt.settle();
    assert_closed(&crowd, &peer, 1013, CloseReason::Shed);
}

fn refused(crowd: &Crowd, who: &Who) -> Option<RefuseReason> {
    let before = crowd.app.counts().sessions;
    let admission = Admission::request_as(&crowd.app, "s", who.clone());
    let after = crowd.app.counts().sessions;
    let counted =
        |reason: &RefuseReason| before.refused_for(*reason) + 1 == after.refused_for(*reason);
    assert_eq!(admission.is_err(), before.refused + 1 == after.refused);
    RefuseReason::ALL.into_iter().find(counted)
}

#[test]
fn each_bound_on_sessions_is_counted_with_its_own_reason() {
    let limits = Limits {
        sessions: 4,
        sessions_per_address: 2,
        sessions_per_subject: 1,
        ..Limits::default()
    };
    let crowd = Crowd::limited(limits);
    let who = |address: &str, subject: Option<&str>| Who {
        address: Some(address.parse().expect("an address")),
        identity: Identity {
            subject: subject.map(Into::into),
            ..Identity::default()
        },
        ..Who::default()
    };
    let admit = |who| Admission::request_as(&crowd.app, "s", who).expect("below the bound");
    let ann = admit(who("192.0.2.1", Some("ann")));
    assert_eq!(
        refused(&crowd, &who("192.0.2.2", Some("ann"))),
        Some(RefuseReason::SessionsPerSubject)
    );
    let _bob = admit(who("192.0.2.1", Some("bob")));
    assert_eq!(
        refused(&crowd, &who("192.0.2.1", Some("cat"))),
        Some(RefuseReason::SessionsPerAddress)
    );
    let _others = [(); 2].map(|()| admit(Who::default()));
    assert_eq!(
        refused(&crowd, &Who::default()),
        Some(RefuseReason::Sessions)
    );
    drop(ann);
    assert_eq!(
        refused(&crowd, &who("192.0.2.1", Some("ann"))),
        None,
        "there is room again"
    );
}
