//! Acting over the API: connections that are closed, and with which code.

use serde_json::json;

use super::Backend;
use crate::raw::{Raw, TEXT};

#[tokio::test]
async fn a_user_is_disconnected_everywhere_and_nobody_else_is() {
    let backend = Backend::start().await;
    let mut anns = [
        backend.join("news/1", "ann").await,
        backend.join("plain/2", "ann").await,
    ];
    let mut bob = backend.join("news/1", "bob").await;
    let answer = backend.done("disconnect", json!({ "user": "ann" })).await;
    assert_eq!(answer, json!({}));
    for ann in &mut anns {
        assert_eq!(ann.closed().await, (3503, "force disconnect".to_owned()));
    }
    backend
        .done("publish", json!({ "channel": "news:1", "data": 1 }))
        .await;
    while bob.told().await["text"] != "1" {}
    let nobody = json!({ "user": "nobody" });
    assert_eq!(backend.done("disconnect", nobody).await, json!({}));
}

#[tokio::test]
async fn a_client_is_disconnected_after_what_was_said_to_it() {
    let backend = Backend::start().await;
    let mut ann = Raw::join(&backend.server, "news/1").await;
    let number = backend.only_client("news:1").await;
    let publish = json!({ "channel": "news:1", "data": "last" });
    backend.done("publish", publish).await;
    let close = json!({ "code": 4000, "reason": "bye" });
    let wrong = json!({ "client": number, "user": "bob" });
    assert_eq!(backend.done("disconnect", wrong).await, json!({}));
    let disconnect = json!({ "client": number, "disconnect": close });
    backend.done("disconnect", disconnect).await;
    assert_eq!(ann.frame().await, (TEXT, b"\"last\"".to_vec()));
    assert_eq!(ann.closed().await, (4000, "bye".to_owned()));
}

#[tokio::test]
async fn a_room_is_emptied_but_for_those_that_are_named() {
    let backend = Backend::start().await;
    let mut stays = Raw::join(&backend.server, "news/1").await;
    let number = backend.only_client("news:1").await;
    let mut goes = Raw::join(&backend.server, "news/1").await;
    let mut other = Raw::join(&backend.server, "news/2").await;
    let disconnect = json!({ "room": "news:1", "whitelist": [number] });
    backend.done("disconnect", disconnect).await;
    assert_eq!(goes.closed().await.0, 3503);
    let channels = json!({ "channels": ["news:1", "news:2"], "data": 1 });
    backend.done("broadcast", channels).await;
    for client in [&mut stays, &mut other] {
        assert_eq!(client.frame().await, (TEXT, b"1".to_vec()));
    }
}

#[tokio::test]
async fn what_no_close_frame_may_carry_is_refused_and_closes_nobody() {
    let backend = Backend::start().await;
    let mut ann = backend.join("plain/1", "ann").await;
    let long = "r".repeat(124);
    for close in [
        json!({ "code": 0, "reason": "r" }),
        json!({ "reason": "r" }),
        json!({}),
        json!({ "code": 999 }),
        json!({ "code": 1005 }),
        json!({ "code": 3000 }),
        json!({ "code": 5000 }),
        json!({ "code": 70000 }),
        json!({ "code": 4000, "reason": long }),
    ] {
        let params = json!({ "user": "ann", "disconnect": close });
        assert_eq!(backend.fault("disconnect", params).await, 107, "{close}");
    }
    assert_eq!(backend.fault("disconnect", json!({})).await, 107);
    let session = json!({ "user": "ann", "session": "s" });
    assert_eq!(backend.fault("disconnect", session).await, 108);
    let last = json!({ "user": "ann", "disconnect": { "code": 1000, "reason": "" } });
    backend.done("disconnect", last).await;
    assert_eq!(ann.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn an_unsubscribe_closes_the_connections_of_that_room() {
    let backend = Backend::start().await;
    let mut one = backend.join("news/1", "ann").await;
    let mut two = backend.join("plain/2", "ann").await;
    let params = json!({ "user": "ann", "channel": "news:1" });
    assert_eq!(backend.done("unsubscribe", params).await, json!({}));
    assert_eq!(one.closed().await, (4500, "server unsubscribe".to_owned()));
    let params = json!({ "user": "ann", "channel": "" });
    backend.done("unsubscribe", params).await;
    assert_eq!(two.closed().await.0, 4500);
    let params = json!({ "user": "ann", "channel": "nope:1" });
    assert_eq!(backend.fault("unsubscribe", params).await, 102);
}

#[tokio::test]
async fn credentials_that_are_over_close_a_connection_and_later_ends_are_not_served() {
    let backend = Backend::start().await;
    let mut ann = backend.join("plain/1", "ann").await;
    let mut bob = backend.join("plain/1", "bob").await;
    let later = json!({ "user": "ann", "expire_at": 4_000_000_000_u64 });
    assert_eq!(backend.fault("refresh", later.clone()).await, 108);
    let over = json!({ "user": "ann", "expired": true });
    assert_eq!(backend.done("refresh", over).await, json!({}));
    assert_eq!(ann.closed().await, (3005, "connection expired".to_owned()));
    let past = json!({ "user": "bob", "expire_at": 1 });
    backend.done("refresh", past).await;
    assert_eq!(bob.closed().await.0, 3005);
    backend
        .server
        .until("they are gone", |server| server.app().sessions_open() == 0)
        .await;
    let nobody = later;
    assert_eq!(backend.done("refresh", nobody).await, json!({}));
}

#[tokio::test]
async fn what_is_not_served_yet_says_so() {
    let backend = Backend::start().await;
    let params = json!({ "user": "ann", "channel": "news:1" });
    assert_eq!(backend.fault("subscribe", params).await, 108);
}
