//! Looking over the API: histories, presence, rooms, the server.

use serde_json::{Value, json};

use super::Backend;
use crate::raw::{Raw, TEXT, frame};

async fn publish(backend: &Backend, channel: &str, data: impl Into<Value>) {
    let params = json!({ "channel": channel, "data": data.into() });
    backend.done("publish", params).await;
}

#[tokio::test]
async fn a_history_is_read_from_either_end_and_from_a_position() {
    let backend = Backend::start().await;
    for n in 1..=4 {
        publish(&backend, "news:1", n).await;
    }
    let top = json!({ "channel": "news:1" });
    let top = backend.done("history", top).await;
    assert_eq!(top["publications"], json!([]));
    assert_eq!(top["offset"], 4);
    let epoch = top["epoch"].as_str().expect("an epoch");
    for (asked, offsets) in [
        (json!({ "limit": 2 }), &[1, 2][..]),
        (json!({ "limit": -1 }), &[1, 2, 3, 4]),
        (json!({ "limit": 2, "reverse": true }), &[4, 3]),
        (
            json!({ "limit": -1, "since": { "offset": 2, "epoch": epoch } }),
            &[3, 4],
        ),
        (json!({ "limit": -1, "since": { "offset": 3 } }), &[4]),
        (
            json!({ "limit": -1, "reverse": true, "since": { "offset": 3 } }),
            &[2, 1],
        ),
        (json!({ "limit": -1, "since": { "offset": 9 } }), &[]),
    ] {
        let mut params = asked.clone();
        params["channel"] = "news:1".into();
        let page = backend.done("history", params).await;
        let publications = page["publications"].as_array().expect("a list");
        let found: Vec<_> = publications.iter().map(|of| of["offset"].clone()).collect();
        assert_eq!(Value::from(found), json!(offsets), "{asked}");
        assert!(publications.iter().all(|of| of["data"] == of["offset"]));
    }
    for since in [
        json!({ "offset": 1, "epoch": "0000000000000000" }),
        json!({ "offset": 1, "epoch": "x" }),
    ] {
        let params = json!({ "channel": "news:1", "limit": 0, "since": since });
        assert_eq!(backend.fault("history", params).await, 112);
    }
    let params = json!({ "channel": "plain:1", "limit": 1 });
    assert_eq!(backend.fault("history", params).await, 108);
}

#[tokio::test]
async fn a_history_tells_who_sent_a_message_and_keeps_its_position_when_it_is_removed() {
    let backend = Backend::start().await;
    let mut client = backend.join("news/1", "ann").await;
    client
        .send(&frame(TEXT, b"{\"id\":1,\"text\":\"hi\"}"))
        .await;
    let mut told = client.told().await;
    while told.get("published").is_none() {
        told = client.told().await;
    }
    let asked = json!({ "channel": "news:1", "limit": 1 });
    let page = backend.done("history", asked.clone()).await;
    let number = backend.only_client("news:1").await;
    let info = json!({ "user": "ann", "client": number });
    assert_eq!(
        page["publications"],
        json!([{ "data": "hi", "offset": 1, "info": info }])
    );
    let removed = json!({ "channel": "news:1" });
    assert_eq!(backend.done("history_remove", removed).await, json!({}));
    let after = backend.done("history", asked).await;
    assert_eq!(after["publications"], json!([]));
    assert_eq!(
        (&after["epoch"], &after["offset"]),
        (&page["epoch"], &json!(1))
    );
    let plain = json!({ "channel": "plain:1" });
    assert_eq!(backend.fault("history_remove", plain).await, 108);
}

#[tokio::test]
async fn presence_lists_clients_by_number_and_counts_users() {
    let backend = Backend::start().await;
    let room = json!({ "channel": "news:1" });
    let nobody = backend.done("presence", room.clone()).await;
    assert_eq!(nobody, json!({ "presence": {} }));
    let _ann = backend.join("news/1", "ann").await;
    let number = backend.only_client("news:1").await;
    let info = json!({ "client": number, "user": "ann", "conn_info": { "name": "ANN" } });
    let there = backend.done("presence", room.clone()).await;
    assert_eq!(there["presence"][&number], info);
    let _again = backend.join("news/1", "ann").await;
    let stats = backend.done("presence_stats", room).await;
    assert_eq!(stats, json!({ "num_clients": 2, "num_users": 1 }));
    for method in ["presence", "presence_stats"] {
        let plain = json!({ "channel": "plain:1" });
        assert_eq!(backend.fault(method, plain).await, 108);
    }
}

#[tokio::test]
async fn channels_are_the_rooms_with_clients_that_match_a_pattern() {
    let backend = Backend::start().await;
    let _one = Raw::join(&backend.server, "news/1").await;
    let _two = Raw::join(&backend.server, "news/12").await;
    let _main = Raw::join(&backend.server, "main/lobby").await;
    let _ping = Raw::join(&backend.server, "ping").await;
    publish(&backend, "news:empty", 1).await;
    let one = json!({ "num_clients": 1 });
    for (pattern, found) in [
        ("", &["lobby", "news:1", "news:12", "ping:"][..]),
        ("news:*", &["news:1", "news:12"]),
        ("news:?", &["news:1"]),
        ("{lobby,ping:}", &["lobby", "ping:"]),
        ("nope*", &[]),
    ] {
        let answer = backend
            .done("channels", json!({ "pattern": pattern }))
            .await;
        let expected = found.iter().map(|name| ((*name).to_owned(), one.clone()));
        let expected = Value::Object(expected.collect());
        assert_eq!(answer, json!({ "channels": expected }), "{pattern}");
    }
    let bad = json!({ "pattern": "[" });
    assert_eq!(backend.fault("channels", bad).await, 100);
}

#[tokio::test]
async fn info_counts_what_is_connected() {
    let backend = Backend::start().await;
    let _ann = backend.join("news/1", "ann").await;
    let _again = backend.join("news/2", "ann").await;
    let _anonymous = Raw::join(&backend.server, "ping").await;
    let answer = backend.done("info", json!({})).await;
    let node = &answer["nodes"][0];
    let counts = ["num_clients", "num_users", "num_subs", "num_channels"];
    let counts = counts.map(|name| node[name].as_u64());
    assert_eq!(counts, [Some(3), Some(1), Some(3), Some(3)]);
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(node["uid"].as_str().map(str::len), Some(16));
}
