//! Tokens: where they may stand, what they let in, and every way in which they are not good.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use busline::server::auth::{Join, Jwt, JwtPolicy, Keys};
use busline::service::echo;
use busline::{Context, Limits, RefuseReason};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::client::Client;
use crate::http::{Answer, ask};
use crate::raw::{Raw, TEXT, frame, wish};
use crate::server::Server;

pub(crate) const SECRET: &str = "a secret of tests, of at least 32 bytes";

/// Tells each sender who it is.
pub(crate) async fn whoami(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        let sender = message.sender().and_then(|sender| sender.subject());
        ctx.reply(&message, sender.unwrap_or("nobody"));
    }
}

/// A server whose `open` any client may join, and whose `whoami` needs a grant.
async fn guarded() -> Server {
    guarded_with(true).await
}

/// The same, which takes a token in the query or does not.
pub(crate) async fn guarded_with(query_token: bool) -> Server {
    let policy = JwtPolicy {
        services: [("open".to_owned(), Join::Anyone)].into(),
        audiences: vec!["busline".to_owned()],
        ..JwtPolicy::default()
    };
    let keys = Keys::secret(SECRET.as_bytes()).expect("long enough");
    Server::start(|app| {
        app.authorize(Jwt::new(keys, policy))
            .query_token(query_token)
            .service("open", echo)?
            .service("whoami", whoami)?
            .service("other", whoami)
    })
    .await
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}

/// A token with these claims, signed with this secret, whatever its header says.
pub(crate) fn token(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed");
    format!("{message}.{signature}")
}

pub(crate) fn claims(seconds: i64) -> String {
    let exp = now().saturating_add_signed(seconds);
    format!(r#"{{"sub":"alice","aud":"busline","services":["who*"],"exp":{exp}}}"#)
}

fn good() -> String {
    token(r#"{"alg":"HS256"}"#, &claims(600), SECRET)
}

pub(crate) fn with(path: &str, header: &str) -> String {
    wish(path).replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"))
}

pub(crate) async fn with_token(server: &Server, token: &str) -> Answer {
    ask(
        server,
        &with("/ws/whoami", &format!("Authorization: Bearer {token}")),
    )
    .await
}

/// Joins with this request and returns the head of the answer and what the service calls us.
pub(crate) async fn called(server: &Server, request: &str) -> (String, String) {
    let mut raw = Raw::connect(server).await;
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    raw.send(&frame(TEXT, b"who")).await;
    let (_, name) = raw.frame().await;
    (
        head.to_lowercase(),
        String::from_utf8(name).expect("a text"),
    )
}

#[tokio::test]
async fn a_token_is_taken_from_each_place_it_may_stand_in() {
    let server = guarded().await;
    let good = good();
    for request in [
        with("/ws/whoami", &format!("Authorization: Bearer {good}")),
        with(
            "/ws/whoami",
            &format!("Sec-WebSocket-Protocol: bearer.{good}"),
        ),
        wish(&format!("/ws/whoami?token={good}")),
    ] {
        let (head, name) = called(&server, &request).await;
        assert_eq!(name, "alice");
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    }
    let both = format!("Sec-WebSocket-Protocol: bearer.{good}, busline.v1.json");
    let mut raw = Raw::connect(&server).await;
    raw.send(with("/ws/whoami", &both).as_bytes()).await;
    let head = raw.head().await.to_lowercase();
    assert!(
        head.contains("sec-websocket-protocol: busline.v1.json\r\n"),
        "{head}"
    );
    assert!(!head.contains("bearer"), "{head}");
}

/// A browser that shows its token as a subprotocol closes the connection unless one is selected.
#[tokio::test]
async fn a_client_that_shows_its_token_as_a_subprotocol_can_have_plain_frames() {
    let server = guarded().await;
    let offers = format!(
        "Sec-WebSocket-Protocol: busline.v1.plain, bearer.{}",
        good()
    );
    let (head, name) = called(&server, &with("/ws/whoami", &offers)).await;
    let selected = "\r\nsec-websocket-protocol: busline.v1.plain\r\n";
    assert!(
        head.contains(selected) && !head.contains("bearer"),
        "{head}"
    );
    assert_eq!(name, "alice", "as it is, in no envelope");
}

#[tokio::test]
async fn a_token_that_is_not_good_lets_nobody_in_and_hurts_nobody() {
    let server = guarded().await;
    let mut bystander = Client::connect(&server, "open").await;
    let header = r#"{"alg":"HS256"}"#;
    let none = BASE64.encode(r#"{"alg":"none"}"#);
    let payload = BASE64.encode(claims(600));
    let other = claims(600).replace("busline", "other");
    for (what, bad) in [
        ("expired", token(header, &claims(-600), SECRET)),
        (
            "wrongly signed",
            token(header, &claims(600), &SECRET.to_uppercase()),
        ),
        ("of no algorithm", format!("{none}.{payload}.")),
        (
            "of another algorithm",
            token(r#"{"alg":"RS256"}"#, &claims(600), SECRET),
        ),
        ("for somebody else", token(header, &other, SECRET)),
        (
            "too long",
            token(
                header,
                &claims(600).replace("alice", &"a".repeat(8_000)),
                SECRET,
            ),
        ),
        ("nonsense", "nonsense".to_owned()),
        ("dots", "...".to_owned()),
    ] {
        let answer = with_token(&server, &bad).await;
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        bystander.round_trip(what).await;
    }
    let missing = ask(&server, &wish("/ws/whoami")).await;
    assert_eq!(missing.status, 401);
    let shown = with("/ws/open", "Authorization: Bearer nonsense");
    assert_eq!(
        ask(&server, &shown).await.status,
        401,
        "even where none is needed"
    );
    let sessions = server.app().counts().sessions;
    assert_eq!(sessions.refused_for(RefuseReason::Unauthorized), 10);
    assert_eq!(
        server.status("whoami").counts.starts,
        0,
        "nobody was let in"
    );
    bystander.round_trip("unhurt").await;
}

#[tokio::test]
async fn a_token_lets_in_only_where_it_says() {
    let server = guarded().await;
    let other = claims(600).replace("who*", "what*");
    let answer = with_token(&server, &token(r#"{"alg":"HS256"}"#, &other, SECRET)).await;
    assert_eq!(answer.status, 403);
    let sessions = server.app().counts().sessions;
    assert_eq!(sessions.refused_for(RefuseReason::Forbidden), 1);
}

#[tokio::test]
async fn a_subject_has_its_share_of_sessions_and_no_more() {
    let keys = Keys::secret(SECRET.as_bytes()).expect("long enough");
    let policy = JwtPolicy {
        audiences: vec!["busline".to_owned()],
        ..JwtPolicy::default()
    };
    let limits = Limits {
        sessions_per_subject: 1,
        ..Limits::default()
    };
    let server = Server::start(|app| {
        app.limits(limits)
            .authorize(Jwt::new(keys, policy))
            .service("whoami", whoami)
    })
    .await;
    let header = r#"{"alg":"HS256"}"#;
    let of = |name: &str| {
        let claims = claims(600).replace("alice", name);
        wish(&format!(
            "/ws/whoami?token={}",
            token(header, &claims, SECRET)
        ))
    };
    let mut alice = Raw::connect(&server).await;
    alice.send(of("alice").as_bytes()).await;
    assert!(alice.head().await.starts_with("HTTP/1.1 101 "));
    // As often as one likes: what is refused takes no place.
    for _ in 0..3 {
        let refused = ask(&server, &of("alice")).await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(called(&server, &of("bob")).await.1, "bob");
    let sessions = server.app().counts().sessions;
    assert_eq!(sessions.refused_for(RefuseReason::SessionsPerSubject), 3);
    alice.kill();
    server.until_left("whoami").await;
    assert_eq!(called(&server, &of("alice")).await.1, "alice");
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let server = guarded().await;
    let token = token(r#"{"alg":"HS256"}"#, &claims(2), SECRET);
    let mut raw = Raw::connect(&server).await;
    raw.send(wish(&format!("/ws/whoami?token={token}")).as_bytes())
        .await;
    raw.head().await;
    assert_eq!(raw.closed().await.0, 4401);
}

#[tokio::test]
async fn a_fresh_token_prolongs_a_connection() {
    let server = guarded().await;
    let short = token(r#"{"alg":"HS256"}"#, &claims(60), SECRET);
    let offers = format!("Sec-WebSocket-Protocol: bearer.{short}, busline.v1.json");
    let mut raw = Raw::connect(&server).await;
    raw.send(with("/ws/whoami", &offers).as_bytes()).await;
    raw.head().await;
    let fresh = format!("{{\"token\":\"{}\"}}", good());
    raw.send(&frame(TEXT, fresh.as_bytes())).await;
    let accepted = (TEXT, b"{\"token\":\"accepted\"}".to_vec());
    assert_eq!(raw.frame().await, accepted);
    raw.send(&frame(TEXT, b"{\"token\":\"x\"}")).await;
    assert_eq!(raw.closed().await.0, 4401);
}
