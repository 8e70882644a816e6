//! The events of a room: joins, messages and leaves in one order, on sockets driven by hand.
#![expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use busline::limits::ServicePolicy;
use busline::service::{Event, NextEvent};
use busline::session::Admission;
use busline::{Client, Context, Limits, Peer as Who};

use crate::model::crowd::{Crowd, texts};
use crate::model::peer::Peer;

/// The events that all runs of a room have seen, in words.
#[derive(Clone, Default)]
#[expect(
    clippy::disallowed_types,
    reason = "a test's own lock, which loom need not see"
)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().expect("no panic").push(what);
    }

    /// The events since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

fn ids(clients: &[Client]) -> String {
    let ids = clients.iter().map(|client| client.id().to_string());
    ids.collect::<Vec<_>>().join(",")
}

fn words(event: &Event) -> String {
    match event {
        Event::Joined(client) => format!("+{client}"),
        Event::Left(client, reason) => format!("-{client} {}", reason.name()),
        Event::Message(client, message) => {
            format!("{client}: {}", message.as_text().unwrap_or("?"))
        }
        Event::Request(request) => format!("{} is asked", request.method),
    }
}

/// A room that notes its events. `crash` ends the run by an error, `rest` lets it sleep for a
/// second, `recv` receives one message without its events.
fn crowd(policy: ServicePolicy) -> (Crowd, Seen) {
    let seen = Seen::default();
    let notes = seen.clone();
    let service = move |mut ctx: Context| {
        let seen = notes.clone();
        async move {
            seen.note(format!("start {}", ids(&ctx.clients())));
            while let Some(event) = ctx.event().await {
                seen.note(words(&event));
                let Event::Message(_, message) = event else {
                    continue;
                };
                match message.as_text() {
                    Some("crash") => return Err("asked to"),
                    Some("rest") => drop(ctx.sleep(Duration::from_secs(1)).await),
                    Some("recv") => {
                        let next = ctx.recv().await;
                        let text = next.as_ref().and_then(|next| next.as_text());
                        seen.note(format!("only {}", text.unwrap_or_default()));
                    }
                    Some("who") => seen.note(format!("there {}", ids(&ctx.clients()))),
                    Some(_) | None => {}
                }
            }
            seen.note("end".to_owned());
            Ok(())
        }
    };
    let limits = Limits::default();
    let crowd = Crowd::new(|app| {
        let app = app.limits(limits).room_with("chat", service, policy);
        app.expect("a valid name")
    });
    (crowd, seen)
}

/// One more client, whose session has not run yet.
fn admit(crowd: &Crowd, who: Who) -> Peer {
    let room = crowd.app.registry().room("chat", Some("1"));
    let admission = Admission::request_room(&crowd.app, &room.expect("a key"), who);
    crowd.serve(admission.expect("admitted"), 1 << 20)
}

fn enter(crowd: &Crowd) -> Peer {
    let peer = admit(crowd, Who::default());
    crowd.rt.settle();
    peer
}

#[test]
fn a_room_is_told_who_comes_what_they_say_and_how_they_leave() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let ann = enter(&crowd);
    assert_eq!(seen.take(), ["start 1"], "the first client is there");
    let bob = enter(&crowd);
    crowd.say(&bob, "hello");
    crowd.say(&ann, "who");
    assert_eq!(seen.take(), ["+2", "2: hello", "1: who", "there 1,2"]);
    // A close frame with code 1000.
    bob.send(true, 8, &1000_u16.to_be_bytes());
    crowd.rt.settle();
    assert_eq!(seen.take(), ["-2 peer_closed"]);
    ann.reset();
    crowd.rt.settle();
    assert_eq!(seen.take(), ["-1 lost"]);
    crowd.rt.advance(Duration::from_secs(30));
    assert_eq!(seen.take(), ["end"]);
}

#[test]
fn a_client_leaves_after_its_last_message_however_it_dies() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let ann = enter(&crowd);
    let bob = enter(&crowd);
    seen.take();
    crowd.say(&ann, "rest");
    for text in ["a", "b", "c"] {
        crowd.say(&bob, text);
    }
    bob.reset();
    crowd.rt.settle();
    crowd.say(&ann, "d");
    assert_eq!(seen.take(), ["1: rest"]);
    crowd.rt.advance(Duration::from_secs(1));
    assert_eq!(seen.take(), ["2: a", "2: b", "2: c", "-2 lost", "1: d"]);
}

#[test]
fn a_client_that_came_and_went_unseen_is_shown_only_with_its_message() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let ann = enter(&crowd);
    seen.take();
    crowd.say(&ann, "rest");
    let silent = enter(&crowd);
    silent.reset();
    let bob = enter(&crowd);
    crowd.say(&bob, "hello");
    bob.reset();
    crowd.rt.settle();
    let stays = enter(&crowd);
    assert_eq!(seen.take(), ["1: rest"]);
    crowd.rt.advance(Duration::from_secs(1));
    assert_eq!(seen.take(), ["+3", "3: hello", "-3 lost", "+4"]);
    stays.reset();
    crowd.rt.settle();
    assert_eq!(seen.take(), ["-4 lost"]);
}

#[test]
fn a_run_after_a_crash_starts_with_the_clients_that_are_there() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let ann = enter(&crowd);
    let bob = enter(&crowd);
    crowd.say(&ann, "crash");
    assert_eq!(seen.take(), ["start 1", "+2", "1: crash"]);
    // One leaves and one comes while no instance runs.
    bob.reset();
    let _cat = enter(&crowd);
    crowd.rt.advance(Duration::from_secs(1));
    assert_eq!(seen.take(), ["start 1,3"]);
    ann.reset();
    crowd.rt.settle();
    assert_eq!(seen.take(), ["-1 lost"], "it had no second join");
}

#[test]
fn a_session_that_is_dropped_leaves_the_room() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let _ann = enter(&crowd);
    let room = crowd.app.registry().room("chat", Some("1")).expect("a key");
    let admission = Admission::request_room(&crowd.app, &room, Who::default());
    crowd.rt.settle();
    drop(admission.expect("admitted"));
    crowd.rt.settle();
    assert_eq!(seen.take(), ["start 1", "+2", "-2 dropped"]);
}

#[test]
fn messages_alone_leave_the_events_before_them_out() {
    let (crowd, seen) = crowd(ServicePolicy::of_rooms());
    let ann = enter(&crowd);
    seen.take();
    crowd.say(&ann, "recv");
    let bob = enter(&crowd);
    crowd.say(&bob, "hello");
    crowd.say(&bob, "who");
    assert_eq!(
        seen.take(),
        ["1: recv", "only hello", "2: who", "there 1,2"]
    );
}

#[test]
fn a_service_that_does_not_know_its_clients_has_messages_alone() {
    let policy = ServicePolicy {
        members: false,
        ..ServicePolicy::of_rooms()
    };
    let (crowd, seen) = crowd(policy);
    let ann = enter(&crowd);
    let _bob = enter(&crowd);
    crowd.say(&ann, "who");
    ann.reset();
    crowd.rt.settle();
    assert_eq!(seen.take(), ["start ", "1: who", "there "]);
}

#[test]
fn a_room_knows_where_a_client_is_from_and_what_it_asked_for() {
    let seen = Seen::default();
    let notes = seen.clone();
    let service = move |mut ctx: Context| {
        let seen = notes.clone();
        async move {
            while let Some(event) = ctx.event().await {
                if let Event::Joined(client) = event {
                    let (address, query) = (client.address(), client.query());
                    seen.note(format!("{address:?} {query:?} {:?}", client.since()));
                }
            }
        }
    };
    let crowd = Crowd::new(|app| app.room("chat", service).expect("a valid name"));
    let _first = enter(&crowd);
    let address = Some("192.0.2.7".parse().expect("an address"));
    let query = Some("nick=ann".into());
    let who = Who {
        address,
        query,
        ..Who::default()
    };
    let _second = admit(&crowd, who);
    crowd.rt.settle();
    let since = Some(busline::rt::Clock::wall(&crowd.rt));
    let expected = format!("Some(192.0.2.7) Some(\"nick=ann\") {since:?}");
    assert_eq!(seen.take(), [expected]);
}

/// Sends a tick to all each second, for as long as there is a client.
async fn game(mut ctx: Context) {
    let mut at = ctx.now();
    let mut ticks = 0;
    loop {
        match ctx.event_until(at).await {
            NextEvent::Elapsed => {
                ctx.publish(format!("tick {ticks}"));
                ticks += 1;
                at = at + Duration::from_secs(1);
            }
            NextEvent::Event(event) => drop(ctx.publish(words(&event))),
            NextEvent::Stopped => return,
        }
    }
}

#[test]
fn a_loop_with_a_tick_sees_ticks_and_events() {
    let mut policy = ServicePolicy::of_rooms();
    policy.lifecycle.linger = Duration::ZERO;
    let crowd = Crowd::new(|app| app.room_with("chat", game, policy).expect("a valid name"));
    let ann = enter(&crowd);
    crowd.wait(500);
    let bob = enter(&crowd);
    crowd.wait(600);
    bob.reset();
    crowd.rt.settle();
    assert_eq!(texts(&ann), ["tick 0", "+2", "tick 1", "-2 lost"]);
    ann.reset();
    crowd.rt.settle();
    assert_eq!(crowd.app.registry().rooms_open(), 0, "it has ended");
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Move {
    x: i32,
}

/// Doubles what clients send as JSON, and refuses what is none.
async fn doubles(mut ctx: Context) -> Result<(), serde_json::Error> {
    while let Some(received) = ctx.recv_json::<Move>().await {
        match received {
            Ok((client, Move { x })) => drop(ctx.send_json(&client, &Move { x: 2 * x })?),
            Err(bad) => drop(ctx.refuse_json(&bad)),
        }
    }
    Ok(())
}

#[test]
fn json_is_read_as_a_value_and_what_is_none_is_refused_by_name() {
    let crowd = Crowd::new(|app| app.room("chat", doubles).expect("a valid name"));
    let ann = enter(&crowd);
    crowd.say(&ann, r#"{"x":21}"#);
    crowd.say(&ann, r#"{"x":"a"}"#);
    crowd.say(&ann, "x");
    ann.send(true, 2, br#"{"x":4}"#);
    crowd.rt.settle();
    let texts = texts(&ann);
    assert_eq!(texts[0], r#"{"x":42}"#);
    assert!(texts[1].starts_with(r#"{"error":{"code":"json","reason":"invalid type"#));
    assert!(
        texts[2].contains("expected value at line 1 column 1"),
        "{texts:?}"
    );
    assert_eq!(texts[3], r#"{"x":8}"#, "bytes may be JSON, too");
}
