//! Requests to a service: each has one answer, whatever becomes of the service.

use std::time::Duration;

use busline::bus::{Answered, Caller, RequestError};
use busline::limits::{Publish, RelayPolicy};
use busline::service::{Event, Request, Responder};
use busline::session::{Admission, Subprotocol};
use busline::{Context, Limits, Peer as Who, RequestOutcome, ServicePolicy};
use futures::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;

/// A room that does what a request says; it notes messages by publishing them.
async fn desk(mut ctx: Context) -> Result<(), String> {
    let mut held: Vec<(Responder, Value)> = Vec::new();
    while let Some(event) = ctx.event().await {
        match event {
            Event::Request(request) => serve(&ctx, request, &mut held)?,
            Event::Message(_, message) => drop(ctx.publish(message)),
            Event::Joined(_) | Event::Left(..) => {}
        }
    }
    // The requests that are held are answered at the end.
    for (responder, data) in held {
        drop(responder.answer(&data));
    }
    Ok(())
}

fn serve(
    ctx: &Context,
    request: Request,
    held: &mut Vec<(Responder, Value)>,
) -> Result<(), String> {
    let data = request.payload.json().expect("the data are JSON");
    let responder = request.responder;
    match &*request.method {
        "crash" => return Err("as it was told".to_owned()),
        "drop" => drop(responder),
        "hold" => held.push((responder, data)),
        "free" => {
            // The last one first: answers need not come in the order of the requests.
            for (responder, data) in held.drain(..).rev() {
                drop(responder.answer(&data));
            }
            drop(responder.answer(&data));
        }
        "both" => {
            if let Caller::Client(client) = &request.caller {
                ctx.publish("to all");
                ctx.send_to(client, "to one");
                drop(responder.answer(&data));
                ctx.publish("later");
            }
        }
        "raw" => drop(responder.answer(request.payload.as_text().unwrap_or("?"))),
        "echo" => drop(responder.answer(&data)),
        _ => drop(responder.refuse(404, "there is no such method")),
    }
    Ok(())
}

fn crowd() -> Crowd {
    crowd_of(Limits::default(), ServicePolicy::of_rooms())
}

fn crowd_of(limits: Limits, policy: ServicePolicy) -> Crowd {
    Crowd::new(|app| {
        let app = app.limits(limits);
        app.room_with("desk", desk, policy).expect("a valid name")
    })
}

fn enter(crowd: &Crowd, space: usize) -> Peer {
    let room = crowd.app.registry().room("desk", Some("1")).expect("a key");
    let admission = Admission::request_room(&crowd.app, &room, Who::default());
    let admission = admission.expect("admitted").speaking(Subprotocol::Json);
    let peer = crowd.serve(admission, space);
    crowd.rt.settle();
    peer
}

fn ask(crowd: &Crowd, peer: &Peer, id: u64, method: &str, data: &Value) {
    let request = json!({ "id": id, "request": { "method": method, "data": data } });
    crowd.say(peer, &request.to_string());
}

fn told(peer: &Peer) -> Vec<Value> {
    let json = |text: String| serde_json::from_str(&text).expect("JSON");
    texts(peer).into_iter().map(json).collect()
}

fn answer(id: u64, data: &Value) -> Value {
    json!({ "id": id, "answer": { "data": data } })
}

/// The code of an error of a reply.
fn code(reply: &Value) -> Option<u64> {
    reply["error"]["code"].as_u64()
}

#[test]
fn a_request_is_answered_with_its_number() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    let bob = enter(&crowd, 1 << 20);
    ask(&crowd, &ann, 7, "echo", &json!({"x": [1, null]}));
    ask(&crowd, &ann, 8, "desk:1.echo", &json!("y"));
    crowd.say(&ann, r#"{"request":{"method":"echo"},"id":9}"#);
    crowd.say(
        &ann,
        r#"{"id":10,"request":{"method":"raw","data": {"b":1.0, "a":1e2}}}"#,
    );
    let expected = [
        answer(7, &json!({"x": [1, null]})),
        answer(8, &json!("y")),
        answer(9, &json!(null)),
        // The service has the data as they were written.
        answer(10, &json!(r#"{"b":1.0, "a":1e2}"#)),
    ];
    assert_eq!(told(&ann), expected);
    assert_eq!(texts(&bob), [""; 0], "an answer is for its caller");
}

#[test]
fn a_request_without_an_answer_is_told_why() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    let long = "m".repeat(65);
    for (method, expected) in [
        ("nonsense", 404),
        ("drop", 100),
        ("desk:2.echo", 108),
        ("desk.echo", 108),
        ("other.echo", 108),
        (".echo", 108),
        ("", 107),
        ("desk:1.", 107),
        (&long, 107),
    ] {
        ask(&crowd, &ann, 1, method, &json!(1));
        let told = told(&ann).pop().expect("a reply");
        assert_eq!(code(&told), Some(expected), "{method}: {told}");
    }
    for request in [
        r#"{"id":1,"request":"echo"}"#,
        r#"{"id":1,"request":{}}"#,
        r#"{"id":1,"request":{"method":1}}"#,
        r#"{"id":1,"request":{"method":"echo","more":1}}"#,
        r#"{"id":1,"request":{"method":"echo"},"text":"a"}"#,
    ] {
        crowd.say(&ann, request);
        let told = told(&ann).pop().expect("a reply");
        assert_eq!(code(&told), Some(107), "{request}: {told}");
    }
    assert_eq!(closed(&ann), None);
    crowd.say(&ann, r#"{"request":{"method":"echo"}}"#);
    assert_eq!(closed(&ann), Some(1007), "no reply could tell of it");
}

#[test]
fn an_answer_comes_after_what_was_said_before_it() {
    let crowd = crowd();
    let ann = enter(&crowd, 0);
    crowd.say(&ann, r#"{"text":"first"}"#);
    ask(&crowd, &ann, 1, "both", &json!(1));
    // The socket takes a few bytes at a time.
    for _ in 0..400 {
        ann.make_room(1);
        crowd.rt.settle();
    }
    let expected = [
        json!({ "text": "first" }),
        json!({ "text": "to all" }),
        json!({ "text": "to one" }),
        answer(1, &json!(1)),
    ];
    let mut told = told(&ann);
    let later = told
        .iter()
        .position(|told| *told == json!({ "text": "later" }));
    assert!(told.remove(later.expect("it came")) == json!({ "text": "later" }));
    assert_eq!(told, expected);
    assert!(later.is_some_and(|at| at >= 3), "it was said after both");
}

#[test]
fn answers_come_as_they_are_given() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    for id in 1..=3 {
        ask(&crowd, &ann, id, "hold", &json!(id));
    }
    ask(&crowd, &ann, 4, "echo", &json!(4));
    assert_eq!(told(&ann), [answer(4, &json!(4))]);
    ask(&crowd, &ann, 5, "free", &json!(5));
    let ids: Vec<_> = told(&ann).iter().map(|told| told["id"].clone()).collect();
    let mut sorted = ids.clone();
    sorted.sort_by_key(Value::as_u64);
    assert_eq!(sorted, [1, 2, 3, 4, 5]);
    for told in &told(&ann) {
        assert_eq!(told["id"], told["answer"]["data"]);
    }
}

#[test]
fn a_crash_answers_the_requests_of_its_instance() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    ask(&crowd, &ann, 1, "hold", &json!(1));
    // The request after the one that crashes the service is lost unread.
    let two = [(2, "crash"), (3, "echo")]
        .map(|(id, method)| json!({ "id": id, "request": { "method": method } }).to_string());
    for request in &two {
        ann.send(true, 1, request.as_bytes());
    }
    crowd.rt.settle();
    let codes: Vec<_> = told(&ann).iter().map(code).collect();
    assert_eq!(codes[..2], [Some(100); 2]);
    // What the session still holds is for the next instance.
    crowd.wait(1_000);
    crowd.rt.settle();
    let counts = crowd.app.counts().sessions;
    let answered = counts.requests(RequestOutcome::Answered);
    assert_eq!(counts.requests(RequestOutcome::Dropped) + answered, 3);
    assert_eq!(
        told(&ann).iter().filter(|told| told["id"].is_u64()).count(),
        3
    );
}

#[test]
fn a_service_without_events_refuses_requests() {
    async fn deaf(mut ctx: Context) {
        while let Some(message) = ctx.recv().await {
            ctx.publish(message);
        }
    }
    async fn deaf_to_batches(mut ctx: Context) {
        while let Some(batch) = ctx.recv_batch().await {
            ctx.publish(batch);
        }
    }
    for crowd in [
        Crowd::new(|app| app.room("desk", deaf).expect("a valid name")),
        Crowd::new(|app| app.room("desk", deaf_to_batches).expect("a valid name")),
        Crowd::new(|app| {
            app.relay("desk", RelayPolicy::default())
                .expect("a valid name")
        }),
    ] {
        let ann = enter(&crowd, 1 << 20);
        ask(&crowd, &ann, 1, "echo", &json!(1));
        assert_eq!(told(&ann).iter().map(code).collect::<Vec<_>>(), [Some(108)]);
        let counts = crowd.app.counts().sessions;
        assert_eq!(counts.requests(RequestOutcome::Missing), 1);
    }
}

#[test]
fn a_client_that_may_send_nothing_may_ask_nothing() {
    let policy = ServicePolicy {
        publish: Publish::Nobody,
        ..ServicePolicy::of_rooms()
    };
    let crowd = crowd_of(Limits::default(), policy);
    let ann = enter(&crowd, 1 << 20);
    ask(&crowd, &ann, 1, "echo", &json!(1));
    assert_eq!(told(&ann).iter().map(code).collect::<Vec<_>>(), [Some(103)]);
    assert_eq!(crowd.app.counts().sessions.lost_not_taken, 1);
}

#[test]
fn a_request_waits_as_long_as_it_may_and_no_longer() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    ask(&crowd, &ann, 1, "hold", &json!(1));
    crowd.wait(9_999);
    crowd.rt.settle();
    assert_eq!(told(&ann), [json!(null); 0]);
    crowd.wait(1);
    crowd.rt.settle();
    assert_eq!(told(&ann).iter().map(code).collect::<Vec<_>>(), [Some(100)]);
    // The answer that comes later is for no reader.
    ask(&crowd, &ann, 2, "free", &json!(2));
    assert_eq!(told(&ann)[1..], [answer(2, &json!(2))]);
    assert_eq!(
        crowd.app.counts().sessions.requests(RequestOutcome::Late),
        1
    );
}

#[test]
fn a_client_has_so_many_requests_that_wait() {
    let limits = Limits {
        requests_per_client: 2.try_into().expect("not 0"),
        ..Limits::default()
    };
    let crowd = crowd_of(limits, ServicePolicy::of_rooms());
    let ann = enter(&crowd, 1 << 20);
    let bob = enter(&crowd, 1 << 20);
    for id in 1..=3 {
        ask(&crowd, &ann, id, "hold", &json!(id));
    }
    let refused = told(&ann);
    assert_eq!(refused.iter().map(code).collect::<Vec<_>>(), [Some(111)]);
    assert_eq!(refused[0]["id"], 3);
    // Others ask, and the client may again once it has its answers.
    ask(&crowd, &bob, 1, "free", &json!(1));
    ask(&crowd, &ann, 4, "echo", &json!(4));
    assert_eq!(told(&ann).len(), 4);
    assert_eq!(told(&ann).last(), Some(&answer(4, &json!(4))));
    let counts = crowd.app.counts().sessions;
    assert_eq!(counts.requests(RequestOutcome::TooMany), 1);
}

#[test]
fn a_drain_waits_for_the_answers_of_requests_that_have_come() {
    let crowd = crowd();
    let ann = enter(&crowd, 1 << 20);
    ann.send(true, 1, br#"{"id":1,"request":{"method":"echo","data":1}}"#);
    crowd.app.drain();
    crowd.rt.settle();
    for _ in 0..10 {
        crowd.wait(1_000);
        crowd.rt.settle();
    }
    assert_eq!(told(&ann), [answer(1, &json!(1))]);
    assert_eq!(closed(&ann), Some(1001));
}

/// Asks from outside, and lets so many milliseconds pass.
fn from_outside(crowd: &Crowd, method: &str, millis: u64) -> Option<Answered> {
    let room = crowd.app.room("desk", "1").expect("a key");
    let mut asked = Box::pin(async move {
        let method = method.to_owned();
        room.request(&method, "[1]").await
    });
    let answered = asked.as_mut().now_or_never();
    if answered.is_some() {
        return answered;
    }
    crowd.rt.settle();
    crowd.wait(millis);
    crowd.rt.settle();
    asked.now_or_never()
}

#[test]
fn the_program_asks_a_room_that_runs() {
    let crowd = crowd();
    let error = |method: &str| from_outside(&crowd, method, 0).and_then(Result::err);
    assert_eq!(error("echo"), Some(RequestError::NotRunning));
    let ann = enter(&crowd, 1 << 20);
    assert_eq!(from_outside(&crowd, "echo", 0), Some(Ok("[1]".into())));
    assert_eq!(error("drop"), Some(RequestError::Dropped));
    let refused = error("nonsense").expect("refused");
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        (404, "there is no such method")
    );
    assert_eq!(from_outside(&crowd, "hold", 9_999), None);
    assert_eq!(
        from_outside(&crowd, "hold", 10_000),
        Some(Err(RequestError::Late))
    );
    // Its instance is started again after a wait.
    assert_eq!(error("crash"), Some(RequestError::Dropped));
    assert_eq!(error("echo"), Some(RequestError::Starting));
    drop(ann);
}

#[test]
fn the_program_is_told_what_is_no_request() {
    let crowd = crowd();
    let _ann = enter(&crowd, 1 << 20);
    let room = crowd.app.room("desk", "1").expect("a key");
    let long = "m".repeat(65);
    for (method, data) in [
        ("", "1"),
        ("a.b", "1"),
        (&*long, "1"),
        ("echo", ""),
        ("echo", "x"),
    ] {
        let answered = room.request(method, data).now_or_never();
        assert_eq!(answered, Some(Err(RequestError::Bad)), "{method} {data}");
    }
}

#[test]
fn the_program_is_told_of_a_full_inbox_and_of_a_relay() {
    async fn asleep(mut ctx: Context) {
        let _stopped = ctx.sleep(Duration::from_secs(3_600)).await;
    }
    let crowd = Crowd::new(|app| app.room("desk", asleep).expect("a valid name"));
    let _ann = enter(&crowd, 1 << 20);
    let most = crowd.app.limits().window.messages.get();
    let room = crowd.app.room("desk", "1").expect("a key");
    let mut waiting: Vec<_> = (0..most)
        .map(|_| Box::pin(room.request("echo", "1")))
        .collect();
    for asked in &mut waiting {
        assert_eq!(asked.as_mut().now_or_never(), None);
    }
    let full = room.request("echo", "1").now_or_never();
    assert_eq!(full, Some(Err(RequestError::Full)));
    let relay = Crowd::new(|app| {
        app.relay("desk", RelayPolicy::default())
            .expect("a valid name")
    });
    let _bob = enter(&relay, 1 << 20);
    let error = from_outside(&relay, "echo", 0);
    assert_eq!(error, Some(Err(RequestError::NotServed)));
}

/// A step of a plan; the first number is a client's.
#[derive(Clone, Debug)]
enum Step {
    Ask(usize, &'static str),
    Say(usize),
    /// The client's socket takes so many bytes.
    Take(usize, usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop::sample::select(vec![
        "crash", "drop", "echo", "echo", "free", "hold", "hold", "both", "nonsense",
    ]);
    prop_oneof![
        8 => (0..3_usize, method).prop_map(|(client, method)| Step::Ask(client, method)),
        2 => (0..3_usize).prop_map(Step::Say),
        4 => (0..3_usize, 1..200_usize).prop_map(|(client, bytes)| Step::Take(client, bytes)),
        2 => (1..4_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn each_request_has_one_reply(
        steps in prop::collection::vec(step(), 0..80),
        seed in any::<u64>(),
    ) {
        let crowd = crowd();
        let peers = [(); 3].map(|()| enter(&crowd, 0));
        let mut asked = [0_u64; 3];
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Ask(client, method) => {
                    asked[*client] += 1;
                    let id = asked[*client];
                    let data = json!([client, id]);
                    let request =
                        json!({ "id": id, "request": { "method": method, "data": data } });
                    peers[*client].send(true, 1, request.to_string().as_bytes());
                }
                Step::Say(client) => peers[*client].send(true, 1, br#"{"text":"a"}"#),
                Step::Take(client, bytes) => peers[*client].make_room(*bytes),
                Step::Wait(millis) => crowd.wait(*millis),
            }
            if seed >> (number % 64) & 1 == 0 {
                crowd.rt.settle_by(seed ^ number as u64);
            }
        }
        // Long enough for each wait of a restart and for the deadline of the last request.
        for _ in 0..200 {
            peers.iter().for_each(|peer| peer.make_room(1 << 16));
            crowd.rt.settle();
            crowd.wait(1_000);
        }
        for (client, peer) in peers.iter().enumerate() {
            let told = told(peer);
            let replies = told.iter().filter(|told| told["id"].is_u64());
            let mut ids = Vec::new();
            for reply in replies {
                let id = reply["id"].as_u64().expect("a number");
                ids.push(id);
                let is_own = reply["answer"]["data"] == json!([client, id]);
                let is_error = matches!(code(reply), Some(100 | 111 | 404));
                prop_assert!(is_own || is_error, "{}", reply);
            }
            ids.sort_unstable();
            // A service that crashes too often closes its clients, some before all is told.
            let all: Vec<_> = (1..=asked[client]).collect();
            prop_assert!(ids == all || crowd.app.sessions_open() == 0, "{:?} {:?}", ids, all);
        }
    }
}
