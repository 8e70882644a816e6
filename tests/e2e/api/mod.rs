//! The API over real sockets: what a backend calls, and what its clients see of it.

use std::net::SocketAddr;

use busline::app::{Builder, RegisterError};
use busline::caller::{Key, Keys, Method, Rights};
use busline::limits::{Keep, Payload, Publish, Recovery, RelayPolicy, Retention, Tell};
use busline::rt::Tokio;
use busline::server::auth::{Join, Jwt, JwtPolicy, Keys as TokenKeys};
use busline::service::{echo, ping};
use busline::{Limits, ServicePolicy};
use serde_json::{Value, json};

use crate::admin::Operators;
use crate::auth::{SECRET, now, token, with};
use crate::http::Answer;
use crate::raw::Raw;
use crate::server::Server;

mod acts;
mod alive;
mod bounds;
mod example;
mod keys;
mod looks;
mod openapi;
mod publishes;
mod recorded;
mod rpcs;

/// The key with all rights.
pub(crate) const KEY: &str = "all-rights-0123456789abcdef01234567";

/// The key that may publish into `news` and nothing else.
const FEW: &str = "few-rights-0123456789abcdef01234567";

/// A server with services and rooms of several kinds, and its operators' listener.
struct Backend {
    server: Server,
    operators: Operators,
}

fn relay(payload: Payload) -> ServicePolicy {
    ServicePolicy::of_relay(RelayPolicy {
        publish: Publish::Members,
        payload,
        ..RelayPolicy::default()
    })
}

/// A kind with a history, presence and all that it tells.
fn news() -> ServicePolicy {
    let mut news = relay(Payload::Any).with_history(Retention {
        messages: 100.try_into().expect("not 0"),
        bytes: 1 << 20,
        ttl: std::time::Duration::from_secs(300),
        recovery_max: None,
    });
    if let Some(history) = &mut news.history {
        history.recovery = Recovery::Asked;
    }
    news.presence.keep = Keep::List;
    news.presence.tell = Tell::Off;
    news.presence.claims = vec!["name".to_owned()];
    news
}

fn parts(app: Builder<Tokio>) -> Result<Builder<Tokio>, RegisterError> {
    let few = Rights::all("few").only_methods([Method::Publish]);
    let few = few.only_kinds(["news".parse().expect("a name")]);
    let keys = Keys::new([
        Key::new(KEY, Rights::all("all")).expect("long enough"),
        Key::new(FEW, few).expect("long enough"),
    ]);
    let joins = [
        "news", "plain", "text", "bytes", "main", "ping", "echo", "desk", "till",
    ];
    let policy = JwtPolicy {
        services: joins.map(|kind| (kind.to_owned(), Join::Anyone)).into(),
        ..JwtPolicy::default()
    };
    let tokens = TokenKeys::secret(SECRET.as_bytes()).expect("long enough");
    app.api_keys(keys)
        .default_kind("main")
        .authorize(Jwt::new(tokens, policy))
        .service("echo", echo)?
        .service("ping", ping)?
        .service("till", rpcs::desk)?
        .room("desk", rpcs::desk)?
        .relay_with("news", news())?
        .relay_with("main", news())?
        .relay_with("plain", relay(Payload::Any))?
        .relay_with("text", relay(Payload::Text))?
        .relay_with("bytes", relay(Payload::Binary))
}

impl Backend {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let server = Server::start(|app| parts(app.limits(limits))).await;
        let operators = Operators::of(&server).await;
        Self { server, operators }
    }

    /// Calls a method with all rights; the answer has the status 200.
    async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, KEY, &params.to_string()).await;
        assert_eq!(answer.status, 200, "{method} {params}: {}", answer.body());
        serde_json::from_str(answer.body()).expect("JSON")
    }

    /// The result of a call that succeeds.
    async fn done(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params.clone()).await;
        let result = answer.get("result").cloned();
        result.unwrap_or_else(|| panic!("{method} {params}: {answer}"))
    }

    /// The code of the error of a call that fails.
    async fn fault(&self, method: &str, params: Value) -> u64 {
        let answer = self.call(method, params.clone()).await;
        let code = answer["error"]["code"].as_u64();
        code.unwrap_or_else(|| panic!("{method} {params}: {answer}"))
    }

    async fn answer(&self, method: &str, key: &str, body: &str) -> Answer {
        let path = format!("/api/{method}");
        let key = format!("X-API-Key: {key}\r\n");
        post(self.operators.address(), &path, &key, body).await
    }

    /// A client of `busline.v1.json` with a token of this subject.
    async fn join(&self, path: &str, subject: &str) -> Raw {
        let claims = json!({ "sub": subject, "name": subject.to_uppercase(), "exp": now() + 60 });
        let token = token(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET);
        let headers = "Sec-WebSocket-Protocol: busline.v1.json\r\nAuthorization: Bearer ";
        let mut raw = Raw::connect(&self.server).await;
        let request = with(&format!("/ws/{path}"), &format!("{headers}{token}"));
        raw.ask_json(&request).await;
        raw
    }

    /// The number of the only client of a room with presence.
    async fn only_client(&self, channel: &str) -> String {
        let found = self.done("presence", json!({ "channel": channel })).await;
        let clients = found["presence"].as_object().expect("clients");
        assert_eq!(clients.len(), 1, "{found}");
        clients.keys().next().expect("one").clone()
    }
}

/// Sends a request with a body and reads to the end of the connection.
async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    send(address, "POST", path, headers, body).await
}

async fn send(address: SocketAddr, verb: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nHost: localhost:1\r\n{headers}\
         Connection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut raw = Raw::connect_to(address).await;
    raw.send(request.as_bytes()).await;
    let answer = raw.end().await;
    Answer::parse(&String::from_utf8(answer).expect("text"))
}
