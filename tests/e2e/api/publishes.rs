//! Publishing over the API: what clients get, and what comes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::Backend;
use crate::http::ask;
use crate::raw::{BINARY, Raw, TEXT, wish};

#[tokio::test]
async fn a_message_reaches_the_clients_of_its_room_as_it_was_written() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "news/1").await;
    let mut other = Raw::join(&backend.server, "news/2").await;
    let body = r#"{"channel":"news:1","data":{"b": 1,"a":[1e400,"\u00e9"]},"unknown":7}"#;
    let answer = backend.answer("publish", super::KEY, body).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer
            .body()
            .starts_with(r#"{"result":{"offset":1,"epoch":""#)
    );
    let data = br#"{"b": 1,"a":[1e400,"\u00e9"]}"#;
    assert_eq!(client.frame().await, (TEXT, data.to_vec()));
    backend
        .done("publish", json!({ "channel": "news:2", "data": "x" }))
        .await;
    assert_eq!(other.frame().await, (TEXT, b"\"x\"".to_vec()));
}

#[tokio::test]
async fn each_kind_gets_what_it_takes_and_refuses_the_rest() {
    let backend = Backend::start().await;
    let mut text = Raw::join(&backend.server, "text/1").await;
    let mut bytes = Raw::join(&backend.server, "bytes/1").await;
    let b64 = BASE64.encode(b"\xff\x00");
    for (channel, data, code) in [
        ("text:1", json!({ "data": "say \"hi\"" }), None),
        ("text:1", json!({ "data": 7 }), Some(107)),
        ("text:1", json!({ "b64data": b64 }), Some(107)),
        ("bytes:1", json!({ "data": "x" }), Some(107)),
        ("bytes:1", json!({ "b64data": b64 }), None),
        ("bytes:1", json!({ "b64data": "!!" }), Some(107)),
        ("bytes:1", json!({}), Some(107)),
    ] {
        let mut params = data;
        params["channel"] = channel.into();
        let answer = backend.call("publish", params).await;
        assert_eq!(answer["error"]["code"].as_u64(), code, "{answer}");
    }
    assert_eq!(text.frame().await, (TEXT, b"say \"hi\"".to_vec()));
    assert_eq!(bytes.frame().await, (BINARY, b"\xff\x00".to_vec()));
}

#[tokio::test]
async fn a_stream_is_ended_once_and_takes_nothing_more() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "news/1").await;
    let publish = json!({ "channel": "news:1", "data": "x" });
    backend.done("publish", publish.clone()).await;
    let end = json!({ "channel": "news:1", "data": { "words": 7 } });
    let ended = backend.done("end", end.clone()).await;
    assert_eq!(ended["offset"], 2);
    assert_eq!(client.frame().await, (TEXT, b"\"x\"".to_vec()));
    assert_eq!(client.closed().await.0, 1000);
    for (method, params) in [
        ("publish", publish.clone()),
        (
            "publish",
            json!({ "channel": "news:1", "data": 1, "skip_history": true }),
        ),
        (
            "publish",
            json!({ "channel": "news:1", "data": 1, "idempotency_key": "k" }),
        ),
        (
            "publish",
            json!({ "channel": "news:1", "data": 1, "version": 7 }),
        ),
        ("end", end),
        ("end", json!({ "channel": "ping:" })),
    ] {
        let answer = backend.call(method, params).await;
        assert_eq!(answer["error"]["code"], 108, "{answer}");
    }
    let history = json!({ "channel": "news:1", "limit": -1 });
    let page = backend.done("history", history).await;
    let last = &page["publications"][1];
    assert_eq!(
        (&last["data"], &last["end"]),
        (&json!({ "words": 7 }), &json!(true))
    );
    assert!(page["publications"][0].get("end").is_none());
    // Without data they are `null`; a long text is refused.
    backend.done("end", json!({ "channel": "news:2" })).await;
    let long = json!({ "channel": "news:3", "data": "x".repeat(5_000) });
    assert_eq!(backend.call("end", long).await["error"]["code"], 106);
}

#[tokio::test]
async fn a_service_is_a_channel_with_an_empty_key() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "ping").await;
    let answer = backend
        .done("publish", json!({ "channel": "ping:", "data": [1] }))
        .await;
    assert_eq!(answer, json!({}));
    assert_eq!(client.frame().await, (TEXT, b"[1]".to_vec()));
}

#[tokio::test]
async fn a_channel_names_a_room_or_is_refused() {
    let backend = Backend::start().await;
    let mut main = Raw::join(&backend.server, "main/lobby").await;
    let long = format!("news:{}", "k".repeat(250));
    let longer = format!("{long}k");
    for (channel, code) in [
        ("lobby", None),
        (":x", None),
        ("$lobby", None),
        ("$news:1", None),
        (long.as_str(), None),
        (longer.as_str(), Some(107)),
        ("", Some(107)),
        ("news:", None),
        ("$news:", None),
        ("news:\u{7}", Some(107)),
        ("news:\u{e9}", Some(107)),
        ("main:lobby", Some(102)),
        ("nope:1", Some(102)),
        ("ping:1", Some(102)),
    ] {
        let params = json!({ "channel": channel, "data": 1 });
        let answer = backend.call("publish", params).await;
        assert_eq!(
            answer["error"]["code"].as_u64(),
            code,
            "{channel}: {answer}"
        );
    }
    assert_eq!(main.frame().await, (TEXT, b"1".to_vec()));
    let history = json!({ "channel": "news:$1", "limit": 1 });
    let kept = backend.done("history", history).await;
    assert_eq!(kept["publications"][0]["data"], 1, "`$` is of the key");
}

#[tokio::test]
async fn a_kind_has_a_room_with_the_empty_key_which_clients_cannot_name() {
    let backend = Backend::start().await;
    for (channel, data) in [("news:", 1), ("news:1", 2)] {
        let publish = json!({ "channel": channel, "data": data });
        assert_eq!(backend.done("publish", publish).await["offset"], 1);
    }
    let history = json!({ "channel": "news:", "limit": -1 });
    let kept = backend.done("history", history).await;
    assert_eq!(kept["publications"], json!([{ "data": 1, "offset": 1 }]));
    let app = backend.server.app();
    let room = app.room("news", "").expect("a key may be empty");
    let position = room.position().expect("a history");
    assert_eq!(kept["epoch"], position.epoch.to_string());
    let presence = json!({ "channel": "news:" });
    let nobody = backend.done("presence", presence).await;
    assert_eq!(nobody["presence"], json!({}));
    for path in ["/ws/news/", "/sse/news/"] {
        let answer = ask(&backend.server, &wish(path)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn tags_come_with_the_message_to_those_who_read_them() {
    let backend = Backend::start().await;
    let mut plain = Raw::join(&backend.server, "news/1").await;
    let mut json = backend.join("news/1", "ann").await;
    assert!(json.told().await.get("position").is_some());
    let mut unrecorded = backend.join("plain/1", "ann").await;
    let tags = json!({ "unit": "EUR", "kind": "price" });
    let params = json!({ "channels": ["news:1", "plain:1"], "data": 9.8, "tags": tags });
    backend.done("broadcast", params).await;
    let publish = json!({ "channel": "news:1", "data": 1, "tags": {} });
    backend.done("publish", publish).await;
    for text in [b"9.8".to_vec(), b"1".to_vec()] {
        assert_eq!(plain.frame().await, (TEXT, text));
    }
    let shown = r#""tags":{"kind":"price","unit":"EUR"}}"#;
    let told = |offset: &str| format!(r#"{{"text":"9.8",{offset}{shown}"#).into_bytes();
    assert_eq!(json.frame().await, (TEXT, told(r#""offset":1,"#)));
    let untagged = br#"{"text":"1","offset":2}"#.to_vec();
    assert_eq!(json.frame().await, (TEXT, untagged));
    assert_eq!(unrecorded.frame().await, (TEXT, told("")));
    let history = json!({ "channel": "news:1", "limit": -1 });
    let page = backend.done("history", history).await;
    let kept = page["publications"].as_array().expect("messages");
    assert_eq!(kept[0]["tags"], tags);
    assert!(kept[1].get("tags").is_none(), "{page}");
    for bad in [json!({ "k": 1 }), json!({ "k": null }), json!(["k"])] {
        let params = json!({ "channel": "news:1", "data": 1, "tags": bad });
        let body = params.to_string();
        let answer = backend.answer("publish", super::KEY, &body).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_live_message_is_in_no_history() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "news/1").await;
    let live = json!({ "channel": "news:1", "data": 1, "skip_history": true });
    assert_eq!(backend.done("publish", live).await, json!({}));
    assert_eq!(client.frame().await, (TEXT, b"1".to_vec()));
    let history = json!({ "channel": "news:1", "limit": -1 });
    let history = backend.done("history", history).await;
    assert_eq!(history["publications"], json!([]));
    assert_eq!(history["offset"], 0);
}

#[tokio::test]
async fn a_repeated_idempotency_key_publishes_nothing_and_answers_as_before() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "news/1").await;
    let publish = async |channel: &str, key: &str, data: u64| {
        let params = json!({ "channel": channel, "data": data, "idempotency_key": key });
        backend.done("publish", params).await
    };
    let first = publish("news:1", "k1", 1).await;
    assert_eq!(publish("news:1", "k1", 2).await, first);
    assert_eq!(publish("news:1", "k2", 3).await["offset"], 2);
    assert_eq!(publish("news:2", "k1", 4).await["offset"], 1);
    for data in [b"1", b"3"] {
        assert_eq!(client.frame().await, (TEXT, data.to_vec()));
    }
    assert_eq!(backend.server.app().caller_counts().repeated, 1);
    let long = "k".repeat(257);
    let params = json!({ "channel": "news:1", "data": 1, "idempotency_key": long });
    assert_eq!(backend.fault("publish", params).await, 107);
}

#[tokio::test]
async fn a_version_that_is_not_newer_is_answered_and_dropped() {
    let backend = Backend::start().await;
    let mut client = Raw::join(&backend.server, "news/1").await;
    let publish = async |version: u64, epoch: &str, data: u64| {
        let params = json!({
            "channel": "news:1", "data": data, "version": version, "version_epoch": epoch,
        });
        backend.done("publish", params).await["offset"].as_u64()
    };
    for (version, epoch, data, offset) in [
        (2, "", 1, 1),
        (2, "", 2, 1),
        (1, "", 3, 1),
        (3, "", 4, 2),
        (1, "b", 5, 3),
        (0, "b", 6, 4),
        (1, "b", 7, 4),
    ] {
        let found = publish(version, epoch, data).await;
        assert_eq!(found, Some(offset), "{version} {epoch} {data}");
    }
    for data in [b"1", b"4", b"5", b"6"] {
        assert_eq!(client.frame().await, (TEXT, data.to_vec()));
    }
}

#[tokio::test]
async fn a_broadcast_answers_for_each_channel() {
    let backend = Backend::start().await;
    let mut one = Raw::join(&backend.server, "news/1").await;
    let mut two = Raw::join(&backend.server, "plain/2").await;
    let channels = ["news:1", "plain:2", "nope:3", ""];
    let params = json!({ "channels": channels, "data": { "n": 1 } });
    let answer = backend.done("broadcast", params).await;
    let responses = answer["responses"].as_array().expect("responses");
    assert_eq!(responses[0]["result"]["offset"], 1);
    assert_eq!(responses[1], json!({ "result": {} }));
    assert_eq!(responses[2]["error"]["code"], 102);
    assert_eq!(responses[3]["error"]["code"], 107);
    for client in [&mut one, &mut two] {
        assert_eq!(client.frame().await, (TEXT, b"{\"n\":1}".to_vec()));
    }
    for params in [json!({ "data": 1 }), json!({ "channels": [], "data": 1 })] {
        assert_eq!(backend.fault("broadcast", params).await, 107);
    }
}

#[tokio::test]
async fn the_commands_of_a_batch_are_done_in_order_and_answered_in_order() {
    let backend = Backend::start().await;
    let publish = |data: u64| json!({ "publish": { "channel": "news:1", "data": data } });
    let commands = json!([
        publish(1),
        { "publish": { "channel": "nope:1", "data": 1 } },
        { "history": { "channel": "news:1", "limit": 5 } },
        publish(2),
    ]);
    let answer = backend.call("batch", json!({ "commands": commands })).await;
    let replies = answer["replies"].as_array().expect("replies");
    assert_eq!(replies[0]["publish"]["offset"], 1);
    assert_eq!(replies[1]["error"]["code"], 102);
    assert_eq!(replies[2]["history"]["publications"][0]["data"], 1);
    assert_eq!(replies[3]["publish"]["offset"], 2);
    // What is no command keeps all of them.
    for bad in [
        r#"{"commands":[{"publish":{"channel":"news:1","data":3}},{"nonsense":{}}]}"#,
        r#"{"commands":[{"publish":{"channel":"news:1","data":3}},{"publish":{"channel":7}}]}"#,
        r#"{"commands":[{"batch":{"commands":[]}}]}"#,
        r#"{"commands":[{"info":{},"publish":{}}]}"#,
    ] {
        let answer = backend.answer("batch", super::KEY, bad).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body());
    }
    let history = json!({ "channel": "news:1", "limit": 0 });
    assert_eq!(backend.done("history", history).await["offset"], 2);
}
