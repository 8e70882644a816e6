//! A client that closes: what it said before is still answered, for a while.

use std::time::Duration;

use busline::limits::Window;
use busline::service::{echo, ping};
use busline::session::Subprotocol;
use busline::wire::Deflate;
use busline::{CloseReason, Context, Limits};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::{Peer, Said};
use crate::regressions::deaf;

const ROOM: usize = 1 << 20;

/// Says this and closes, before anything of it is read.
fn say_and_close(peer: &Peer, said: &[String]) {
    for text in said {
        peer.send(true, 1, text.as_bytes());
    }
    peer.send(true, 8, &1000_u16.to_be_bytes());
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn who_closes_gets_the_answers_to_what_it_said_before_in_any_order_of_tasks() {
    for seed in 0..60 {
        for count in [1, 2, 17, 200, 600] {
            let mut echoes = Crowd::new(|app| app.service("s", echo).expect("a valid name"));
            let mut pings = Crowd::new(|app| app.service("s", ping).expect("a valid name"));
            for crowd in [&mut echoes, &mut pings] {
                let peer = crowd.join(ROOM);
                let said = numbers(count);
                say_and_close(&peer, &said);
                crowd.rt.settle_by(seed);
                assert_eq!(texts(&peer), said, "seed {seed}");
                assert_eq!(peer.said().last(), Some(&Said::Close(Some(1000))));
                peer.end();
                crowd.rt.settle();
                let counts = crowd.app.counts().sessions;
                assert_eq!(counts.closed_for(CloseReason::PeerClosed), 1);
                assert_eq!((crowd.rt.tasks(), counts.lost_not_taken), (0, 0));
            }
        }
    }
}

#[test]
fn the_answers_are_sent_as_was_agreed_on() {
    let mut crowd = Crowd::new(|app| app.service("s", echo).expect("a valid name"));
    let json = crowd.join_speaking(Subprotocol::Json, ROOM);
    say_and_close(&json, &[r#"{"text":"a"}"#.to_owned()]);
    let offer = Some("permessage-deflate");
    let packs = |admission: busline::session::Admission<_>| {
        admission.compressing(Deflate::negotiate(offer))
    };
    let packed = crowd.join_by(ROOM, packs);
    say_and_close(&packed, &["b".to_owned()]);
    crowd.rt.settle();
    assert_eq!(texts(&json), [r#"{"text":"a"}"#]);
    assert_eq!(texts(&packed), ["b"]);
}

/// Answers each message after so many milliseconds as it names.
async fn slow(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        let millis = message.as_text().and_then(|text| text.parse().ok());
        let wait = Duration::from_millis(millis.unwrap_or_default());
        // Shorter where the last client leaves.
        let _stopped = ctx.sleep(wait).await;
        ctx.reply(&message, &message);
    }
}

#[test]
fn a_service_has_half_of_the_time_of_a_close_for_its_answer() {
    for (millis, is_answered) in [(0_u64, true), (2_499, true), (2_501, false), (4_000, false)] {
        let mut crowd = Crowd::new(|app| app.service("s", slow).expect("a valid name"));
        let peer = crowd.join(ROOM);
        say_and_close(&peer, &[millis.to_string()]);
        crowd.wait(millis.min(2_500).saturating_sub(1));
        let is_early = millis > 0;
        assert_eq!(closed(&peer), (!is_early).then_some(1000), "{millis} ms");
        crowd.wait(1);
        assert_eq!(texts(&peer).len(), usize::from(is_answered), "{millis} ms");
        assert_eq!(closed(&peer), Some(1000), "{millis} ms");
        peer.end();
        crowd.wait(10_000);
        let gone = crowd.app.counts().bus.messages.lost_gone;
        assert_eq!(gone, u64::from(!is_answered), "{millis} ms");
        assert_eq!(crowd.rt.tasks(), 0);
    }
}

#[test]
fn who_has_nothing_to_wait_for_is_closed_at_once() {
    let mut crowd = Crowd::new(|app| app.service("s", slow).expect("a valid name"));
    let answered = crowd.join(ROOM);
    answered.send(true, 1, b"0");
    crowd.rt.settle();
    assert_eq!(texts(&answered), ["0"]);
    let (silent, busy) = (crowd.join(ROOM), crowd.join(ROOM));
    busy.send(true, 1, b"2000");
    crowd.rt.settle();
    for peer in [&silent, &answered] {
        say_and_close(peer, &[]);
        crowd.rt.settle();
        assert_eq!(closed(peer), Some(1000));
    }
    say_and_close(&busy, &[]);
    crowd.rt.settle();
    assert_eq!(closed(&busy), None, "the service is about to answer it");
}

#[test]
fn a_service_that_others_keep_busy_is_done_with_a_client_when_it_has_the_next_message() {
    let mut crowd = Crowd::new(|app| app.service("s", slow).expect("a valid name"));
    let (first, others) = (crowd.join(ROOM), crowd.join(ROOM));
    say_and_close(&first, &["500".to_owned()]);
    crowd.rt.settle();
    for _ in 0..20 {
        others.send(true, 1, b"600");
    }
    crowd.wait(499);
    assert_eq!((texts(&first).len(), closed(&first)), (0, None));
    // Which is received, and is no matter of the first one.
    crowd.wait(1);
    assert_eq!((texts(&first).len(), closed(&first)), (1, Some(1000)));
}

#[test]
fn who_closes_does_not_wait_for_an_instance_that_has_crashed() {
    async fn crashes(mut ctx: Context) {
        let message = ctx.recv().await;
        assert!(message.is_none(), "on purpose");
    }
    let mut crowd = Crowd::new(|app| app.service("s", crashes).expect("a valid name"));
    let peer = crowd.join(ROOM);
    say_and_close(&peer, &numbers(3));
    crowd.rt.settle();
    assert_eq!(closed(&peer), Some(1000));
    let messages = crowd.app.counts().bus.messages;
    assert_eq!((messages.delivered, messages.lost_unsubscribed), (1, 2));
}

#[test]
fn what_a_service_never_takes_holds_a_client_that_closes_no_longer_than_its_turn() {
    let limits = Limits {
        window: Window {
            messages: 2.try_into().expect("not zero"),
            ..Window::default()
        },
        ..Limits::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.service("s", deaf).expect("a valid name")
    });
    let peer = crowd.join(ROOM);
    say_and_close(&peer, &numbers(2));
    crowd.wait(2_499);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(1000));
    assert_eq!(
        crowd.app.sessions_open(),
        1,
        "until its peer has ended its side"
    );
    crowd.wait(2_500);
    assert_eq!(crowd.app.sessions_open(), 0);
    crowd.wait(10_000);
    assert_eq!(crowd.app.counts().bus.messages.lost_unsubscribed, 2);
}

#[test]
fn who_closes_and_does_not_read_its_answers_is_gone_with_the_time_of_a_close() {
    let mut crowd = Crowd::new(|app| app.service("s", echo).expect("a valid name"));
    let peer = crowd.join(7);
    say_and_close(&peer, &numbers(9));
    crowd.wait(4_999);
    assert_eq!((crowd.app.sessions_open(), closed(&peer)), (1, None));
    crowd.wait(1);
    assert_eq!(crowd.app.sessions_open(), 0);
    let counts = crowd.app.counts();
    let lost = counts.sessions.lost_unsent + counts.bus.messages.lost_unsubscribed;
    assert_eq!((texts(&peer).len() as u64, lost), (2, 7));
}

#[test]
fn a_session_that_closes_and_moves_to_another_task_is_told_there_of_its_answers() {
    use busline::rt::Spawn;
    use busline::session::{Admission, Session};
    use futures::FutureExt;

    let mut crowd = Crowd::new(|app| app.service("s", slow).expect("a valid name"));
    let witness = crowd.join(ROOM);
    let peer = Peer::default();
    peer.make_room(ROOM);
    let admission = Admission::request(&crowd.app, "s").expect("admitted");
    let mut session = Session::new(admission, peer.socket());
    say_and_close(&peer, &["100".to_owned()]);
    // By a task that is never polled for it again.
    for _ in 0..2 {
        assert!((&mut session).now_or_never().is_none());
        crowd.rt.settle();
    }
    crowd.rt.spawn(session.map(drop).boxed());
    crowd.wait(100);
    assert_eq!((texts(&peer).len(), closed(&peer)), (1, Some(1000)));
    assert_eq!(closed(&witness), None);
}
