//! Clients of `busline.v1.json` that are refused by name: a notice and a close frame stand in for
//! an HTTP status, which a page in a browser cannot read.

use busline::limits::LifecyclePolicy;
use busline::server::auth::{Join, Jwt, JwtPolicy, Keys};
use busline::service::echo;
use busline::{Limits, RefuseReason, ServicePolicy};
use serde_json::{Value, json};

use crate::auth::{SECRET, now, token, with};
use crate::http::ask;
use crate::raw::{Raw, close};
use crate::server::Server;

const JSON: &str = "Sec-WebSocket-Protocol: busline.v1.json";

/// A server that refuses for each reason that a client can have.
async fn server() -> Server {
    let policy = JwtPolicy {
        services: [
            ("echo".to_owned(), Join::Anyone),
            ("chat".to_owned(), Join::Anyone),
            ("closed".to_owned(), Join::Granted),
        ]
        .into(),
        ..JwtPolicy::default()
    };
    let keys = Keys::secret(SECRET.as_bytes()).expect("long enough");
    let limits = Limits {
        rooms_per_address: 1,
        ..Limits::default()
    };
    let narrow = ServicePolicy {
        lifecycle: LifecyclePolicy {
            clients_max: 1,
            ..LifecyclePolicy::default()
        },
        ..ServicePolicy::of_rooms()
    };
    Server::start(|app| {
        app.authorize(Jwt::new(keys, policy))
            .limits(limits)
            .service("echo", echo)?
            .service("closed", echo)?
            .room_with("chat", echo, narrow)
    })
    .await
}

/// Requests the path as a client of `busline.v1.json`, and returns the notice and the close frame.
async fn refused(server: &Server, path: &str) -> (Value, u16, String) {
    let mut raw = Raw::connect(server).await;
    raw.send(with(path, JSON).as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-protocol: busline.v1.json\r\n"));
    let (first, payload) = raw.frame().await;
    assert_eq!(first, 0x81, "a text");
    let notice = serde_json::from_slice(&payload).expect("JSON");
    let (code, reason) = raw.closed().await;
    raw.send(&close(code)).await;
    assert!(
        raw.end().await.is_empty(),
        "nothing follows the close frame"
    );
    (notice, code, reason)
}

/// Joins the path as a client of `busline.v1.json`, and stays.
async fn joined(server: &Server, path: &str) -> Raw {
    let mut raw = Raw::connect(server).await;
    raw.send(with(path, JSON).as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
    raw
}

#[tokio::test]
async fn a_client_of_the_json_subprotocol_is_told_why_it_is_refused() {
    let server = server().await;
    let _only_one = joined(&server, "/ws/chat/1").await;
    let header = r#"{"alg":"HS256"}"#;
    let exp = now() + 600;
    let without_grant = token(header, &format!(r#"{{"sub":"a","exp":{exp}}}"#), SECRET);
    let closed = format!("/ws/closed?token={without_grant}");
    let there = "there is no such service; there are: chat/<key>, closed, echo";
    let made = "clients of your address have made all 1 rooms that they may";
    for (path, code, reason, retry) in [
        ("/ws/closed", 4401, "a valid token is needed", None),
        ("/ws/closed?token=x", 4401, "a valid token is needed", None),
        (&*closed, 4403, "you may not join this service", None),
        ("/ws/none", 4404, there, None),
        ("/ws/none/1", 4404, there, None),
        (
            "/ws/chat/1",
            4429,
            "all 1 places here are taken",
            Some(1_000),
        ),
        ("/ws/chat/2", 4429, made, Some(1_000)),
    ] {
        let mut expected = json!({"code": code, "reason": reason});
        if let Some(retry) = retry {
            expected["retry"] = json!(retry);
        }
        let told = refused(&server, path).await;
        let expected = (json!({ "refused": expected }), code, reason.to_owned());
        assert_eq!(told, expected, "{path}");
    }
    let (notice, code, reason) = refused(&server, "/ws/chat/%07").await;
    let whole = notice["refused"]["reason"].as_str().expect("a text");
    assert!(
        whole.starts_with("this is no key of a room: the character at byte 0 is not"),
        "{whole}"
    );
    assert_eq!(
        (code, whole.starts_with(&*reason)),
        (4404, true),
        "{reason}"
    );
    let counts = server.app().counts().sessions;
    assert_eq!(
        (counts.opened, counts.closed, counts.messages_out),
        (1, 0, 0)
    );
    assert_eq!(
        (
            counts.refused_for(RefuseReason::Clients),
            counts.lost_unsent
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn others_are_refused_by_a_status_and_so_is_a_foreign_page() {
    let server = server().await;
    for (path, header, status) in [
        (
            "/ws/closed",
            "Sec-WebSocket-Protocol: busline.v1.plain",
            401,
        ),
        ("/ws/none", "Sec-WebSocket-Protocol: other", 404),
        ("/ws/none", "Accept: */*", 404),
    ] {
        assert_eq!(
            ask(&server, &with(path, header)).await.status,
            status,
            "{path}"
        );
    }
    let foreign = format!("{JSON}\r\nOrigin: https://evil.example");
    for (path, status) in [("/ws/echo", 403), ("/ws/closed", 403), ("/ws/none", 404)] {
        let answer = ask(&server, &with(path, &foreign)).await;
        assert_eq!(answer.status, status, "{path}");
    }
    // A request without a key is no handshake, whatever it asks for.
    let broken = with("/ws/none", JSON).replace("Sec-WebSocket-Key", "X-Key");
    assert_eq!(ask(&server, &broken).await.status, 404);
}

#[tokio::test]
async fn a_flood_of_new_keys_is_refused_by_name_and_leaves_nothing() {
    let server = server().await;
    let mut first = joined(&server, "/ws/chat/0").await;
    for number in 1..=300 {
        let (notice, code, _) = refused(&server, &format!("/ws/chat/{number}")).await;
        assert_eq!((code, &notice["refused"]["retry"]), (4429, &json!(1_000)));
    }
    first
        .send(&crate::raw::frame(0x81, br#"{"text":"still here"}"#))
        .await;
    let (_, payload) = first.frame().await;
    assert_eq!(payload, br#"{"text":"still here"}"#);
    assert_eq!(server.app().registry().rooms_open(), 1);
    assert_eq!(
        server.app().counts().bus.topics,
        3,
        "those of the one client"
    );
}
