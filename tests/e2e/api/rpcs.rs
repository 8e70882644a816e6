//! Requests of a backend to services.

use std::time::Duration;

use busline::service::{Caller, Event};
use busline::{Context, Limits};
use serde_json::{Value, json};

use super::{Backend, FEW, KEY};
use crate::raw::{Raw, TEXT, frame};

/// A service that says who asks, and with what; `later` is never answered.
pub(super) async fn desk(mut ctx: Context) {
    let mut later = Vec::new();
    while let Some(event) = ctx.event().await {
        let Event::Request(request) = event else {
            continue;
        };
        let (method, data) = (&*request.method, request.payload.as_text().unwrap_or("?"));
        match method {
            "later" => later.push(request.responder),
            "crash" => return,
            "refuse" => drop(request.responder.refuse(1999, "not today")),
            _ => {
                let by = match &request.caller {
                    Caller::Backend(name) => format!("backend {name}"),
                    Caller::Client(client) => format!("client {:?}", client.subject()),
                    Caller::Program => "program".to_owned(),
                };
                ctx.publish(format!("{by} {method}"));
                let answer = json!({ "by": by, "method": method, "data": data, "key": ctx.key() });
                drop(request.responder.answer(&answer));
            }
        }
    }
}

/// Waits for a frame that is so.
async fn told(client: &mut Raw, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let told = client.told().await;
        if is_it(&told) {
            return told;
        }
    }
}

fn rpc(method: &str) -> Value {
    json!({ "method": method, "params": { "x": 1 } })
}

#[tokio::test]
async fn a_service_answers_a_backend_and_its_clients() {
    let backend = Backend::start().await;
    let mut ann = backend.join("desk/a.b", "ann").await;
    let answer = backend.done("rpc", rpc("desk:a.b.sell")).await;
    let data = json!({
        "by": "backend all", "method": "sell", "data": "{\"x\":1}", "key": "a.b"
    });
    assert_eq!(answer, json!({ "data": data }));
    told(&mut ann, |told| told["text"] == "backend all sell").await;
    // A client of the room asks in the same way.
    let request = br#"{"id":3,"request":{"method":"sell","data":[ 1 ]}}"#;
    ann.send(&frame(TEXT, request)).await;
    let reply = told(&mut ann, |told| told["id"] == 3).await;
    assert_eq!(reply["answer"]["data"]["data"], "[ 1 ]");
    assert_eq!(reply["answer"]["data"]["by"], "client Some(\"ann\")");
    // A service has no key, and the parameters may be missing.
    let _till = Raw::join(&backend.server, "till").await;
    for body in [
        r#"{"method":"rpc","params":{"method":"till.sell"}}"#,
        r#"{"method":"rpc","params":{"method":"till:.sell"}}"#,
    ] {
        let answer = backend.answer("", KEY, body).await;
        assert!(
            answer.body().contains(r#""data":"null","key":"""#),
            "{}",
            answer.body()
        );
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_says_why() {
    let backend = Backend::with(Limits {
        request_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let long = format!("desk:1.{}", "m".repeat(65));
    for (method, code) in [
        ("desk:1.sell", 108),
        ("till.sell", 108),
        ("news:1.sell", 108),
        ("ping.sell", 108),
        ("unknown.sell", 104),
        ("unknown:1.sell", 104),
        ("main:1.sell", 104),
        ("desk.sell", 104),
        ("desk:.sell", 108),
        ("sell", 104),
        (".sell", 104),
        ("desk:1.", 104),
        ("", 104),
        (&long, 104),
    ] {
        assert_eq!(backend.fault("rpc", rpc(method)).await, code, "{method}");
    }
    let _ann = backend.join("desk/1", "ann").await;
    let _ping = Raw::join(&backend.server, "ping").await;
    for (method, code) in [
        ("ping.sell", 108),
        ("desk:1.refuse", 1999),
        ("desk:1.later", 100),
        ("desk:1.crash", 100),
    ] {
        assert_eq!(backend.fault("rpc", rpc(method)).await, code, "{method}");
    }
    // A key reaches its kinds alone, and its methods.
    let answer = backend
        .answer("rpc", FEW, &rpc("desk:1.sell").to_string())
        .await;
    assert!(answer.body().contains("103"), "{}", answer.body());
}

#[tokio::test]
async fn a_batch_waits_for_each_answer() {
    let backend = Backend::start().await;
    let _ann = backend.join("desk/1", "ann").await;
    let publish = json!({ "publish": { "channel": "news:1", "data": 1 } });
    let commands = json!({ "commands": [{ "rpc": rpc("desk:1.sell") }, publish] });
    let answer = backend.answer("batch", KEY, &commands.to_string()).await;
    let answer: Value = serde_json::from_str(answer.body()).expect("JSON");
    assert_eq!(answer["replies"][0]["rpc"]["data"]["method"], "sell");
    assert_eq!(answer["replies"][1]["publish"]["offset"], 1);
    // As many as a batch may wait for.
    let many = vec![json!({ "rpc": rpc("desk:1.sell") }); 17];
    let answer = backend
        .answer("batch", KEY, &json!({ "commands": many }).to_string())
        .await;
    let answer: Value = serde_json::from_str(answer.body()).expect("JSON");
    assert_eq!(answer["replies"][15]["rpc"]["data"]["method"], "sell");
    assert_eq!(answer["replies"][16]["error"]["code"], 106);
}

#[tokio::test]
async fn a_batch_that_waited_publishes_nothing_once_the_server_has_stopped() {
    let backend = Backend::with(Limits {
        request_timeout: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let _ann = backend.join("desk/1", "ann").await;
    let app = backend.server.app();
    let publish = json!({ "publish": { "channel": "news:1", "data": 1 } });
    let commands = json!({ "commands": [{ "rpc": rpc("desk:1.later") }, publish] });
    let commands = commands.to_string();
    let stop = async {
        let waits = |_: &_| app.caller_counts().rpcs == 1;
        backend.server.until("the call waits", waits).await;
        app.stop_calls().await;
    };
    let batch = backend.answer("batch", KEY, &commands);
    let (answer, ()) = futures::future::join(batch, stop).await;
    let answer: Value = serde_json::from_str(answer.body()).expect("JSON");
    assert_eq!(answer["replies"][1]["error"]["code"], 100, "{answer}");
    let room = app.room("news", "1").expect("a room");
    assert_eq!(room.position().map(|position| position.offset), Some(0));
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_handshake() {
    let backend = Backend::with(Limits {
        handshake_timeout: Duration::from_millis(100),
        request_timeout: Duration::from_millis(600),
        ..Limits::default()
    })
    .await;
    let _ann = backend.join("desk/1", "ann").await;
    let answer = backend.call("rpc", rpc("desk:1.later")).await;
    assert_eq!(answer["error"]["code"], 100);
    let message = answer["error"]["message"].as_str();
    assert!(
        message.is_some_and(|message| message.contains("in time")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_service_that_hangs_keeps_no_other_call_from_being_served() {
    let mut limits = Limits::default();
    (limits.api.in_flight, limits.api.rpcs) = (3, 2);
    let backend = Backend::with(limits).await;
    let _ann = backend.join("desk/1", "ann").await;
    let later = rpc("desk:1.later").to_string();
    let hang = || backend.answer("rpc", KEY, &later);
    let waits = |_: &_| backend.server.app().caller_counts().rpcs == 2;
    let others = async {
        backend.server.until("two calls wait", waits).await;
        assert_eq!(backend.fault("rpc", rpc("desk:1.sell")).await, 111);
        let publish = json!({ "channel": "news:1", "data": 1 });
        backend.done("publish", publish).await;
    };
    let hanging = futures::future::join(hang(), hang());
    // The calls that hang are dropped with the test.
    futures::future::select(Box::pin(others), Box::pin(hanging)).await;
    assert_eq!(backend.server.app().caller_counts().rpcs, 2);
}
