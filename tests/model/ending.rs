//! The end of a room's stream: every client gets the rest, then the end, and nothing after it.

use std::num::NonZeroUsize;

use busline::bus::{EndError, Reading};
use busline::limits::{
    HistoryLimits, HistoryPolicy, Keep, PresencePolicy, Recovery, RelayPolicy, Retention,
    SlowConsumer, Tell,
};
use busline::session::{AdmitError, Asking, Subprotocol, Wish};
use busline::{CloseReason, Context, Limits, ServicePolicy};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;
use crate::newsroom::{
    RETENTION, admit, asked, crowd, enter, epoch, limited, policy, record, told,
};

fn speaking(crowd: &Crowd, subprotocol: Subprotocol, since: Option<&str>) -> Peer {
    let since = since.map(|since| since.parse().expect("a position"));
    enter(crowd, subprotocol, Wish { since, last: 0 }, 1 << 20)
}

fn json_client(crowd: &Crowd) -> Peer {
    speaking(crowd, Subprotocol::Json, None)
}

/// Ends the stream of the room; returns the position of the end.
fn end(crowd: &Crowd, data: &str) -> Result<String, EndError> {
    let room = crowd.app.room("news", "a").expect("a key");
    let end = room.end(data).map(|position| position.to_string());
    crowd.rt.settle();
    end
}

#[test]
fn clients_get_the_rest_then_the_end_and_are_closed() {
    let crowd = asked();
    let ann = json_client(&crowd);
    let bob = speaking(&crowd, Subprotocol::Plain, None);
    let eve = speaking(&crowd, Subprotocol::Events, None);
    record(&crowd, "one");
    let at = end(&crowd, r#"{"tokens":7}"#).expect("the first end");
    assert_eq!(at, format!("{}:2", epoch(&crowd)));
    let expected = [
        json!({ "text": "one", "offset": 1 }),
        json!({ "end": { "tokens": 7 }, "offset": 2 }),
    ];
    assert_eq!(told(&ann)[1..], expected);
    assert_eq!(texts(&bob), ["one"]);
    let last = texts(&eve).pop().expect("an end");
    assert_eq!(
        last,
        format!("id: {at}\nevent: end\ndata: {{\"tokens\":7}}\n\n")
    );
    assert_eq!([&ann, &bob, &eve].map(closed), [Some(1000); 3]);
    crowd.wait(60_000);
    crowd.rt.settle();
    let counts = crowd.app.counts();
    assert_eq!(counts.sessions.closed_for(CloseReason::Ended), 3);
    assert_eq!(crowd.app.registry().rooms_open(), 0);
}

#[test]
fn a_stream_that_has_ended_takes_nothing_more() {
    let crowd = asked();
    let room = crowd.app.room("news", "a").expect("a key");
    record(&crowd, "one");
    let at = end(&crowd, "null").expect("the first end");
    // On the shelf, and while a client that comes late is still there.
    for _ in [false, true] {
        assert!(room.has_ended());
        assert_eq!(end(&crowd, "1"), Err(EndError::Ended));
        assert_eq!((room.record("two"), room.publish("two")), (None, 0));
        assert!(room.try_publish("two").is_err());
        let live = busline::bus::Batch::from("two").live();
        assert!(room.try_publish(live).is_err());
        assert_eq!(room.position().map(|it| it.to_string()), Some(at.clone()));
        let late = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
        late.make_room(1 << 20);
        crowd.rt.settle();
        let expected = [
            json!({ "position": { "epoch": epoch(&crowd), "offset": 2 } }),
            json!({ "end": null, "offset": 2 }),
        ];
        assert_eq!(told(&late), expected);
        assert_eq!(closed(&late), Some(1000));
        let _slow = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
    }
}

#[test]
fn a_publish_of_a_client_after_the_end_is_refused() {
    let crowd = asked();
    let ann = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
    end(&crowd, "null").expect("the first end");
    // The client does not read: it is told of the end later.
    crowd.say(&ann, r#"{"id":7,"text":"too late"}"#);
    crowd.say(&ann, r#"{"text":"too late"}"#);
    assert_eq!(crowd.app.counts().sessions.lost_not_taken, 2);
    ann.make_room(1 << 20);
    crowd.rt.settle();
    assert_eq!(closed(&ann), Some(1000));
    let room = crowd.app.room("news", "a").expect("a key");
    assert_eq!(room.position().map(|position| position.offset), Some(1));
}

#[test]
fn the_end_is_known_as_long_as_the_position_is() {
    let crowd = asked();
    let since = record(&crowd, "one");
    let at = end(&crowd, r#"{"a":1}"#).expect("the first end");
    crowd.wait(10_001);
    let room = crowd.app.room("news", "a").expect("a key");
    for _ in 0..2 {
        let late = speaking(&crowd, Subprotocol::Json, Some(&since));
        let expected = [
            json!({ "recovered": true, "epoch": epoch(&crowd), "offset": 2 }),
            json!({ "end": { "a": 1 }, "offset": 2 }),
        ];
        assert_eq!(told(&late), expected, "the end alone is missing");
        room.remove_history();
    }
    let page = room.history(&ALL).expect("a history");
    let ends: Vec<_> = page.messages.iter().map(|found| found.is_end).collect();
    assert_eq!(ends, [true]);
    // The end is forgotten with the position, once the last client is gone.
    for _ in 0..2 {
        let position_ttl = crowd.app.limits().history.position_ttl;
        crowd.wait(u64::try_from(position_ttl.as_millis()).expect("few") + 1);
        crowd.rt.settle();
    }
    assert!(!room.has_ended());
    assert!(!record(&crowd, "anew").starts_with(&at[..16]));
}

#[test]
fn a_client_that_has_all_is_told_again_and_one_of_events_is_stopped() {
    let crowd = asked();
    let at = end(&crowd, "[1]").expect("the first end");
    let ann = speaking(&crowd, Subprotocol::Json, Some(&at));
    let expected = [
        json!({ "recovered": true, "epoch": epoch(&crowd), "offset": 1 }),
        json!({ "end": [1], "offset": 1 }),
    ];
    assert_eq!(told(&ann), expected);
    let asking = |since: &str| Asking {
        subprotocol: Subprotocol::Events,
        wish: Wish {
            since: Some(since.parse().expect("a position")),
            last: 0,
        },
        join_leave: false,
    };
    let refused = admit(&crowd.app, asking(&at)).err();
    assert_eq!(refused, Some(AdmitError::Ended));
    assert_eq!(
        crowd.app.sessions_open(),
        1,
        "ann, whose close is on its way"
    );
    let before = at.replace(":1", ":0");
    let eve = enter(&crowd, Subprotocol::Events, asking(&before).wish, 1 << 20);
    assert!(texts(&eve)[1].ends_with("event: end\ndata: [1]\n\n"));
}

#[test]
fn the_newest_message_comes_before_the_end() {
    for (recovery, slow_consumer) in [
        (Recovery::Off, SlowConsumer::Latest),
        (Recovery::Newest, SlowConsumer::Skip),
    ] {
        let newest = HistoryPolicy {
            recovery,
            ..RETENTION.into()
        };
        let crowd = crowd(ServicePolicy {
            slow_consumer,
            ..policy(newest, true)
        });
        let early = enter(&crowd, Subprotocol::Plain, Wish::default(), 0);
        for value in ["1", "2", "3"] {
            record(&crowd, value);
        }
        let late = enter(&crowd, Subprotocol::Plain, Wish::default(), 0);
        end(&crowd, "null").expect("the first end");
        let wish = Wish {
            since: None,
            last: 2,
        };
        let last = enter(&crowd, Subprotocol::Plain, wish, 0);
        for client in [&early, &late, &last] {
            client.make_room(1 << 20);
            crowd.rt.settle();
            // A client that came after the last message, and asked for none, is told nothing else.
            assert!(texts(client).last().is_none_or(|last| last == "3"));
            assert_eq!(closed(client), Some(1000));
        }
        let (early, late) = (texts(&early).len(), texts(&late).len());
        let is_latest = slow_consumer == SlowConsumer::Latest;
        // The outbox had the first value before the others came.
        assert_eq!(early, if is_latest { 2 } else { 3 });
        assert_eq!(
            (late, texts(&last).len()),
            if is_latest { (0, 1) } else { (1, 1) }
        );
    }
}

#[test]
fn the_end_comes_where_the_newest_message_is_gone() {
    let crowd = crowd(ServicePolicy {
        slow_consumer: SlowConsumer::Latest,
        ..policy(
            HistoryPolicy {
                recovery: Recovery::Off,
                ..RETENTION.into()
            },
            true,
        )
    });
    record(&crowd, "1");
    let wish = Wish {
        since: None,
        last: 2,
    };
    let room = crowd.app.room("news", "a").expect("a key");
    let clients = [(); 2].map(|()| {
        let asking = Asking {
            subprotocol: Subprotocol::Json,
            wish,
            join_leave: false,
        };
        admit(&crowd.app, asking).expect("admitted")
    });
    room.remove_history();
    end(&crowd, "7").expect("the first end");
    for client in clients {
        let client = crowd.serve(client, 1 << 20);
        crowd.rt.settle();
        assert_eq!(
            told(&client).last(),
            Some(&json!({ "end": 7, "offset": 2 }))
        );
    }
    // And where the end was there before the client.
    let last = enter(&crowd, Subprotocol::Json, wish, 1 << 20);
    assert_eq!(told(&last).last(), Some(&json!({ "end": 7, "offset": 2 })));
}

#[test]
fn ends_displace_no_message() {
    let limits = Limits {
        history: HistoryLimits {
            history_bytes: 4_000,
            ..HistoryLimits::default()
        },
        ..Limits::default()
    };
    let crowd = limited(limits);
    let data = format!("\"{}\"", "x".repeat(1_000));
    for key in 0..20 {
        let over = crowd.app.room("news", &key.to_string()).expect("a key");
        over.end(&data).expect("the first end");
    }
    record(&crowd, "kept");
    let room = crowd.app.room("news", "a").expect("a key");
    let page = room.history(&ALL).expect("a history");
    assert_eq!(page.messages.len(), 1);
}

#[test]
fn the_end_takes_the_place_of_no_message() {
    let retention = Retention {
        messages: NonZeroUsize::MIN,
        recovery_max: None,
        ..RETENTION
    };
    let newest = HistoryPolicy {
        recovery: Recovery::Newest,
        ..retention.into()
    };
    let crowd_of = |history| crowd(policy(history, true));
    let crowd = crowd_of(newest);
    record(&crowd, "1");
    record(&crowd, "2");
    end(&crowd, "null").expect("the first end");
    let last = speaking(&crowd, Subprotocol::Plain, None);
    assert_eq!(
        (texts(&last), closed(&last)),
        (vec!["2".to_owned()], Some(1000))
    );
    // Nor does it count as one of the messages that one recovery brings.
    let crowd = crowd_of(retention.into());
    let since = record(&crowd, "1");
    record(&crowd, "2");
    end(&crowd, "null").expect("the first end");
    let back = told(&speaking(&crowd, Subprotocol::Json, Some(&since)));
    assert_eq!(back[0]["recovered"], true);
    assert_eq!(
        (&back[1]["text"], &back[2]["end"]),
        (&json!("2"), &Value::Null)
    );
}

/// A reading of all messages.
const ALL: Reading = Reading {
    since: None,
    limit: 9,
    reverse: false,
};

#[test]
fn replies_come_before_the_end_and_nothing_comes_after_it() {
    let presence = PresencePolicy {
        keep: Keep::List,
        tell: Tell::All,
        ..PresencePolicy::default()
    };
    let crowd = crowd(ServicePolicy {
        presence,
        ..policy(RETENTION.into(), true)
    });
    let ann = enter(&crowd, Subprotocol::Json, Wish::default(), 0);
    crowd.say(&ann, r#"{"id":1,"text":"mine"}"#);
    end(&crowd, "null").expect("the first end");
    crowd.say(&ann, r#"{"id":2,"text":"too late"}"#);
    let _bob = json_client(&crowd);
    ann.make_room(1 << 20);
    crowd.rt.settle();
    let told = told(&ann);
    let kinds = ["text", "published", "error", "end"];
    let places = kinds.map(|kind| told.iter().position(|told| told.get(kind).is_some()));
    assert!(places.is_sorted() && places[0].is_some(), "{told:?}");
    assert!(told.last().is_some_and(|told| told.get("end").is_some()));
    let refused = &told[places[2].expect("a refusal")];
    let error = json!({ "code": 108, "message": "the stream has ended" });
    assert_eq!(refused, &json!({ "id": 2, "error": error }));
}

#[test]
fn data_that_are_not_fit_end_nothing() {
    let crowd = asked();
    let ann = json_client(&crowd);
    assert_eq!(end(&crowd, "oops"), Err(EndError::NotJson));
    let long = format!("\"{}\"", "x".repeat(5_000));
    assert_eq!(end(&crowd, &long), Err(EndError::TooLarge { bytes: 5_002 }));
    record(&crowd, "on");
    assert_eq!(told(&ann).len(), 2);
    let without = Crowd::new(|app| {
        let app = app.relay("news", RelayPolicy::default());
        app.expect("a valid policy")
    });
    assert_eq!(end(&without, "null"), Err(EndError::Unrecorded));
}

#[test]
fn a_service_ends_its_own_stream() {
    async fn talks(mut ctx: Context) {
        while let Some(question) = ctx.recv().await {
            ctx.publish(format!("you said {}", question.as_text().unwrap_or("?")));
            ctx.end("{\"done\":true}").expect("the first end");
            assert_eq!(ctx.publish("too late"), 0);
            assert_eq!(ctx.end("null"), Err(EndError::Ended));
        }
    }
    let policy = ServicePolicy::of_rooms().with_history(RETENTION);
    let crowd = Crowd::new(|app| {
        app.room_with("news", talks, policy)
            .expect("a valid policy")
    });
    let [ann, bob] = [json_client(&crowd), json_client(&crowd)];
    crowd.say(&ann, r#"{"text":"hello"}"#);
    crowd.rt.settle();
    for client in [&ann, &bob] {
        let told = told(client);
        assert_eq!(told[1]["text"], "you said hello");
        assert_eq!(told[2]["end"], json!({ "done": true }));
        assert_eq!((told.len(), closed(client)), (3, Some(1000)));
    }
}

/// A step in the life of a room, and of its clients.
#[derive(Clone, Debug)]
enum Step {
    End,
    /// A client of this subprotocol comes that has all messages up to one so far behind the newest.
    Join(u64),
    Leave(usize),
    Publish,
    PublishLive,
    Remove,
    /// The process ends and comes back with its histories.
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::End),
        4 => (0..4_u64).prop_map(Step::Join),
        2 => (0..4_usize).prop_map(Step::Leave),
        6 => Just(Step::Publish),
        1 => Just(Step::PublishLive),
        1 => Just(Step::Remove),
        1 => Just(Step::Restart),
        1 => (1..8_000_u64).prop_map(Step::Wait),
    ]
}

/// The offsets of the messages that the client was told, and whether it was told of the end last.
fn heard(peer: &Peer) -> (Vec<u64>, bool) {
    let told = told(peer);
    let is_end = |told: &Value| told.get("end").is_some();
    let ends = told.iter().filter(|told| is_end(told)).count();
    assert!(ends <= 1, "told twice: {told:?}");
    let has_ended = told.last().is_some_and(is_end);
    assert_eq!(ends == 1, has_ended, "something after the end: {told:?}");
    let of_messages = told.iter().filter(|told| told.get("text").is_some());
    let offsets = of_messages.filter_map(|told| told["offset"].as_u64());
    (offsets.collect(), has_ended)
}

proptest! {
    /// Whatever happens, each client gets each message after the one that it came with, or is told
    /// that it does not; and gets the end as its last message if and only if there is one.
    #[test]
    fn every_client_gets_the_rest_and_the_end(steps in prop::collection::vec(step(), 0..40)) {
        let mut crowd = asked();
        let mut clients: Vec<(Peer, u64)> = Vec::new();
        let mut ended: Option<String> = None;
        let mut top = 0;
        for (number, step) in steps.into_iter().enumerate() {
            let room = crowd.app.room("news", "a").expect("a key");
            match step {
                Step::End => {
                    let at = end(&crowd, "{}");
                    prop_assert_eq!(at.is_ok(), ended.is_none());
                    top += u64::from(ended.is_none());
                    if let Ok(at) = at {
                        ended = Some(at);
                    }
                }
                Step::Join(behind) => {
                    let offset = top.saturating_sub(behind);
                    let peer = speaking(&crowd, Subprotocol::Json, Some(&format!(":{offset}")));
                    clients.push((peer, offset));
                }
                Step::Leave(place) if place < clients.len() => {
                    let (peer, _) = clients.swap_remove(place);
                    peer.reset();
                    crowd.rt.settle();
                }
                Step::Leave(_) => {}
                Step::Publish => {
                    let position = room.record(number.to_string());
                    prop_assert_eq!(position.is_none(), ended.is_some());
                    top += u64::from(ended.is_none());
                    crowd.rt.settle();
                }
                Step::PublishLive => {
                    let live = busline::bus::Batch::from("live").live();
                    prop_assert_eq!(room.try_publish(live).is_err(), ended.is_some());
                    crowd.rt.settle();
                }
                Step::Remove => {
                    room.remove_history();
                }
                Step::Restart => {
                    let saved = crowd.app.bus().export();
                    clients.clear();
                    crowd = asked();
                    crowd.app.bus().import(&saved);
                    let back = crowd.app.room("news", "a").expect("a key");
                    prop_assert_eq!(back.has_ended(), ended.is_some());
                }
                Step::Wait(millis) => crowd.wait(millis),
            }
            for (peer, since) in &clients {
                let (offsets, has_ended) = heard(peer);
                prop_assert_eq!(has_ended, ended.is_some());
                prop_assert_eq!(closed(peer), has_ended.then_some(1000));
                let recovered = told(peer)[0]["recovered"] == true;
                let first = offsets.first().copied();
                prop_assert!(!recovered || first.is_none_or(|first| first == since + 1));
                prop_assert!(offsets.windows(2).all(|two| two[1] == two[0] + 1));
                let last = top - u64::from(ended.is_some());
                prop_assert!(!recovered || *since >= last || offsets.last() == Some(&last));
            }
        }
    }
}
