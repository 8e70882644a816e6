//! Credentials that run out, and fresh ones, under virtual time.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use busline::authorize::{Authorize, ConnectRequest, Denied};
use busline::identity::Identity;
use busline::limits::{InboundPolicy, OverRate, Rate, TOKEN_BYTES_MAX};
use busline::rt::Spawn;
use busline::session::{Admission, Session, Subprotocol};
use busline::{CloseReason, Context, Limits, Peer as Who};
use futures::FutureExt;
use futures::future::{BoxFuture, pending, ready};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;

const ROOM: usize = 1 << 20;

/// Tokens are `subject until-second`, `later` when nobody can tell, `hang` when nobody does.
struct Plain;

impl Authorize for Plain {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        let token = request.token.expect("a client shows one");
        match token.reveal() {
            "later" => ready(Err(Denied::Unavailable {
                retry_after: Duration::from_secs(1),
            }))
            .boxed(),
            "hang" => pending().boxed(),
            token => ready(identity(token).ok_or(Denied::Unauthorized)).boxed(),
        }
    }
}

fn identity(token: &str) -> Option<Identity> {
    let (subject, until) = token.split_once(' ')?;
    let until = Duration::from_secs(until.parse().ok()?);
    Some(Identity {
        subject: Some(subject.into()),
        claims: Some(format!("{{\"until\":{}}}", until.as_secs()).into()),
        expires: Some(SystemTime::UNIX_EPOCH + until),
    })
}

/// Tells each sender who it is.
async fn names(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        let sender = message.sender().expect("a client sent it");
        let (subject, claims) = (sender.subject(), sender.claims());
        let name = format!("{} {}", subject.unwrap_or("-"), claims.unwrap_or("-"));
        ctx.reply(&message, name);
    }
}

async fn echo(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        ctx.reply(&message, &message);
    }
}

fn crowd() -> Crowd {
    Crowd::new(|app| {
        let app = app.authorize(Plain);
        app.service("s", names).expect("a valid name")
    })
}

/// A client that has shown this token, in the subprotocol in which it can show another.
fn join(crowd: &mut Crowd, token: &str) -> Peer {
    join_with_room(crowd, token, ROOM)
}

/// The same, with a socket that takes so many bytes.
fn join_with_room(crowd: &mut Crowd, token: &str, room: usize) -> Peer {
    let who = Who {
        identity: identity(token).expect("a good token"),
        ..Who::default()
    };
    let admission = Admission::request_as(&crowd.app, "s", who).expect("admitted");
    let session = Session::new(admission.speaking(Subprotocol::Json), {
        let peer = Peer::default();
        peer.make_room(room);
        crowd.peers.push(peer.clone());
        peer.socket()
    });
    crowd.rt.spawn(session.map(drop).boxed());
    crowd.rt.settle();
    crowd.peers.last().expect("it joined").clone()
}

fn show(crowd: &Crowd, peer: &Peer, token: &str) {
    let text = format!("{{\"token\":\"{token}\"}}");
    peer.send(true, 1, text.as_bytes());
    crowd.rt.settle();
}

fn ask(crowd: &Crowd, peer: &Peer) -> Option<String> {
    peer.send(true, 1, br#"{"text":"who"}"#);
    crowd.rt.settle();
    texts(peer).pop()
}

#[test]
fn a_session_ends_with_its_token_and_not_before() {
    let mut crowd = crowd();
    let peer = join(&mut crowd, "ann 10");
    crowd.wait(9_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(4401));
    peer.end();
    crowd.rt.settle();
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.closed_for(CloseReason::Expired), 1);
}

#[test]
fn a_fresh_token_takes_the_place_of_the_old_one() {
    let mut crowd = crowd();
    let peer = join(&mut crowd, "ann 10");
    crowd.wait(5_000);
    show(&crowd, &peer, "ann 20");
    assert_eq!(texts(&peer), ["{\"token\":\"accepted\"}"]);
    let told = ask(&crowd, &peer).expect("an answer");
    assert!(told.contains("ann") && told.contains("20"), "{told}");
    crowd.wait(14_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(4401));
}

#[test]
fn a_fresh_token_that_runs_out_sooner_ends_the_session_sooner() {
    let mut crowd = crowd();
    let peer = join(&mut crowd, "ann 1000");
    show(&crowd, &peer, "ann 10");
    assert_eq!(texts(&peer), ["{\"token\":\"accepted\"}"]);
    crowd.wait(9_999);
    assert_eq!(closed(&peer), None);
    crowd.wait(1);
    assert_eq!(closed(&peer), Some(4401));
}

#[test]
fn a_fresh_token_that_is_not_good_ends_the_session_at_once() {
    for token in ["nonsense", "bob 99"] {
        let mut crowd = crowd();
        let peer = join(&mut crowd, "ann 10");
        show(&crowd, &peer, token);
        assert_eq!(closed(&peer), Some(4401), "{token}");
        peer.end();
        crowd.rt.settle();
        let sessions = crowd.app.counts().sessions;
        assert_eq!(sessions.closed_for(CloseReason::Denied), 1, "{token}");
    }
}

#[test]
fn an_over_long_token_is_refused_before_anybody_looks_into_it() {
    let mut crowd = crowd();
    let peer = join(&mut crowd, "ann 10");
    show(&crowd, &peer, &format!("ann {}1", "0".repeat(8_192)));
    assert_eq!(closed(&peer), Some(4401));
}

#[test]
fn while_nobody_can_tell_the_old_token_counts() {
    let mut crowd = crowd();
    let peer = join(&mut crowd, "ann 10");
    show(&crowd, &peer, "later");
    assert_eq!(texts(&peer), ["{\"token\":\"try again\"}"]);
    show(&crowd, &peer, "ann 20");
    crowd.wait(10_000);
    assert_eq!(closed(&peer), None);
}

#[test]
fn a_decision_that_never_comes_holds_neither_the_end_of_the_token_nor_the_client_for_ever() {
    let mut crowd = crowd();
    let short = join(&mut crowd, "ann 10");
    let long = join(&mut crowd, "bob 1000");
    show(&crowd, &short, "hang");
    show(&crowd, &long, "hang");
    long.send(true, 1, br#"{"text":"who"}"#);
    crowd.wait(10_000);
    assert_eq!(closed(&short), Some(4401));
    assert_eq!(texts(&long), [""; 0], "it is not read meanwhile");
    // `Limits::accept_timeout`.
    crowd.wait(50_000);
    let said = texts(&long);
    assert_eq!(said[0], "{\"token\":\"try again\"}");
    assert!(said[1].contains("bob"), "{said:?}");
    assert_eq!(closed(&long), None, "and its silence was not its own");
}

#[test]
fn a_decision_is_waited_for_as_long_as_it_may_take_and_not_until_something_else_is_due() {
    let limits = Limits {
        accept_timeout: Duration::from_secs(7),
        ..Limits::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits).authorize(Plain);
        app.service("s", names).expect("a valid name")
    });
    let peer = join(&mut crowd, "ann 1000");
    show(&crowd, &peer, "hang");
    crowd.wait(6_999);
    assert_eq!(texts(&peer), [""; 0]);
    crowd.wait(1);
    assert_eq!(texts(&peer), ["{\"token\":\"try again\"}"]);
}

#[test]
fn a_fresh_token_may_be_as_long_as_the_first_and_no_longer() {
    for (more, code) in [(0, None), (1, Some(4401))] {
        let mut crowd = crowd();
        let peer = join(&mut crowd, "ann 10");
        let zeros = "0".repeat(TOKEN_BYTES_MAX + more - "ann 20".len());
        show(&crowd, &peer, &format!("ann {zeros}20"));
        assert_eq!(closed(&peer), code);
    }
}

#[test]
fn a_fresh_token_counts_against_the_rate_of_messages() {
    let limits = Limits {
        inbound: InboundPolicy {
            messages: Some(Rate::new(1, 3)),
            over: OverRate::Close,
            ..InboundPolicy::default()
        },
        ..Limits::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits).authorize(Plain);
        app.service("s", names).expect("a valid name")
    });
    let peer = join(&mut crowd, "ann 1000");
    for until in [1001, 1002, 1003] {
        show(&crowd, &peer, &format!("ann {until}"));
    }
    assert_eq!(texts(&peer), ["{\"token\":\"accepted\"}"; 3], "the burst");
    show(&crowd, &peer, "ann 1004");
    assert_eq!(closed(&peer), Some(1008));
    peer.end();
    crowd.rt.settle();
    let sessions = crowd.app.counts().sessions;
    assert_eq!(sessions.closed_for(CloseReason::RateExceeded), 1);
    assert_eq!(sessions.lost_not_taken, 0, "no message is lost");
}

#[test]
fn what_comes_with_a_fresh_token_is_taken_after_it_and_in_order() {
    // A poll may end, for it has taken as many as it may, behind any of them.
    for batch in (1..=16).chain([128]) {
        let limits = Limits {
            inbound_batch: NonZeroUsize::new(batch).expect("not zero"),
            ..Limits::default()
        };
        let mut crowd = Crowd::new(|app| {
            let app = app.limits(limits).authorize(Plain);
            app.service("s", echo).expect("a valid name")
        });
        let peer = join(&mut crowd, "ann 1000");
        for text in [
            r#"{"token":"ann 2000"}"#,
            r#"{"token":"ann 2001"}"#,
            r#"{"token":"ann 2002"}"#,
            r#"{"text":"a"}"#,
            r#"{"text":"b"}"#,
            r#"{"token":"ann 2003"}"#,
            r#"{"text":"c"}"#,
            r#"{"token":"ann 3000"}"#,
            r#"{"text":"d"}"#,
        ] {
            peer.send(true, 1, text.as_bytes());
        }
        crowd.rt.settle();
        let told = texts(&peer);
        let (answers, notices): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|text| text.contains("text"));
        let expected = ["a", "b", "c", "d"].map(|text| format!("{{\"text\":\"{text}\"}}"));
        assert_eq!(answers, expected, "batches of {batch}");
        let accepted = ["{\"token\":\"accepted\"}"; 5];
        assert_eq!(notices, accepted, "batches of {batch}");
        let counts = crowd.app.counts().sessions;
        assert_eq!((counts.messages_in, counts.lost_not_taken), (4, 0));
    }
}

#[test]
fn a_decision_that_waits_for_the_notice_of_the_one_before_has_no_deadline_meanwhile() {
    let limits = Limits {
        accept_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut crowd = Crowd::new(|app| {
        let app = app.limits(limits).authorize(Plain);
        app.service("s", echo).expect("a valid name")
    });
    let peer = join_with_room(&mut crowd, "ann 1000", 0);
    peer.send(true, 1, br#"{"text":"a"}"#);
    crowd.rt.settle();
    show(&crowd, &peer, "ann 2000");
    show(&crowd, &peer, "ann 3000");
    crowd.wait(59_000);
    assert_eq!(texts(&peer), [""; 0], "the socket takes nothing");
    peer.make_room(ROOM);
    crowd.wait(0);
    let accepted = r#"{"token":"accepted"}"#;
    assert_eq!(texts(&peer), [r#"{"text":"a"}"#, accepted, accepted]);
}

#[test]
fn each_message_names_who_sent_it() {
    let mut crowd = crowd();
    let (ann, bob) = (join(&mut crowd, "ann 10"), join(&mut crowd, "bob 20"));
    for (peer, name) in [(&ann, "ann"), (&bob, "bob")] {
        let told = ask(&crowd, peer).expect("an answer");
        assert!(told.contains(name), "{told}");
    }
    let anonymous = crowd.join(ROOM);
    anonymous.send(true, 1, b"who");
    crowd.rt.settle();
    assert_eq!(texts(&anonymous), ["- -"]);
}
