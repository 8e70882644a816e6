//! Presence as clients of a room see it: who is there, who joins, and who leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use busline::authorize::{Authorize, ConnectRequest, Denied, Grant, JoinRequest};
use busline::identity::{Identity, Token};
use busline::limits::{Keep, PresenceLimits, PresencePolicy, Publish, Readers, RelayPolicy, Tell};
use busline::session::{Admission, Asking, Subprotocol};
use busline::{Context, Limits, Peer as Who, ServicePolicy};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::crowd::{Crowd, texts};
use crate::model::peer::Peer;
use crate::newsroom::told;

/// A relay with this presence.
fn crowd(presence: PresencePolicy) -> Crowd {
    let relay = RelayPolicy {
        publish: Publish::Members,
        ..RelayPolicy::default()
    };
    let policy = ServicePolicy {
        presence,
        ..ServicePolicy::of_relay(relay)
    };
    Crowd::new(|app| app.relay_with("news", policy).expect("a valid policy"))
}

/// Every client is listed, and every client is told.
fn all() -> PresencePolicy {
    PresencePolicy {
        keep: Keep::List,
        tell: Tell::All,
        ..PresencePolicy::default()
    }
}

fn who(subject: &str) -> Who {
    let mut who = Who::default();
    who.identity.subject = (!subject.is_empty()).then(|| subject.into());
    who
}

/// A client in the room with this key.
fn enter_room(crowd: &Crowd, key: &str, who: Who, asking: Asking) -> Peer {
    let room = crowd.app.registry().room("news", Some(key)).expect("a key");
    let admission = Admission::request_wishing(&crowd.app, &room, who, asking);
    let peer = crowd.serve(admission.expect("admitted"), 1 << 20);
    crowd.rt.settle();
    peer
}

fn json_client() -> Asking {
    Asking {
        subprotocol: Subprotocol::Json,
        ..Asking::default()
    }
}

fn enter(crowd: &Crowd, subject: &str) -> Peer {
    enter_room(crowd, "a", who(subject), json_client())
}

fn leave(crowd: &Crowd, peer: &Peer) {
    peer.reset();
    crowd.rt.settle();
}

fn shown(subject: &str) -> Value {
    json!({ "subject": subject, "info": null })
}

/// The reply to a request with the number 7.
fn reply(crowd: &Crowd, peer: &Peer, request: &str) -> Value {
    crowd.say(peer, request);
    let reply = told(peer).into_iter().rev().find(|told| told["id"] == 7);
    reply.expect("a reply")
}

fn presence(crowd: &Crowd, peer: &Peer) -> Value {
    reply(crowd, peer, r#"{"id":7,"presence":{}}"#)["presence"].take()
}

#[test]
fn a_client_is_told_of_every_join_and_leave_its_own_join_too() {
    let crowd = crowd(all());
    let ann = enter(&crowd, "ann");
    let bob = enter(&crowd, "bob");
    let other = enter_room(&crowd, "b", who("eve"), json_client());
    leave(&crowd, &bob);
    let expected = [
        json!({ "joined": { "1": shown("ann") } }),
        json!({ "joined": { "2": shown("bob") } }),
        json!({ "left": { "2": shown("bob") } }),
    ];
    assert_eq!(told(&ann), expected);
    assert_eq!(told(&other), [json!({ "joined": { "3": shown("eve") } })]);
}

#[test]
fn presence_lists_the_clients_of_the_room_and_counts_their_subjects() {
    let crowd = crowd(PresencePolicy {
        tell: Tell::Off,
        ..all()
    });
    let ann = enter(&crowd, "ann");
    let again = enter(&crowd, "ann");
    let nameless = enter(&crowd, "");
    let _other = enter_room(&crowd, "b", who("eve"), json_client());
    let expected = json!({
        "clients": {
            "1": shown("ann"),
            "2": shown("ann"),
            "3": { "subject": null, "info": null },
        },
        "num_clients": 3, "num_subjects": 1, "more": false,
    });
    assert_eq!(presence(&crowd, &ann), expected);
    leave(&crowd, &again);
    leave(&crowd, &nameless);
    let expected = json!({
        "clients": { "1": shown("ann") },
        "num_clients": 1, "num_subjects": 1, "more": false,
    });
    assert_eq!(presence(&crowd, &ann), expected);
    let room = crowd.app.room("news", "a").expect("a key");
    let page = room.presence(None).expect("it is kept");
    assert_eq!((page.clients.len(), page.num_clients), (1, 1));
    leave(&crowd, &ann);
    let page = room.presence(None).expect("it is kept");
    assert_eq!((page.clients.len(), page.num_clients), (0, 0));
    // No client follows, so none was told of anything.
    assert!(told(&ann).iter().all(|told| told["id"] == 7));
}

#[test]
fn an_answer_comes_before_the_joins_that_it_does_not_know() {
    let crowd = crowd(all());
    let room = crowd.app.registry().room("news", Some("a")).expect("a key");
    let ann = Admission::request_wishing(&crowd.app, &room, who("ann"), json_client());
    // Nothing is written until both have happened.
    let ann = crowd.serve(ann.expect("admitted"), 0);
    crowd.say(&ann, r#"{"id":7,"presence":{}}"#);
    let _bob = enter(&crowd, "bob");
    ann.make_room(1 << 20);
    crowd.rt.settle();
    let told = told(&ann);
    assert_eq!(told[0], json!({ "joined": { "1": shown("ann") } }));
    assert_eq!(told[1]["presence"]["num_clients"], 1);
    assert_eq!(told[2], json!({ "joined": { "2": shown("bob") } }));
}

#[test]
fn a_list_has_pages() {
    let limits = Limits {
        presence: PresenceLimits {
            clients: 2,
            ..PresenceLimits::default()
        },
        ..Limits::default()
    };
    let policy = ServicePolicy {
        presence: all(),
        ..ServicePolicy::of_relay(RelayPolicy::default())
    };
    let crowd = Crowd::new(|app| {
        let app = app.limits(limits);
        app.relay_with("news", policy).expect("a valid policy")
    });
    let clients: Vec<_> = (0..5).map(|_| enter(&crowd, "ann")).collect();
    let mut page = presence(&crowd, &clients[0]);
    let mut listed = Vec::new();
    loop {
        assert_eq!(
            (&page["num_clients"], &page["num_subjects"]),
            (&json!(5), &json!(1))
        );
        let ids = page["clients"].as_object().expect("a list").keys();
        let ids: Vec<_> = ids.cloned().collect();
        let last = ids.last().expect("a client").clone();
        listed.extend(ids);
        if page["more"] == false {
            break;
        }
        let next = format!(r#"{{"id":7,"presence":{{"after":"{last}"}}}}"#);
        page = reply(&crowd, &clients[0], &next)["presence"].take();
    }
    assert_eq!(listed, ["1", "2", "3", "4", "5"]);
    let counted = reply(&crowd, &clients[0], r#"{"id":7,"presence":{"limit":0}}"#);
    let numbers = json!({ "num_clients": 5, "num_subjects": 1 });
    assert_eq!(counted["presence"], numbers);
    let one = reply(&crowd, &clients[0], r#"{"id":7,"presence":{"limit":1}}"#);
    assert_eq!(
        one["presence"]["clients"]
            .as_object()
            .map(serde_json::Map::len),
        Some(1)
    );
}

#[test]
fn presence_that_is_off_or_hidden_is_refused_with_words() {
    let error = |presence: PresencePolicy| {
        let crowd = crowd(presence);
        let ann = enter(&crowd, "ann");
        let reply = reply(&crowd, &ann, r#"{"id":7,"presence":{}}"#);
        assert!(reply["error"]["message"].is_string(), "{reply}");
        reply["error"]["code"].clone()
    };
    assert_eq!(error(PresencePolicy::default()), 108);
    let told_alone = PresencePolicy {
        keep: Keep::Off,
        ..all()
    };
    assert_eq!(error(told_alone), 108);
    let hidden = PresencePolicy {
        read: Readers::Nobody,
        ..all()
    };
    assert_eq!(error(hidden), 103);
    let counted = crowd(PresencePolicy {
        keep: Keep::Count,
        ..all()
    });
    let ann = enter(&counted, "ann");
    let expected = json!({ "num_clients": 1, "num_subjects": 1 });
    assert_eq!(presence(&counted, &ann), expected);
}

#[test]
fn joins_and_leaves_are_for_clients_that_ask_where_the_kind_says_so() {
    let crowd = crowd(PresencePolicy {
        tell: Tell::Asked,
        ..all()
    });
    let asks = Asking {
        join_leave: true,
        ..json_client()
    };
    let plain = Asking {
        subprotocol: Subprotocol::Plain,
        ..asks
    };
    let ann = enter_room(&crowd, "a", who("ann"), asks);
    let bob = enter(&crowd, "bob");
    let eve = enter_room(&crowd, "a", who("eve"), plain);
    assert_eq!(told(&ann).len(), 3);
    assert!(told(&bob).is_empty() && texts(&eve).is_empty());
    // Messages come as they did.
    crowd.say(&bob, r#"{"text":"hello"}"#);
    assert_eq!(texts(&eve), ["hello"]);
    assert_eq!(told(&ann)[3]["text"], "hello");
}

#[test]
fn joins_and_leaves_are_events_for_a_client_of_events() {
    let crowd = crowd(all());
    let events = Asking {
        subprotocol: Subprotocol::Events,
        ..Asking::default()
    };
    let ann = enter_room(&crowd, "a", who("ann"), events);
    let bob = enter(&crowd, "bob");
    leave(&crowd, &bob);
    let event = |kind: &str, id: u64, subject: &str| {
        let clients = format!("{{\"{id}\":{{\"subject\":\"{subject}\",\"info\":null}}}}");
        format!("event: {kind}\ndata: {{\"{kind}\":{clients}}}\n\n")
    };
    let expected = [
        event("joined", 1, "ann"),
        event("joined", 2, "bob"),
        event("left", 2, "bob"),
    ];
    assert_eq!(texts(&ann), expected);
}

#[test]
fn chosen_claims_are_shown_and_a_grant_goes_before_them() {
    let crowd = crowd(PresencePolicy {
        claims: vec!["name".to_owned()],
        ..all()
    });
    let mut ann = who("ann");
    ann.identity.claims = Some(r#"{"sub":"ann","name":"Ann","mail":"s3cret"}"#.into());
    let mut bob = ann.clone();
    bob.grant = Grant::default().showing(r#"{"role":"admin"}"#);
    let ann = enter_room(&crowd, "a", ann, json_client());
    let _bob = enter_room(&crowd, "a", bob, json_client());
    let listed = presence(&crowd, &ann);
    assert_eq!(listed["clients"]["1"]["info"], json!({ "name": "Ann" }));
    assert_eq!(listed["clients"]["2"]["info"], json!({ "role": "admin" }));
    assert!(
        !told(&ann)
            .iter()
            .any(|told| told.to_string().contains("s3cret"))
    );
}

#[test]
fn a_mass_of_joins_is_told_once_a_second() {
    let crowd = crowd(all());
    let ann = enter(&crowd, "ann");
    let clients: Vec<_> = (0..100).map(|_| enter(&crowd, "bob")).collect();
    let at_once = PresenceLimits::default().at_once;
    assert_eq!(told(&ann).len(), at_once);
    crowd.wait(1_000);
    crowd.rt.settle();
    let notices = told(&ann);
    assert_eq!(notices.len(), at_once + 1);
    let last = &notices[at_once];
    let named = last["joined"].as_object().map(serde_json::Map::len);
    assert_eq!(named, Some(101 - at_once));
    let counts = (&last["num_clients"], &last["num_subjects"]);
    assert_eq!(counts, (&json!(101), &json!(2)));
    // A client that has come and gone before it was told of is not told of at all.
    let gone = enter(&crowd, "eve");
    leave(&crowd, &gone);
    crowd.wait(1_000);
    crowd.rt.settle();
    assert_eq!(told(&ann).len(), at_once + 1);
    drop(clients);
}

#[test]
fn a_page_that_is_reloaded_does_not_leave() {
    let crowd = crowd(PresencePolicy {
        leave_delay: Duration::from_secs(3),
        ..all()
    });
    let ann = enter(&crowd, "ann");
    let bob = enter(&crowd, "bob");
    leave(&crowd, &bob);
    crowd.wait(2_000);
    let again = enter(&crowd, "bob");
    let mut shown_again = shown("bob");
    shown_again["replaces"] = "2".into();
    let joined = json!({ "joined": { "3": shown_again } });
    assert_eq!(told(&ann)[2], joined);
    crowd.wait(10_000);
    assert_eq!(told(&ann).len(), 3);
    leave(&crowd, &again);
    crowd.wait(2_999);
    crowd.rt.settle();
    assert_eq!(told(&ann).len(), 3);
    // An answer is the truth, also before a leave is told.
    assert_eq!(presence(&crowd, &ann)["num_clients"], 1);
    crowd.wait(1);
    crowd.rt.settle();
    assert_eq!(
        told(&ann)[4],
        json!({ "left": { "3": shown("bob") }, "num_clients": 1, "num_subjects": 1 })
    );
}

#[test]
fn presence_outlives_a_crash_of_the_service() {
    async fn fails(mut ctx: Context) -> Result<(), String> {
        ctx.recv().await;
        Err("planned".to_owned())
    }
    let policy = ServicePolicy {
        presence: all(),
        ..ServicePolicy::of_rooms()
    };
    let crowd = Crowd::new(|app| {
        app.room_with("news", fails, policy)
            .expect("a valid policy")
    });
    let [ann, _bob] = ["ann", "bob"].map(|subject| enter(&crowd, subject));
    crowd.say(&ann, r#"{"text":"fail"}"#);
    crowd.wait(5_000);
    crowd.rt.settle();
    assert_eq!(presence(&crowd, &ann)["num_clients"], 2);
    let told = told(&ann);
    assert!(told.iter().any(|told| told["service"] == "restarted"));
    assert!(!told.iter().any(|told| told.get("left").is_some()));
}

/// Shows to others the last letter of a token; the rest is the subject.
struct Colours;

impl Authorize for Colours {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        let token = request.token.as_ref().map_or("", Token::reveal);
        let (subject, colour) = token.split_at(token.len().saturating_sub(1));
        ready(Ok(Identity {
            subject: Some(subject.into()),
            claims: Some(colour.into()),
            expires: None,
        }))
        .boxed()
    }

    fn join(&self, request: JoinRequest) -> BoxFuture<'static, Result<Grant, Denied>> {
        let colour = request.identity.claims.as_deref().unwrap_or("");
        let info = json!({ "colour": colour }).to_string();
        ready(Ok(Grant::default().showing(&info))).boxed()
    }
}

#[test]
fn a_fresh_token_that_shows_other_facts_is_told_as_a_join_of_the_same_client() {
    let policy = ServicePolicy {
        presence: all(),
        ..ServicePolicy::of_relay(RelayPolicy::default())
    };
    let crowd = Crowd::new(|app| {
        let app = app.authorize(Colours);
        app.relay_with("news", policy).expect("a valid policy")
    });
    let [ann, bob] = ["ann", "bob"].map(|subject| enter(&crowd, subject));
    for token in [
        r#"{"token":"bobr"}"#,
        r#"{"token":"bobr"}"#,
        r#"{"token":"bobg"}"#,
    ] {
        crowd.say(&bob, token);
        crowd.rt.settle();
    }
    let colour = |colour: &str| json!({ "colour": colour });
    let joined = |info: Value| json!({ "joined": { "2": { "subject": "bob", "info": info } } });
    // The same facts again are no news.
    let expected = [
        joined(Value::Null),
        joined(colour("r")),
        joined(colour("g")),
    ];
    assert_eq!(told(&ann)[1..], expected);
    assert_eq!(presence(&crowd, &ann)["clients"]["2"]["info"], colour("g"));
}

#[test]
fn a_follower_with_a_window_of_one_message_is_told_of_joins_and_leaves() {
    let policy = ServicePolicy {
        presence: all(),
        window: Some(busline::limits::Window {
            messages: std::num::NonZeroUsize::MIN,
            bytes: 1,
        }),
        ..ServicePolicy::of_relay(RelayPolicy::default())
    };
    let crowd = Crowd::new(|app| app.relay_with("news", policy).expect("a valid policy"));
    let room = crowd.app.registry().room("news", Some("a")).expect("a key");
    let ann = Admission::request_wishing(&crowd.app, &room, who("ann"), json_client());
    // Ann reads only after all has happened.
    let ann = crowd.serve(ann.expect("admitted"), 0);
    for _ in 0..20 {
        let bob = enter(&crowd, "bob");
        leave(&crowd, &bob);
    }
    crowd.wait(2_000);
    ann.make_room(1 << 20);
    crowd.rt.settle();
    assert!(told(&ann).iter().all(|told| told.get("presence").is_none()));
    assert_eq!(followed(&ann).len(), 1);
}

#[test]
fn nothing_is_left_of_a_room_whose_clients_are_gone() {
    let crowd = crowd(PresencePolicy {
        leave_delay: Duration::from_secs(3_600),
        ..all()
    });
    let clients: Vec<_> = (0..30).map(|_| enter(&crowd, "ann")).collect();
    for client in &clients {
        leave(&crowd, client);
    }
    crowd.wait(60_000);
    crowd.rt.settle();
    let counts = crowd.app.counts();
    assert_eq!((counts.bus.topics, crowd.app.sessions_open()), (0, 0));
    assert_eq!(crowd.app.registry().rooms_open(), 0);
    assert_eq!(crowd.rt.timers(), 0, "no task waits for a leave to be told");
}

/// A step of a room's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(&'static str),
    Leave(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::sample::select(vec!["ann", "bob", "eve"]).prop_map(Step::Join),
        3 => (0..6_usize).prop_map(Step::Leave),
        1 => (1..3_000_u64).prop_map(Step::Wait),
    ]
}

/// The clients that are there, as a page that follows the notices knows them.
fn followed(peer: &Peer) -> BTreeMap<String, Value> {
    let mut there = BTreeMap::new();
    for told in told(peer) {
        for (id, client) in told["joined"].as_object().into_iter().flatten() {
            let mut client = client.clone();
            if let Some(replaced) = client
                .as_object_mut()
                .and_then(|one| one.remove("replaces"))
            {
                let replaced = replaced.as_str().expect("a number in a text");
                assert!(there.remove(replaced).is_some(), "{replaced} was not there");
            }
            assert!(there.insert(id.clone(), client).is_none(), "{id} twice");
        }
        for (id, _) in told["left"].as_object().into_iter().flatten() {
            assert!(there.remove(id).is_some(), "{id} left and was not there");
        }
    }
    there
}

proptest! {
    /// A page that follows the notices knows at rest who is there, and presence says the same.
    #[test]
    fn a_client_that_follows_knows_who_is_there(
        steps in prop::collection::vec(step(), 0..60),
        leave_delay in prop::sample::select(vec![0_u64, 700, 3_000]),
    ) {
        let crowd = crowd(PresencePolicy {
            leave_delay: Duration::from_millis(leave_delay),
            ..all()
        });
        let watcher = enter(&crowd, "watcher");
        let mut there = Vec::new();
        for step in steps {
            match step {
                Step::Join(subject) => there.push(enter(&crowd, subject)),
                Step::Leave(place) if place < there.len() => leave(&crowd, &there.remove(place)),
                Step::Leave(_) => {}
                Step::Wait(millis) => crowd.wait(millis),
            }
            let now = presence(&crowd, &watcher);
            prop_assert_eq!(&now["num_clients"], &json!(there.len() + 1));
        }
        crowd.wait(5_000);
        crowd.rt.settle();
        crowd.wait(5_000);
        crowd.rt.settle();
        let followed = json!(followed(&watcher));
        prop_assert_eq!(&presence(&crowd, &watcher)["clients"], &followed);
    }
}
