//! The bounds of the API: bodies, batches, broadcasts, requests in flight, wrong keys.

use busline::Limits;
use busline::caller::Turned;
use busline::limits::{ApiLimits, Rate};
use serde_json::json;

use super::{Backend, KEY, post};
use crate::raw::Raw;

async fn bounded(api: ApiLimits) -> Backend {
    let limits = Limits {
        api,
        ..Limits::default()
    };
    Backend::with(limits).await
}

fn turned(backend: &Backend, reason: Turned) -> u64 {
    backend.server.app().caller_counts().turned_for(reason)
}

#[tokio::test]
async fn a_body_is_as_long_as_it_may_be_and_no_longer() {
    let bytes = 200;
    let backend = bounded(ApiLimits {
        body_bytes: bytes,
        ..ApiLimits::default()
    })
    .await;
    let body = |len: usize| {
        let start = r#"{"channel":"news:1","data":""#;
        let data = "x".repeat(len - start.len() - 2);
        format!("{start}{data}\"}}")
    };
    assert_eq!(body(bytes).len(), bytes);
    let answer = backend.answer("publish", KEY, &body(bytes)).await;
    assert_eq!(answer.status, 200, "{}", answer.body());
    let answer = backend.answer("publish", KEY, &body(bytes + 1)).await;
    assert_eq!(answer.status, 413);
    // A body without a length has the same bound.
    let chunk = body(bytes + 1);
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    let mut raw = Raw::connect_to(backend.operators.address()).await;
    raw.send(head.as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 413 "));
    assert_eq!(turned(&backend, Turned::BodyTooLong), 2);
}

#[tokio::test]
async fn what_is_no_json_of_the_method_is_400_and_does_nothing() {
    let backend = Backend::start().await;
    let bodies = ["", "{", "[]", "null", "7", "{\"channel\":1}", "{}{}"];
    for body in bodies {
        let answer = backend.answer("publish", KEY, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_ne!(answer.body(), "", "it says why");
    }
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let deep = format!("{{\"channel\":\"news:1\",\"data\":{open}{close}}}");
    assert_eq!(backend.answer("publish", KEY, &deep).await.status, 200);
    let count = bodies.len() as u64;
    assert_eq!(turned(&backend, Turned::BadBody), count);
}

#[tokio::test]
async fn a_batch_reads_a_few_times_and_an_epoch_of_versions_is_short() {
    let backend = Backend::start().await;
    let look = json!({ "history": { "channel": "news:1", "limit": -1 } });
    let publish = json!({ "publish": { "channel": "news:1", "data": 1 } });
    let mut commands = vec![look; 17];
    commands.push(publish);
    let answer = backend.call("batch", json!({ "commands": commands })).await;
    let replies = answer["replies"].as_array().expect("replies");
    assert!(replies[15].get("history").is_some(), "{answer}");
    assert_eq!(replies[16]["error"]["code"], 106);
    assert!(replies[17].get("publish").is_some());
    for (bytes, code) in [(256, None), (257, Some(107))] {
        let epoch = "e".repeat(bytes);
        let params = json!({
            "channel": "news:1", "data": 1, "version": 1, "version_epoch": epoch,
        });
        let answer = backend.call("publish", params).await;
        assert_eq!(answer["error"]["code"].as_u64(), code, "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_saves_its_histories_takes_no_call_more_nor_one_that_is_arriving() {
    let backend = Backend::start().await;
    let body = r#"{"channel":"news:1","data":1}"#;
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut slow = Raw::connect_to(backend.operators.address()).await;
    slow.send(head.as_bytes()).await;
    let app = backend.server.app();
    let arriving = |_: &_| app.caller_counts().in_flight == 1;
    backend.server.until("it is being read", arriving).await;
    app.stop_calls().await;
    let late = backend.answer("publish", KEY, body).await;
    assert_eq!(
        (late.status, late.body()),
        (503, "the server is going away\n")
    );
    slow.send(body.as_bytes()).await;
    assert!(slow.head().await.starts_with("HTTP/1.1 503 "));
    let room = app.room("news", "1").expect("a room");
    assert_eq!(room.position().map(|position| position.offset), Some(0));
}

#[tokio::test]
async fn a_body_that_is_cut_does_nothing() {
    let backend = Backend::start().await;
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Content-Length: 100\r\n\r\n{{\"channel\":\"news:1\",\"data\":1}}"
    );
    let mut raw = Raw::connect_to(backend.operators.address()).await;
    raw.send(head.as_bytes()).await;
    let in_flight = |backend: &Backend| backend.server.app().caller_counts().in_flight;
    let app = &backend.server;
    app.until("it is being read", |_| in_flight(&backend) == 1)
        .await;
    raw.kill();
    app.until("it is over", |_| in_flight(&backend) == 0).await;
    let history = json!({ "channel": "news:1" });
    assert_eq!(backend.done("history", history).await["offset"], 0);
}

#[tokio::test]
async fn a_batch_and_a_broadcast_have_a_length() {
    let backend = bounded(ApiLimits {
        batch: 2,
        broadcast: 3,
        ..ApiLimits::default()
    })
    .await;
    let publish = json!({ "publish": { "channel": "news:1", "data": 1 } });
    let two = json!({ "commands": [publish, publish] });
    let answer = backend.call("batch", two).await;
    assert_eq!(answer["replies"].as_array().map(Vec::len), Some(2));
    let three = json!({ "commands": [publish, publish, publish] });
    assert_eq!(backend.fault("batch", three).await, 106);
    let to = |channels: &[&str]| json!({ "channels": channels, "data": 1 });
    backend.done("broadcast", to(&["news:1"; 3])).await;
    assert_eq!(backend.fault("broadcast", to(&["news:1"; 4])).await, 106);
    let history = json!({ "channel": "news:1" });
    assert_eq!(backend.done("history", history).await["offset"], 5);
    assert_eq!(turned(&backend, Turned::BatchTooLong), 1);
    assert_eq!(turned(&backend, Turned::BroadcastTooLong), 1);
}

#[tokio::test]
async fn one_request_too_many_in_flight_is_503() {
    let backend = bounded(ApiLimits {
        in_flight: 1,
        ..ApiLimits::default()
    })
    .await;
    let head = format!(
        "POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Content-Length: 2\r\n\r\n"
    );
    let mut slow = Raw::connect_to(backend.operators.address()).await;
    slow.send(head.as_bytes()).await;
    let is_in = |backend: &Backend| backend.server.app().caller_counts().in_flight == 1;
    let server = &backend.server;
    server.until("it is being read", |_| is_in(&backend)).await;
    let answer = backend.answer("info", KEY, "{}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    slow.send(b"{}").await;
    assert!(slow.head().await.starts_with("HTTP/1.1 200 "));
    server.until("it is over", |_| !is_in(&backend)).await;
    assert_eq!(backend.answer("info", KEY, "{}").await.status, 200);
    assert_eq!(turned(&backend, Turned::Busy), 1);
}

#[tokio::test]
async fn wrong_keys_of_an_address_are_limited_and_the_right_one_is_not() {
    let backend = bounded(ApiLimits {
        wrong_keys: Rate::new(1, 20),
        ..ApiLimits::default()
    })
    .await;
    let mut statuses = [0; 2];
    for number in 0..100 {
        let key = format!("X-API-Key: wrong-{number}\r\n");
        let answer = post(backend.operators.address(), "/api/info", &key, "{}").await;
        match answer.status {
            401 => statuses[0] += 1,
            429 => {
                statuses[1] += 1;
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
            other => panic!("{other}: {}", answer.body()),
        }
    }
    // The rate refills while this runs, once a second.
    assert!(statuses[0] >= 20 && statuses[1] > 50, "{statuses:?}");
    assert_eq!(turned(&backend, Turned::WrongKeys), statuses[1]);
    assert_eq!(backend.answer("info", KEY, "{}").await.status, 200);
}
