//! Relays: the messages of a client go to all clients of its room, without a service.

use busline::bus::ClientId;
use busline::limits::{Payload, Publish, RelayPolicy};
use busline::registry::State;
use busline::rt::Spawn;
use busline::session::{Admission, Session, Subprotocol};
use busline::{Client, CloseReason, Peer as Who, ServicePolicy};
use futures::FutureExt;

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::{Peer, Said};

const MEMBERS: RelayPolicy = RelayPolicy {
    publish: Publish::Members,
    echo: true,
    payload: Payload::Any,
};

fn crowd(relay: RelayPolicy) -> Crowd {
    Crowd::new(|app| app.relay("news", relay).expect("a valid name"))
}

fn enter(crowd: &Crowd, key: &str, subprotocol: Subprotocol) -> Peer {
    let room = crowd.app.registry().room("news", Some(key)).expect("a key");
    let admission = Admission::request_room(&crowd.app, &room, Who::default());
    let admission = admission.expect("admitted").speaking(subprotocol);
    let peer = crowd.serve(admission, 1 << 20);
    crowd.rt.settle();
    peer
}

fn plain(crowd: &Crowd, key: &str) -> Peer {
    enter(crowd, key, Subprotocol::Plain)
}

#[test]
fn what_a_client_sends_reaches_its_room_and_no_other() {
    let crowd = crowd(MEMBERS);
    let [ann, bob] = [(); 2].map(|()| plain(&crowd, "a"));
    let cat = plain(&crowd, "b");
    crowd.say(&ann, "hello");
    ann.send(true, 2, b"bytes");
    crowd.rt.settle();
    for peer in [&ann, &bob] {
        let expected = [Said::Text("hello".into()), Said::Binary(b"bytes".into())];
        assert_eq!(peer.said(), expected);
    }
    assert_eq!(texts(&cat), [""; 0]);
    let counts = crowd.app.counts();
    assert_eq!(counts.sessions.messages_out, 4);
    assert_eq!(
        counts.sessions.written_after.count(),
        4,
        "the time is known"
    );
}

#[test]
fn a_relay_runs_from_its_first_client_to_its_last_without_an_instance() {
    let crowd = crowd(MEMBERS);
    let tasks = crowd.rt.tasks();
    let ann = plain(&crowd, "a");
    assert_eq!(crowd.rt.tasks(), tasks + 1, "the session alone");
    let room = crowd.app.room("news", "a").expect("a key");
    let status = room.status().expect("it is there");
    assert_eq!((status.state, status.clients), (State::Running, 1));
    ann.reset();
    crowd.rt.settle();
    let status = room.status().expect("it lingers");
    assert!(matches!(status.state, State::Lingering { .. }));
    crowd.wait(30_000);
    assert_eq!(room.status(), None);
    assert_eq!(crowd.app.registry().rooms_open(), 0);
    assert_eq!(crowd.app.counts().bus.topics, 0);
    assert_eq!((crowd.rt.tasks(), crowd.rt.timers()), (0, 0));
    let kind = crowd
        .app
        .registry()
        .kind_status("news")
        .expect("registered");
    assert_eq!((kind.counts.starts, kind.counts.exits), (1, 1));
}

#[test]
fn a_relay_drains_like_a_service() {
    let crowd = crowd(MEMBERS);
    let ann = plain(&crowd, "a");
    crowd.app.drain();
    crowd.wait(10_000);
    assert_eq!(closed(&ann), Some(1001));
    ann.reset();
    crowd.wait(5_000);
    assert_eq!(crowd.app.drained().now_or_never(), Some(()));
    assert_eq!(crowd.app.registry().rooms_open(), 0);
}

#[test]
fn no_client_of_a_relay_that_drains_waits_for_answers() {
    let crowd = crowd(MEMBERS);
    let peers = [(); 2].map(|()| plain(&crowd, "a"));
    crowd.say(&peers[0], "hello");
    crowd.app.drain();
    // Less than the half of the time to close, in which a service may answer.
    crowd.wait(1_000);
    for peer in &peers {
        assert_eq!(closed(peer), Some(1001));
    }
}

#[test]
fn without_an_echo_the_sender_gets_what_others_say() {
    let crowd = crowd(RelayPolicy {
        echo: false,
        ..MEMBERS
    });
    let [ann, bob] = [(); 2].map(|()| plain(&crowd, "a"));
    crowd.say(&ann, "from ann");
    crowd.say(&bob, "from bob");
    assert_eq!(texts(&ann), ["from bob"]);
    assert_eq!(texts(&bob), ["from ann"]);
    assert_eq!(crowd.app.counts().sessions.excluded, 2);
}

#[test]
fn a_client_may_not_publish_unless_the_policy_says_so() {
    let crowd = crowd(RelayPolicy::default());
    let [ann, bob] = [(); 2].map(|()| plain(&crowd, "a"));
    crowd.say(&ann, "hello");
    assert_eq!(closed(&ann), Some(4403));
    assert_eq!(bob.said(), []);
    ann.reset();
    crowd.wait(5_000);
    let counts = crowd.app.counts().sessions;
    assert_eq!(counts.closed_for(CloseReason::NotAllowed), 1);
    assert_eq!((counts.messages_in, counts.lost_not_taken), (1, 1));
    // The program that embeds busline publishes.
    let room = crowd.app.room("news", "a").expect("a key");
    assert_eq!(room.publish("from the server"), 1);
    crowd.rt.settle();
    assert_eq!(texts(&bob), ["from the server"]);
    let other = crowd.app.room("news", "b").expect("a key");
    assert_eq!(
        (other.publish("nobody is there"), other.status()),
        (0, None)
    );
}

#[test]
fn a_message_that_is_not_what_the_relay_takes_closes_its_session() {
    for (payload, good, bad) in [
        (Payload::Json, (1, &b"{\"a\":1}"[..]), (1, &b"{a:1}"[..])),
        (Payload::Json, (1, b"7"), (2, b"7")),
        (Payload::Text, (1, b"x"), (2, b"x")),
        (Payload::Binary, (2, b"x"), (1, b"x")),
    ] {
        let crowd = crowd(RelayPolicy { payload, ..MEMBERS });
        let [ann, bob] = [(); 2].map(|()| plain(&crowd, "a"));
        ann.send(true, good.0, good.1);
        crowd.rt.settle();
        assert_eq!(bob.said().len(), 1, "{payload:?}");
        // The messages before it come through, also where all arrive together.
        ann.send(true, good.0, good.1);
        ann.send(true, bad.0, bad.1);
        ann.send(true, good.0, good.1);
        crowd.rt.settle();
        assert_eq!(closed(&ann), Some(1007), "{payload:?}");
        assert_eq!(bob.said().len(), 2, "{payload:?}");
        ann.reset();
        crowd.wait(5_000);
        let counts = crowd.app.counts().sessions;
        assert_eq!((counts.messages_in, counts.lost_not_taken), (4, 2));
    }
}

#[test]
fn an_envelope_says_which_client_sent_a_message() {
    let crowd = crowd(MEMBERS);
    let ann = plain(&crowd, "a");
    let bob = enter(&crowd, "a", Subprotocol::Json);
    crowd.say(&ann, "hello");
    crowd.say(&bob, r#"{"text":"from bob"}"#);
    crowd
        .app
        .room("news", "a")
        .expect("a key")
        .publish("from the server");
    crowd.rt.settle();
    assert_eq!(texts(&ann), ["hello", "from bob", "from the server"]);
    let said = texts(&bob);
    assert_eq!(
        said,
        [
            r#"{"text":"hello","from":{"client":1,"subject":null}}"#,
            r#"{"text":"from bob","from":{"client":2,"subject":null}}"#,
            r#"{"text":"from the server"}"#,
        ]
    );
}

#[test]
fn a_slow_client_holds_no_publisher_of_a_relay_up() {
    let crowd = crowd(MEMBERS);
    let ann = plain(&crowd, "a");
    let room = crowd.app.registry().room("news", Some("a")).expect("a key");
    let admission = Admission::request_room(&crowd.app, &room, Who::default());
    let slow = Peer::default();
    let session = Session::new(admission.expect("admitted"), slow.socket());
    crowd.rt.spawn(session.map(drop).boxed());
    for n in 0..600 {
        crowd.say(&ann, &n.to_string());
    }
    assert_eq!(texts(&ann).len(), 600);
    let lost = crowd.app.counts().bus.messages.lost_lagged;
    assert!(lost > 300, "{lost}");
}

#[test]
fn a_handle_reaches_a_room_from_outside() {
    let keeps = |mut ctx: busline::Context| async move { while ctx.event().await.is_some() {} };
    let crowd = Crowd::new(|app| {
        app.room_with("news", keeps, ServicePolicy::of_rooms())
            .expect("a valid name")
    });
    let room = crowd.app.room("news", "a").expect("a key");
    assert_eq!(room.clients(), []);
    let [ann, bob] = [(); 2].map(|()| plain(&crowd, "a"));
    let clients = room.clients();
    let ids: Vec<_> = clients
        .iter()
        .map(Client::id)
        .map(ClientId::number)
        .collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(room.publish("to all"), 2);
    assert_eq!(room.send_to(&clients[1], "to bob"), 1);
    assert!(room.close(&clients[1], 4001, "removed"));
    crowd.rt.settle();
    assert_eq!(texts(&ann), ["to all"]);
    assert_eq!(texts(&bob), ["to all", "to bob"]);
    assert_eq!(closed(&bob), Some(4001));
    bob.reset();
    crowd.wait(5_000);
    assert_eq!(room.clients(), clients[..1]);
    assert!(!room.close(&clients[1], 4001, "removed"), "it has left");
    assert!(crowd.app.room("none", "a").is_err());
}
