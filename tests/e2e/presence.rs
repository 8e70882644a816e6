//! Presence over real sockets: clients with tokens that join, ask who is there, and die.

use busline::ServicePolicy;
use busline::limits::{Keep, PresencePolicy, Publish, RelayPolicy, Tell};
use busline::server::auth::{Join, Jwt, JwtPolicy, Keys};
use serde_json::{Value, json};

use crate::auth::{SECRET, now, token, with};
use crate::raw::{Raw, TEXT, frame};
use crate::server::Server;

async fn server() -> Server {
    let policy = JwtPolicy {
        services: [("news".to_owned(), Join::Authenticated)].into(),
        ..JwtPolicy::default()
    };
    let keys = Keys::secret(SECRET.as_bytes()).expect("long enough");
    let relay = RelayPolicy {
        publish: Publish::Members,
        ..RelayPolicy::default()
    };
    let news = ServicePolicy {
        presence: PresencePolicy {
            keep: Keep::List,
            tell: Tell::Asked,
            claims: vec!["name".to_owned()],
            ..PresencePolicy::default()
        },
        ..ServicePolicy::of_relay(relay)
    };
    Server::start(|app| {
        let app = app.authorize(Jwt::new(keys, policy));
        app.relay_with("news", news)
    })
    .await
}

/// The request of a client of `busline.v1.json` with a token of this subject.
fn request(path: &str, subject: &str) -> String {
    let expires = now() + 60;
    let claims = json!({ "sub": subject, "name": subject.to_uppercase(), "exp": expires });
    let token = token(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET);
    let headers = "Sec-WebSocket-Protocol: busline.v1.json\r\nAuthorization: Bearer ";
    with(path, &format!("{headers}{token}"))
}

async fn join(server: &Server, path: &str, subject: &str) -> Raw {
    let mut raw = Raw::connect(server).await;
    raw.ask_json(&request(path, subject)).await;
    raw
}

/// The clients that are shown, without their numbers.
fn shown(clients: &Value) -> Vec<Value> {
    let clients = clients.as_object().expect("clients by number");
    clients.values().cloned().collect()
}

#[tokio::test]
async fn a_client_that_dies_is_gone_for_those_that_follow() {
    let server = server().await;
    let following = "/ws/news/a?join_leave=true";
    let mut ann = join(&server, following, "ann").await;
    let client = |name: &str| json!({ "subject": name, "info": { "name": name.to_uppercase() } });
    assert_eq!(shown(&ann.told().await["joined"]), [client("ann")]);
    let bob = join(&server, "/ws/news/a", "bob").await;
    assert_eq!(shown(&ann.told().await["joined"]), [client("bob")]);
    let asks = r#"{"id":1,"presence":{}}"#;
    ann.send(&frame(TEXT, asks.as_bytes())).await;
    let reply = ann.told().await;
    let presence = &reply["presence"];
    assert_eq!(shown(&presence["clients"]), [client("ann"), client("bob")]);
    let counts = (&presence["num_clients"], &presence["more"]);
    assert_eq!(counts, (&json!(2), &json!(false)));
    bob.kill();
    assert_eq!(shown(&ann.told().await["left"]), [client("bob")]);
}

#[tokio::test]
async fn a_wish_that_is_neither_true_nor_false_is_refused_with_words() {
    let server = server().await;
    let mut raw = Raw::connect(&server).await;
    let path = "/ws/news/a?join_leave=yes";
    raw.ask_json(&request(path, "ann")).await;
    let refused = &raw.told().await["refused"];
    assert_eq!(refused["code"], 4400);
    assert_eq!(refused["reason"], "`join_leave` is true or false");
    assert_eq!(raw.closed().await.0, 4400);
}
