//! A client in several rooms over one connection: each membership is of its own, the last one's end
//! ends the session.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use busline::authorize::{Authorize, ConnectRequest, Denied, Grant, JoinRequest};
use busline::identity::Identity;
use busline::limits::{RelayPolicy, Retention, ServicePolicy, SlowConsumer, Window};
use busline::service::Event;
use busline::session::{Admission, AdmitError, Cause, MembershipError, Subprotocol, Wish};
use busline::{CloseReason, Context, Limits, Peer as Who, RefuseReason};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use proptest::prelude::*;

use crate::model::crowd::{Crowd, closed, texts};
use crate::several::{Done, Member, Order, publish, room};

const ROOM: usize = 1 << 20;

/// A room that tells all clients of joins, messages and leaves; some texts are orders.
async fn teller(mut ctx: Context) -> Result<(), String> {
    while let Some(event) = ctx.event().await {
        let key = ctx.key().to_owned();
        match event {
            Event::Joined(client) => {
                ctx.publish_except(&client, format!("{key} +{client}"));
            }
            Event::Left(client, reason) => {
                ctx.publish(format!("{key} -{client} {}", reason.name()));
            }
            Event::Message(client, message) => match message.as_text().unwrap_or_default() {
                "shut" => {
                    ctx.close(&client, 4000, "as it asked");
                }
                "crash" => return Err("as it was told".to_owned()),
                text => {
                    ctx.publish(format!("{key} {client}: {text}"));
                }
            },
            Event::Request(_) => {}
        }
    }
    Ok(())
}

fn crowd(limits: Limits) -> Crowd {
    Crowd::new(|app| {
        let app = app.limits(limits).room("chat", teller).expect("a name");
        let slow = ServicePolicy {
            slow_consumer: SlowConsumer::Close,
            window: Some(Window {
                messages: NonZeroUsize::new(2).expect("not 0"),
                ..Window::default()
            }),
            ..ServicePolicy::of_relay(RelayPolicy::default())
        };
        let app = app.relay_with("fast", slow).expect("a name");
        app.service("s", busline::service::ping).expect("a name")
    })
}

/// A client whose first room this is.
fn enter(crowd: &Crowd, name: &str, bytes: usize) -> Member {
    let first = room(&crowd.app, name);
    let admission = Admission::request_room(&crowd.app, &first, Who::default());
    let member = Member::of(crowd, admission.expect("admitted"), Who::default(), bytes);
    crowd.rt.settle();
    member
}

fn join(crowd: &Crowd, member: &Member, name: &str) -> Done {
    join_wishing(crowd, member, name, Wish::default())
}

fn join_wishing(crowd: &Crowd, member: &Member, name: &str, wish: Wish) -> Done {
    member.order(Order::Join(room(&crowd.app, name), wish));
    crowd.rt.settle();
    member.done().pop().expect("it is done")
}

fn leave(crowd: &Crowd, member: &Member, name: &str) -> bool {
    member.order(Order::Leave(room(&crowd.app, name)));
    crowd.rt.settle();
    let done = member.done().pop().expect("it is done");
    done.expect("a leave has no error")
}

/// Nothing is left once all lingers are over.
fn leaves_nothing(crowd: &Crowd) {
    crowd.rt.advance(Duration::from_secs(60));
    let counts = crowd.app.counts();
    assert_eq!((counts.sessions_open, crowd.rt.tasks()), (0, 0));
    assert_eq!(crowd.app.registry().rooms_open(), 0);
    assert_eq!((counts.bus.topics, counts.bus.subscriptions), (0, 0));
    let bus = counts.bus.messages;
    let lost = bus.lost_lagged + bus.lost_superseded + bus.lost_unsubscribed;
    assert_eq!((bus.pending, bus.owed), (0, bus.delivered + lost));
}

#[test]
fn a_client_is_told_by_each_of_its_rooms_and_speaks_to_the_oldest() {
    let crowd = crowd(Limits::default());
    let other = enter(&crowd, "chat:b", ROOM);
    let member = enter(&crowd, "chat:a", ROOM);
    assert_eq!(join(&crowd, &member, "chat:b"), Ok(true));
    crowd.say(&member.peer, "hello");
    crowd.say(&other.peer, "here");
    assert_eq!(texts(&member.peer), ["a 2: hello", "b 1: here"]);
    assert_eq!(texts(&other.peer), ["b +2", "b 1: here"]);
    assert!(leave(&crowd, &member, "chat:a"));
    crowd.say(&member.peer, "from now on here");
    assert_eq!(texts(&member.peer).last().unwrap(), "b 2: from now on here");
    assert!(!leave(&crowd, &member, "chat:b"), "it is in no other");
    assert!(!leave(&crowd, &member, "chat:a"), "it is not there");
    member.peer.reset();
    crowd.rt.settle();
    assert_eq!(texts(&other.peer).last().unwrap(), "b -2 lost");
    other.peer.reset();
    leaves_nothing(&crowd);
}

#[test]
fn a_client_is_in_as_many_rooms_as_the_limit_says_and_once_in_each() {
    let limits = Limits {
        memberships: NonZeroUsize::new(2).expect("not 0"),
        ..Limits::default()
    };
    let crowd = crowd(limits);
    let member = enter(&crowd, "chat:a", ROOM);
    assert_eq!(join(&crowd, &member, "chat:b"), Ok(true));
    let too_many = Err(MembershipError::TooMany { max: 2 });
    assert_eq!(join(&crowd, &member, "chat:c"), too_many);
    let there = Err(MembershipError::AlreadyThere);
    assert_eq!(join(&crowd, &member, "chat:b"), there);
    let refused = |reason| crowd.app.counts().sessions.refused_for(reason);
    assert_eq!(refused(RefuseReason::Memberships), 1);
    assert!(leave(&crowd, &member, "chat:a"));
    assert_eq!(join(&crowd, &member, "chat:c"), Ok(true));
    assert_eq!(
        crowd.app.registry().rooms_open(),
        3,
        "the first one lingers"
    );
    member.peer.reset();
    leaves_nothing(&crowd);
}

#[test]
fn a_room_that_refuses_the_client_leaves_nothing_of_the_try() {
    let crowd = Crowd::new(|app| {
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.clients_max = 1;
        app.room_with("chat", teller, policy).expect("a name")
    });
    let owner = enter(&crowd, "chat:b", ROOM);
    let member = enter(&crowd, "chat:a", ROOM);
    let before = crowd.app.counts().bus.subscriptions;
    let full = join(&crowd, &member, "chat:b");
    assert!(matches!(
        full,
        Err(MembershipError::Admit(AdmitError::Join(_)))
    ));
    assert_eq!(crowd.app.counts().bus.subscriptions, before);
    crowd.say(&member.peer, "still here");
    assert_eq!(texts(&member.peer), ["a 2: still here"]);
    owner.peer.reset();
    member.peer.reset();
    leaves_nothing(&crowd);
}

#[test]
fn a_room_that_closes_a_client_ends_its_membership_and_the_last_one_the_connection() {
    let crowd = crowd(Limits::default());
    let member = enter(&crowd, "chat:a", ROOM);
    join(&crowd, &member, "chat:b").expect("it is let in");
    crowd.say(&member.peer, "shut");
    assert_eq!(closed(&member.peer), None, "it is in another room");
    crowd.say(&member.peer, "still here");
    assert_eq!(texts(&member.peer), ["b 1: still here"]);
    crowd.say(&member.peer, "shut");
    assert_eq!(closed(&member.peer), Some(4000));
    member.peer.end();
    leaves_nothing(&crowd);
}

#[test]
fn a_room_in_which_the_client_is_too_slow_is_the_only_one_that_it_loses() {
    let crowd = crowd(Limits::default());
    let member = enter(&crowd, "chat:a", 0);
    join(&crowd, &member, "fast:x").expect("it is let in");
    // The first fills the outbox, which the socket does not take.
    for number in 0..9 {
        publish(&crowd.app, "fast:x", &number.to_string());
        crowd.rt.settle();
    }
    publish(&crowd.app, "chat:a", "of the other room");
    member.peer.make_room(ROOM);
    crowd.rt.settle();
    assert_eq!(closed(&member.peer), None);
    publish(&crowd.app, "fast:x", "no longer for it");
    publish(&crowd.app, "chat:a", "the last");
    crowd.rt.settle();
    let said = texts(&member.peer);
    assert!(said.contains(&"of the other room".to_owned()), "{said:?}");
    assert!(!said.contains(&"no longer for it".to_owned()), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("the last"));
    let fast = crowd
        .app
        .registry()
        .room_status(&room(&crowd.app, "fast:x"));
    assert_eq!(fast.map_or(0, |status| status.clients), 0);
    member.peer.reset();
    leaves_nothing(&crowd);
}

#[test]
fn a_stream_that_ends_and_a_service_that_fails_end_one_membership() {
    let crowd = Crowd::new(|app| {
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.crashes_max = 1.try_into().expect("not 0");
        let app = app.room("chat", teller).expect("a name");
        app.room_with("frail", teller, policy).expect("a name")
    });
    let member = enter(&crowd, "frail:x", ROOM);
    join(&crowd, &member, "chat:a").expect("it is let in");
    for _ in 0..3 {
        crowd.say(&member.peer, "crash");
        crowd.rt.advance(Duration::from_secs(5));
    }
    assert_eq!(closed(&member.peer), None, "{:?}", member.ended());
    crowd.say(&member.peer, "on");
    let said = texts(&member.peer);
    assert!(
        said.last().is_some_and(|text| text.ends_with(": on")),
        "{said:?}"
    );
    member.peer.reset();
    crowd.rt.settle();
}

#[test]
fn a_service_that_fails_in_a_room_joined_later_ends_that_membership() {
    let crowd = Crowd::new(|app| {
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.crashes_max = 1.try_into().expect("not 0");
        let app = app.room("chat", teller).expect("a name");
        app.room_with("frail", teller, policy).expect("a name")
    });
    let other = enter(&crowd, "frail:x", ROOM);
    let member = enter(&crowd, "chat:a", ROOM);
    join(&crowd, &member, "frail:x").expect("it is let in");
    for _ in 0..3 {
        crowd.say(&other.peer, "crash");
        crowd.rt.advance(Duration::from_secs(5));
    }
    assert_eq!(closed(&other.peer), Some(1011));
    assert_eq!(closed(&member.peer), None);
    assert!(!leave(&crowd, &member, "frail:x"), "it is there no more");
    crowd.say(&member.peer, "on");
    assert_eq!(texts(&member.peer), ["a 2: on"]);
    other.peer.end();
    member.peer.reset();
    crowd.rt.settle();
}

#[test]
fn messages_that_a_service_has_not_taken_are_counted_when_the_client_leaves_its_room() {
    let crowd = Crowd::new(|app| {
        let policy = ServicePolicy {
            window: Some(Window {
                messages: NonZeroUsize::MIN,
                ..Window::default()
            }),
            ..ServicePolicy::of_rooms()
        };
        let app = app.room("chat", teller).expect("a name");
        let deaf = |mut ctx: Context| async move {
            let _stopped = ctx.sleep(Duration::from_secs(3_600)).await;
        };
        app.room_with("deaf", deaf, policy).expect("a name")
    });
    let member = enter(&crowd, "deaf:x", ROOM);
    join(&crowd, &member, "chat:a").expect("it is let in");
    for number in 0..3 {
        crowd.say(&member.peer, &number.to_string());
    }
    assert!(leave(&crowd, &member, "deaf:x"));
    assert_eq!(
        crowd.app.counts().sessions.lost_not_taken,
        1,
        "one was at hand"
    );
    crowd.say(&member.peer, "on");
    assert_eq!(texts(&member.peer).last().unwrap(), "a 1: on");
    member.peer.reset();
    leaves_nothing(&crowd);
}

#[test]
fn a_drain_waits_for_what_each_room_answers() {
    for subprotocol in [Subprotocol::Plain, Subprotocol::Json] {
        let crowd = crowd(Limits::default());
        let first = room(&crowd.app, "chat:a");
        let admission = Admission::request_room(&crowd.app, &first, Who::default());
        let admission = admission.expect("admitted").speaking(subprotocol);
        let member = Member::of(&crowd, admission, Who::default(), ROOM);
        join(&crowd, &member, "chat:b").expect("it is let in");
        let said = match subprotocol {
            Subprotocol::Json => r#"{"text":"hello"}"#,
            Subprotocol::Events | Subprotocol::Plain => "hello",
        };
        crowd.app.drain();
        member.peer.send(true, 1, said.as_bytes());
        publish(&crowd.app, "chat:b", "of the other room");
        crowd.rt.settle();
        crowd.rt.advance(Duration::from_secs(1));
        let told = texts(&member.peer).concat();
        assert!(told.contains("a 1: hello"), "{told}");
        assert!(told.contains("of the other room"), "{told}");
        assert_eq!(closed(&member.peer), Some(1001));
        member.peer.end();
        leaves_nothing(&crowd);
        let drained = crowd.app.counts().sessions;
        assert_eq!(drained.closed_for(CloseReason::Drained), 1);
        assert_eq!(member.ended(), Some(Cause::Drained));
    }
}

#[test]
fn no_fan_out_writes_for_a_client_of_several_rooms() {
    let crowd = crowd(Limits::default());
    let members: Vec<_> = (0..3).map(|_| enter(&crowd, "s", ROOM)).collect();
    // Bursts make clients that keep up join the fan-out.
    for number in 0..4 {
        crowd.publish(&number.to_string());
        crowd.rt.settle();
    }
    join(&crowd, &members[0], "chat:a").expect("it is let in");
    for number in 4..20 {
        crowd.publish(&number.to_string());
        publish(&crowd.app, "chat:a", &format!("a {number}"));
        crowd.rt.settle();
    }
    assert!(leave(&crowd, &members[0], "chat:a"));
    for number in 20..30 {
        crowd.publish(&number.to_string());
        crowd.rt.settle();
    }
    let numbers: Vec<_> = (0..30).map(|number: u32| number.to_string()).collect();
    for member in &members {
        let said = texts(&member.peer).into_iter();
        let of_service: Vec<_> = said.filter(|text| !text.starts_with('a')).collect();
        assert_eq!(of_service, numbers);
    }
    let said = texts(&members[0].peer);
    let of_room = said.iter().filter(|text| text.starts_with('a')).count();
    assert_eq!(of_room, 16);
    members.iter().for_each(|member| member.peer.reset());
    leaves_nothing(&crowd);
}

#[test]
fn a_room_that_is_joined_later_gives_what_the_client_missed_after_its_position() {
    let crowd = Crowd::new(|app| {
        let retention = Retention {
            messages: NonZeroUsize::new(10).expect("not 0"),
            bytes: 1 << 16,
            ttl: Duration::from_secs(60),
            recovery_max: None,
        };
        let policy = ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention);
        let app = app.relay_with("news", policy).expect("a name");
        app.room("chat", teller).expect("a name")
    });
    for number in 0..4 {
        publish(&crowd.app, "news:x", &number.to_string());
    }
    let since = crowd.app.room("news", "x").expect("a room").position();
    let mut since = since.expect("it has a history");
    since.offset = 2;
    let first = room(&crowd.app, "chat:a");
    let admission = Admission::request_room(&crowd.app, &first, Who::default());
    let admission = admission.expect("admitted").speaking(Subprotocol::Json);
    let member = Member::of(&crowd, admission, Who::default(), ROOM);
    crowd.rt.settle();
    let wish = Wish {
        since: Some(since.to_string().parse().expect("a position")),
        last: 0,
    };
    join_wishing(&crowd, &member, "news:x", wish).expect("it is let in");
    let said = texts(&member.peer);
    assert!(said[0].contains("\"recovered\":true"), "{said:?}");
    assert!(said[1].contains("\"text\":\"2\"") && said[1].contains("\"offset\":3"));
    assert!(said[2].contains("\"text\":\"3\"") && said[2].contains("\"offset\":4"));
    assert_eq!(said.len(), 3);
    let hidden = Wish {
        since: None,
        last: 1,
    };
    let there = Err(MembershipError::AlreadyThere);
    assert_eq!(join_wishing(&crowd, &member, "news:x", hidden), there);
}

#[test]
fn a_busy_room_leaves_space_in_the_outbox_to_the_others() {
    let crowd = Crowd::new(|app| {
        let limits = Limits {
            outbox_bytes: 64,
            ..Limits::default()
        };
        let app = app.limits(limits).relay("news", RelayPolicy::default());
        app.expect("a name")
    });
    let member = enter(&crowd, "news:a", 0);
    join(&crowd, &member, "news:b").expect("it is let in");
    join(&crowd, &member, "news:c").expect("it is let in");
    for number in 0..50 {
        for key in ["a", "b", "c"] {
            publish(
                &crowd.app,
                &format!("news:{key}"),
                &format!("{key} {number} of many"),
            );
        }
    }
    for _ in 0..30 {
        member.peer.make_room(20);
        crowd.rt.settle();
    }
    let said = texts(&member.peer);
    for key in ["a", "b", "c"] {
        let of_room = said.iter().filter(|text| text.starts_with(key)).count();
        assert!(
            of_room * 5 >= said.len(),
            "{of_room} of {} are of {key}",
            said.len()
        );
    }
}

#[test]
fn streams_that_end_at_once_end_their_memberships_and_no_other() {
    let crowd = Crowd::new(|app| {
        let retention = Retention {
            messages: NonZeroUsize::new(10).expect("not 0"),
            bytes: 1 << 16,
            ttl: Duration::from_secs(60),
            recovery_max: None,
        };
        let policy = ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention);
        app.relay_with("news", policy).expect("a name")
    });
    let member = enter(&crowd, "news:a", ROOM);
    for key in ["b", "c", "d"] {
        join(&crowd, &member, &format!("news:{key}")).expect("it is let in");
    }
    for key in ["a", "c"] {
        let stream = crowd.app.room("news", key).expect("a room");
        stream.end("1").expect("it ends once");
    }
    crowd.rt.settle();
    for key in ["a", "b", "c", "d"] {
        publish(&crowd.app, &format!("news:{key}"), key);
    }
    crowd.rt.settle();
    let mut said = texts(&member.peer);
    said.sort();
    assert_eq!(said, ["b", "d"]);
    assert_eq!(closed(&member.peer), None);
    for key in ["b", "d"] {
        let stream = crowd.app.room("news", key).expect("a room");
        stream.end("1").expect("it ends once");
    }
    crowd.rt.settle();
    assert_eq!(closed(&member.peer), Some(1000), "it is in no room");
}

/// A token is the keys of the rooms in which it is good; `later` is a token about which nothing can
/// be decided now.
struct Keys;

impl Authorize for Keys {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        let token = request.token.map(|token| token.reveal().to_owned());
        let identity = Identity {
            claims: token.map(Into::into),
            ..Identity::default()
        };
        ready(Ok(identity)).boxed()
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
        let keys = request.identity.claims.unwrap_or_default();
        let key = request.room.key();
        ready(match &*keys {
            "later" if key == "b" => Err(Denied::Unavailable {
                retry_after: Duration::from_secs(1),
            }),
            "later" => Ok(Grant::default().publishing(false)),
            keys if keys.contains(key) => Ok(Grant::default()),
            _ => Err(Denied::Forbidden),
        })
        .boxed()
    }
}

#[test]
fn a_fresh_token_is_decided_on_for_each_room() {
    let crowd = Crowd::new(|app| {
        let app = app.authorize(Keys).room("chat", teller);
        app.expect("a name")
    });
    let first = room(&crowd.app, "chat:a");
    let admission = Admission::request_room(&crowd.app, &first, Who::default());
    let admission = admission.expect("admitted").speaking(Subprotocol::Json);
    let member = Member::of(&crowd, admission, Who::default(), ROOM);
    join(&crowd, &member, "chat:b").expect("it is let in");
    join(&crowd, &member, "chat:c").expect("it is let in");
    let show = |token: &str| {
        crowd.say(&member.peer, &format!("{{\"token\":\"{token}\"}}"));
        texts(&member.peer).pop().expect("a notice")
    };
    assert_eq!(show("later"), r#"{"token":"try again"}"#);
    crowd.say(&member.peer, r#"{"text":"hello"}"#);
    assert_eq!(
        texts(&member.peer).pop().unwrap(),
        r#"{"text":"a 1: hello"}"#,
        "nothing changed"
    );
    assert_eq!(show("a c"), r#"{"token":"accepted"}"#);
    publish(&crowd.app, "chat:b", "not for it");
    publish(&crowd.app, "chat:c", "for it");
    crowd.rt.settle();
    assert_eq!(texts(&member.peer).pop().unwrap(), r#"{"text":"for it"}"#);
    assert!(!texts(&member.peer).concat().contains("not for it"));
    let closing = Some(4401);
    crowd.say(&member.peer, r#"{"token":"x"}"#);
    assert_eq!(closed(&member.peer), closing, "it is good in no room");
    member.peer.end();
    leaves_nothing(&crowd);
}

/// What happens in a run of many clients and rooms.
#[derive(Clone, Debug)]
enum Op {
    /// A client comes to a room.
    Come(u8),
    /// A client joins one more room.
    Join(u8, u8),
    /// A client leaves a room.
    Leave(u8, u8),
    /// A client is lost.
    Lose(u8),
    /// The program publishes to a room.
    Publish(u8),
    /// A client's socket takes some bytes more.
    Go(u8),
    /// Tasks run in an order of this seed's.
    Settle(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => any::<u8>().prop_map(Op::Come),
        4 => any::<(u8, u8)>().prop_map(|(n, to)| Op::Join(n, to)),
        2 => any::<(u8, u8)>().prop_map(|(n, to)| Op::Leave(n, to)),
        1 => any::<u8>().prop_map(Op::Lose),
        6 => any::<u8>().prop_map(Op::Publish),
        2 => any::<u8>().prop_map(Op::Go),
        3 => any::<u64>().prop_map(Op::Settle),
    ];
    proptest::collection::vec(op, 1..80)
}

const NAMES: [&str; 4] = ["news:a", "news:b", "news:c", "s"];

/// A client, and the messages that it is to receive, by the room.
struct Reader {
    member: Member,
    rooms: BTreeSet<usize>,
    expected: BTreeMap<usize, Vec<String>>,
    is_lost: bool,
}

impl Reader {
    /// The client has each message of its rooms once and in the order of the room.
    fn check(&self) {
        let said = texts(&self.member.peer);
        for (place, name) in NAMES.iter().enumerate() {
            let prefix = format!("{name} ");
            let of_room = said.iter().filter(|text| text.starts_with(&prefix));
            let of_room: Vec<&String> = of_room.collect();
            let expected = self.expected.get(&place).cloned().unwrap_or_default();
            assert_eq!(of_room, expected.iter().collect::<Vec<_>>(), "{name}");
        }
    }
}

fn run(ops: &[Op]) {
    let crowd = Crowd::new(|app| {
        let limits = Limits {
            memberships: NonZeroUsize::new(3).expect("not 0"),
            outbox_bytes: 64,
            ..Limits::default()
        };
        let app = app.limits(limits).relay("news", RelayPolicy::default());
        let app = app.expect("a name");
        app.service("s", busline::service::ping).expect("a name")
    });
    let mut readers: Vec<Reader> = Vec::new();
    let mut count = 0;
    for op in ops {
        let chosen = |n: u8, readers: &Vec<Reader>| match readers.len() {
            0 => None,
            len => Some(usize::from(n) % len).filter(|place| !readers[*place].is_lost),
        };
        let name = |n: u8| usize::from(n) % NAMES.len();
        match *op {
            Op::Come(to) => readers.push(Reader {
                member: enter(&crowd, NAMES[name(to)], 60),
                rooms: [name(to)].into(),
                expected: BTreeMap::new(),
                is_lost: false,
            }),
            Op::Join(n, to) => {
                let Some(place) = chosen(n, &readers) else {
                    continue;
                };
                let reader = &mut readers[place];
                let to = name(to);
                let done = join(&crowd, &reader.member, NAMES[to]);
                let expected = match (reader.rooms.contains(&to), reader.rooms.len()) {
                    (true, _) => Err(MembershipError::AlreadyThere),
                    (false, 3..) => Err(MembershipError::TooMany { max: 3 }),
                    (false, _) => Ok(true),
                };
                assert_eq!(done, expected);
                reader.rooms.extend(done.is_ok().then_some(to));
            }
            Op::Leave(n, to) => {
                let Some(place) = chosen(n, &readers) else {
                    continue;
                };
                let reader = &mut readers[place];
                // All that was published is written before: what is left out would be lost.
                reader.member.peer.make_room(ROOM);
                crowd.rt.settle();
                let to = name(to);
                let is_out = leave(&crowd, &reader.member, NAMES[to]);
                assert_eq!(is_out, reader.rooms.contains(&to) && reader.rooms.len() > 1);
                if is_out {
                    reader.rooms.remove(&to);
                }
            }
            Op::Lose(n) => {
                let Some(place) = chosen(n, &readers) else {
                    continue;
                };
                let reader = &mut readers[place];
                reader.member.peer.make_room(ROOM);
                crowd.rt.settle();
                reader.check();
                reader.member.peer.reset();
                reader.is_lost = true;
                crowd.rt.settle();
            }
            Op::Publish(to) => {
                count += 1;
                let to = name(to);
                let text = format!("{} {count}", NAMES[to]);
                publish(&crowd.app, NAMES[to], &text);
                let there = readers.iter_mut();
                for reader in there.filter(|it| it.rooms.contains(&to) && !it.is_lost) {
                    reader.expected.entry(to).or_default().push(text.clone());
                }
            }
            Op::Go(n) => {
                if let Some(place) = chosen(n, &readers) {
                    readers[place].member.peer.make_room(40);
                }
            }
            Op::Settle(seed) => crowd.rt.settle_by(seed),
        }
    }
    for reader in readers.iter().filter(|reader| !reader.is_lost) {
        reader.member.peer.make_room(ROOM);
        crowd.rt.settle();
        reader.check();
        reader.member.peer.reset();
    }
    crowd.rt.settle();
    for reader in &readers {
        assert!(reader.member.ended().is_some());
    }
    leaves_nothing(&crowd);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 400 }))]

    #[test]
    fn each_client_has_each_message_of_its_rooms_once_and_in_order(ops in ops()) {
        run(&ops);
    }
}

#[test]
fn a_session_that_is_dropped_leaves_all_rooms() {
    let crowd = crowd(Limits::default());
    let stays = enter(&crowd, "chat:b", ROOM);
    let member = enter(&crowd, "chat:a", ROOM);
    join(&crowd, &member, "chat:b").expect("it is let in");
    member.peer.end();
    crowd.rt.settle();
    let said = texts(&stays.peer);
    assert!(
        said.last().is_some_and(|text| text.starts_with("b -2")),
        "{said:?}"
    );
    let closed = crowd.app.counts().sessions;
    assert_eq!(closed.closed_for(CloseReason::Lost), 1);
}
