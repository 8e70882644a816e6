//! Rooms: each key has an instance of its own, which is made by its first client and gone once it
//! is over.

use std::time::Duration;

use busline::app::App;
use busline::bus::{Generation, NameError, Room};
use busline::identity::Identity;
use busline::limits::{LifecyclePolicy, ServicePolicy};
use busline::registry::{JoinError, Page, Refusal, State};
use busline::service::{echo, ping};
use busline::session::{Admission, AdmitError};
use busline::{Context, Limits, Peer as Who, RefuseReason};
use futures::FutureExt;

use crate::model::crowd::closed;
use crate::model::crowd::{Crowd, texts};
use crate::model::executor::Manual;
use crate::model::peer::Peer;

/// A page that has space for all rooms.
const ALL: Page<'_> = Page {
    prefix: "",
    after: None,
    max: 10,
};

/// The linger of a room in milliseconds.
const LINGER: u64 = 30_000;

/// Tells every client of its room its key and generation, then repeats what they say.
async fn chat(mut ctx: Context) {
    ctx.publish(format!("{} {}", ctx.key(), ctx.generation()));
    while let Some(message) = ctx.recv().await {
        ctx.publish(message);
    }
}

fn crowd(limits: Limits) -> Crowd {
    Crowd::new(|app| {
        app.limits(limits)
            .room("chat", chat)
            .and_then(|app| app.service("ping", ping))
            .expect("valid names")
    })
}

fn room(crowd: &Crowd, key: &str) -> Room {
    let room = crowd.app.registry().room("chat", Some(key));
    room.expect("a key")
}

fn request(crowd: &Crowd, key: &str, who: &Who) -> Result<Admission<Manual>, AdmitError> {
    Admission::request_room(&crowd.app, &room(crowd, key), who.clone())
}

/// One more client of the room with this key.
fn enter(crowd: &mut Crowd, key: &str) -> Peer {
    let admission = request(crowd, key, &Who::default()).expect("admitted");
    let peer = crowd.serve(admission, 1 << 20);
    crowd.rt.settle();
    peer
}

fn leave(crowd: &Crowd, peer: &Peer) {
    peer.reset();
    crowd.rt.settle();
}

/// Checks that nothing is left of any room.
fn assert_nothing_left(crowd: &Crowd) {
    let registry = crowd.app.registry();
    assert_eq!(registry.rooms_open(), 0);
    assert_eq!(registry.rooms("chat", &ALL), []);
    let status = registry.kind_status("chat").expect("registered");
    assert_eq!((status.rooms, status.clients), (0, 0));
    assert_eq!(status.counts.starts, status.counts.exits);
    assert_eq!(crowd.app.counts().bus.topics, 0);
}

#[test]
fn each_room_has_an_instance_and_topics_of_its_own() {
    let mut crowd = crowd(Limits::default());
    let ann = enter(&mut crowd, "a");
    let bob = enter(&mut crowd, "a");
    let cat = enter(&mut crowd, "b");
    ann.send(true, 1, b"hello");
    crowd.rt.settle();
    assert_eq!(texts(&ann), ["a 1", "hello"]);
    assert_eq!(texts(&bob), ["hello"], "it came after the first word");
    assert_eq!(texts(&cat), ["b 2"], "no message reaches another room");
    let listed = crowd.app.registry().rooms("chat", &ALL);
    assert_eq!(listed, [(room(&crowd, "a"), 2), (room(&crowd, "b"), 1)]);
}

#[test]
fn a_room_that_is_over_leaves_nothing() {
    let mut crowd = crowd(Limits::default());
    let ann = enter(&mut crowd, "a");
    leave(&crowd, &ann);
    let status = crowd.app.registry().room_status(&room(&crowd, "a"));
    assert!(matches!(
        status.map(|s| s.state),
        Some(State::Lingering { .. })
    ));
    crowd.wait(LINGER - 1);
    assert_eq!(crowd.app.registry().rooms_open(), 1);
    crowd.wait(1);
    assert_nothing_left(&crowd);
    let status = crowd.app.registry().room_status(&room(&crowd, "a"));
    assert_eq!(status, None);
}

#[test]
fn a_client_that_is_back_within_the_linger_finds_its_room_and_later_a_newer_one() {
    let mut crowd = crowd(Limits::default());
    let ann = enter(&mut crowd, "a");
    leave(&crowd, &ann);
    crowd.wait(LINGER - 1);
    let ann = enter(&mut crowd, "a");
    assert_eq!(texts(&ann), [""; 0], "the instance has gone on");
    leave(&crowd, &ann);
    crowd.wait(LINGER);
    assert_nothing_left(&crowd);
    // The generations rise over the removal, and over that of other rooms.
    let other = enter(&mut crowd, "b");
    assert_eq!(texts(&other), ["b 2"]);
    let ann = enter(&mut crowd, "a");
    assert_eq!(texts(&ann), ["a 3"]);
    let status = crowd.app.registry().room_status(&room(&crowd, "a"));
    let generation = status.map(|status| status.generation);
    assert_eq!(generation, Some(Generation::new(3)));
}

#[test]
fn a_service_keeps_its_address_and_its_count() {
    let crowd = crowd(Limits::default());
    let registry = crowd.app.registry();
    assert_eq!(
        registry.room("ping", None).map(|r| r.to_string()),
        Ok("ping".into())
    );
    let named = |name, key| registry.room(name, key).map(drop);
    let ping = registry.name("ping").cloned().expect("registered");
    assert_eq!(named("ping", Some("1")), Err(JoinError::WithoutRooms(ping)));
    let chat = registry.name("chat").cloned().expect("registered");
    assert_eq!(named("chat", None), Err(JoinError::KeyMissing(chat)));
    assert_eq!(
        registry.room("chat", Some("")).map(|r| r.to_string()),
        Ok("chat:".into())
    );
    let bad = JoinError::BadKey(NameError::BadByte { at: 1 });
    assert_eq!(
        named(
            "chat",
            Some(
                "a
"
            )
        ),
        Err(bad)
    );
    assert_eq!(named("chats", Some("1")), Err(JoinError::Unknown));
    assert_eq!(named("chats", None), Err(JoinError::Unknown));
    assert!(registry.has_rooms("chat") && !registry.has_rooms("ping"));
    // The service has one room, which is there also without a client.
    let status = registry.kind_status("ping").expect("registered");
    assert_eq!((status.rooms, registry.rooms_open()), (1, 0));
    assert_eq!(registry.status("chat"), None);
}

#[test]
fn a_room_that_failed_stays_until_it_may_start_again() {
    let policy = ServicePolicy {
        lifecycle: LifecyclePolicy {
            crashes_max: std::num::NonZeroU32::MIN,
            ..LifecyclePolicy::of_rooms()
        },
        ..ServicePolicy::of_rooms()
    };
    let mut crowd = Crowd::new(|app| {
        let fails = |_: Context| async { Err::<(), _>("no") };
        app.room_with("chat", fails, policy).expect("a valid name")
    });
    let ann = enter(&mut crowd, "a");
    assert_eq!(closed(&ann), Some(1011));
    leave(&crowd, &ann);
    let again = request(&crowd, "a", &Who::default()).err();
    assert!(
        matches!(
            again,
            Some(AdmitError::Join(JoinError::Refused(Refusal::Failed { .. })))
        ),
        "a client that comes back does not start it: {again:?}"
    );
    let crash = crowd.app.registry().last_crash("chat").expect("it crashed");
    assert_eq!(
        (crash.room.key(), &*crash.reason),
        ("a", "returned an error: no")
    );
    crowd.rt.advance(Duration::from_secs(60));
    assert_nothing_left(&crowd);
}

fn who(address: &str, subject: Option<&str>) -> Who {
    Who {
        address: Some(address.parse().expect("an address")),
        identity: Identity {
            subject: subject.map(Into::into),
            ..Identity::default()
        },
        ..Who::default()
    }
}

fn refusal(crowd: &Crowd, key: &str, who: &Who) -> Option<RefuseReason> {
    let before = crowd.app.counts().sessions;
    let admitted = request(crowd, key, who);
    let after = crowd.app.counts().sessions;
    assert_eq!(admitted.is_err(), before.refused + 1 == after.refused);
    let counted = |reason: &RefuseReason| before.refused_for(*reason) < after.refused_for(*reason);
    RefuseReason::ALL.into_iter().find(counted)
}

#[test]
fn each_bound_on_rooms_is_counted_with_its_own_reason_and_bars_no_room_that_is_there() {
    let limits = Limits {
        rooms: 4,
        rooms_per_address: 2,
        rooms_per_subject: 1,
        ..Limits::default()
    };
    let crowd = crowd(limits);
    let admit = |key, who: &Who| request(&crowd, key, who).expect("below the bound");
    let ann = who("192.0.2.1", Some("ann"));
    let first = admit("1", &ann);
    let elsewhere = who("192.0.2.2", Some("ann"));
    assert_eq!(
        refusal(&crowd, "2", &elsewhere),
        Some(RefuseReason::RoomsPerSubject)
    );
    let _second = admit("2", &who("192.0.2.1", Some("bob")));
    let neighbour = who("192.0.2.1", Some("cat"));
    assert_eq!(
        refusal(&crowd, "3", &neighbour),
        Some(RefuseReason::RoomsPerAddress)
    );
    let _others = ["3", "4"].map(|key| admit(key, &Who::default()));
    assert_eq!(
        refusal(&crowd, "5", &Who::default()),
        Some(RefuseReason::Rooms)
    );
    assert_eq!(crowd.app.registry().rooms_open(), 4);
    for key in ["1", "2", "3", "4"] {
        assert_eq!(refusal(&crowd, key, &ann), None, "room {key} is there");
    }
    // A room counts until its linger is over.
    drop(first);
    crowd.rt.settle();
    assert_eq!(refusal(&crowd, "5", &elsewhere), Some(RefuseReason::Rooms));
    crowd.wait(LINGER);
    assert_eq!(refusal(&crowd, "5", &elsewhere), None);
}

#[test]
fn a_room_has_so_many_clients_and_no_more() {
    let policy = ServicePolicy {
        lifecycle: LifecyclePolicy {
            clients_max: 2,
            ..LifecyclePolicy::of_rooms()
        },
        ..ServicePolicy::of_rooms()
    };
    let crowd = Crowd::new(|app| app.room_with("chat", echo, policy).expect("a valid name"));
    let admit = |key| request(&crowd, key, &Who::default());
    let two = [admit("1"), admit("1")];
    assert!(two.iter().all(Result::is_ok));
    assert_eq!(
        refusal(&crowd, "1", &Who::default()),
        Some(RefuseReason::Clients)
    );
    let error = admit("1").err();
    let full = JoinError::Refused(Refusal::Full { max: 2 });
    assert_eq!(error, Some(AdmitError::Join(full)));
    assert!(admit("2").is_ok(), "another room has places of its own");
    drop(two);
    assert!(admit("1").is_ok());
}

#[test]
fn a_drain_ends_every_room_and_lets_no_new_one_begin() {
    let mut crowd = crowd(Limits::default());
    let peers = ["a", "b"].map(|key| enter(&mut crowd, key));
    let lingers = enter(&mut crowd, "c");
    leave(&crowd, &lingers);
    crowd.app.drain();
    for key in ["a", "d"] {
        assert_eq!(
            refusal(&crowd, key, &Who::default()),
            Some(RefuseReason::Draining)
        );
    }
    crowd.rt.advance(Duration::from_secs(30));
    for peer in &peers {
        assert_eq!(closed(peer), Some(1001));
        leave(&crowd, peer);
    }
    assert_eq!(crowd.app.drained().now_or_never(), Some(()));
    assert_nothing_left(&crowd);
}

#[test]
fn rooms_are_listed_in_pages_in_the_order_of_their_keys() {
    let crowd = crowd(Limits::default());
    let keys = ["b", "a c", "$x", "a", "B"];
    let _held = keys.map(|key| request(&crowd, key, &Who::default()).expect("admitted"));
    let page = |prefix, after| {
        let max = 2;
        let page = Page { prefix, after, max };
        let page = crowd.app.registry().rooms("chat", &page).into_iter();
        page.map(|(room, _)| room.key().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(page("", None), ["$x", "B"]);
    assert_eq!(page("", Some("B")), ["a", "a c"]);
    assert_eq!(page("", Some("a c")), ["b"]);
    assert_eq!(page("", Some("b")), [""; 0]);
    assert_eq!(page("a", None), ["a", "a c"]);
    assert_eq!(
        page("a", Some("B")),
        ["a", "a c"],
        "the prefix is further on"
    );
    assert_eq!(page("a", Some("a")), ["a c"]);
    assert_eq!(page("a", Some("a c")), [""; 0]);
    assert_eq!(page("a ", None), ["a c"]);
    assert_eq!(crowd.app.registry().rooms("none", &ALL), []);
}

#[test]
fn a_kind_is_registered_once_like_a_service() {
    let builder = App::builder(Manual::default()).room("chat", chat);
    let twice = builder.and_then(|app| app.service("chat", chat)).map(drop);
    assert!(twice.is_err_and(|error| error.to_string().contains("already")));
}
