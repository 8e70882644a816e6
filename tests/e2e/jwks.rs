//! Keys that somebody publishes: fetched in the clear or through TLS, from whom they should be.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use busline::limits::FetchPolicy;
use busline::server::auth::{Jwt, JwtPolicy, Keys, Remote};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::admin::Operators;
use crate::auth::{called, claims, whoami, with, with_token};
use crate::process::{Process, busline, output, text};
use crate::raw::Raw;
use crate::server::{Server, soon};
use crate::settings::Scratch;
use crate::tls::{A, B};

/// A key of tests; its public half is `ED25519_X`.
const ED25519: &str = include_str!("../../src/server/auth/tests/ed25519.pem");
const ED25519_X: &str = "ClBFKUMlCfjU2VUuR_8I3vadjlo9wEISZVGVn20UXrM";

/// What is published.
fn jwks() -> String {
    jwks_of(&["k"])
}

/// The one key there is, published under these names.
fn jwks_of(names: &[&str]) -> String {
    let key = |name: &&str| {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{name}","x":"{ED25519_X}"}}"#)
    };
    let keys: Vec<_> = names.iter().map(key).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A token that the published key has signed.
fn signed() -> String {
    signed_by("k")
}

/// The same, by the key of this name.
fn signed_by(name: &str) -> String {
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
    let header = format!(r#"{{"alg":"EdDSA","kid":"{name}"}}"#);
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims(600)));
    let signature = sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("it can be signed");
    format!("{message}.{signature}")
}

async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.expect("it is asked").0
}

/// Answers one request with this body, whatever it asks for, and returns the request's head.
async fn publish<S>(mut stream: S, status: &str, body: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    soon(stream.write_all(answer.as_bytes()))
        .await
        .expect("it reads");
    soon(stream.flush()).await.expect("it reads");
    String::from_utf8(head).expect("text").to_lowercase()
}

/// The server's side of TLS, with a certificate for `localhost`.
async fn secured(stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let [certificate, key] = A;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is one");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is one");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    soon(TlsAcceptor::from(Arc::new(config)).accept(stream)).await
}

/// An issuer, and the keys that it publishes.
async fn issuer(policy: FetchPolicy) -> (TcpListener, Remote) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let url = format!("http://{address}/keys").parse().expect("a URL");
    (listener, Remote::new(url).with_policy(policy))
}

/// A server that believes these keys and no others.
async fn guarded_by(remote: &Remote) -> Server {
    let policy = JwtPolicy {
        audiences: vec!["busline".to_owned()],
        ..JwtPolicy::default()
    };
    let jwt = Jwt::new(Keys::default(), policy).with_remote(remote.clone());
    Server::start(|app| app.authorize(jwt).service("whoami", whoami)).await
}

/// Keeps the keys up to date.
fn refresh(server: &Server, remote: Remote) -> JoinHandle<()> {
    let app = server.app().clone();
    tokio::spawn(async move { match remote.refresh(&app).await {} })
}

/// By itself, a server asks once, whatever comes of it, and tokens may ask once more.
const ONCE: FetchPolicy = FetchPolicy {
    refresh: Duration::from_secs(7_200),
    cooldown: Duration::from_secs(3_600),
    retry_min: Duration::from_secs(3_600),
    retry_max: Duration::from_secs(3_600),
};

/// Asks to join with a token, and leaves the answer to be read.
async fn ask_with(server: &Server, token: &str) -> Raw {
    let mut raw = Raw::connect(server).await;
    let request = with("/ws/whoami", &format!("Authorization: Bearer {token}"));
    raw.send(request.as_bytes()).await;
    raw
}

#[tokio::test]
async fn a_key_that_was_just_published_is_fetched_for_whoever_shows_it() {
    let (listener, remote) = issuer(ONCE).await;
    let server = guarded_by(&remote).await;
    let refreshing = refresh(&server, remote);
    publish(accept(&listener).await, "200 OK", &jwks_of(&["old"])).await;
    let old = with(
        "/ws/whoami",
        &format!("Authorization: Bearer {}", signed_by("old")),
    );
    server
        .until("the keys are there", |server| {
            server.app().counts().sessions.keys_fetched == 1
        })
        .await;
    assert_eq!(called(&server, &old).await.1, "alice");

    let mut unknown = ask_with(&server, &signed_by("none")).await;
    let stream = accept(&listener).await;
    let mut new = ask_with(&server, &signed_by("new")).await;
    assert_eq!(
        called(&server, &old).await.1,
        "alice",
        "it waits for nothing"
    );
    let both = jwks_of(&["old", "new"]);
    let head = publish(stream, "200 OK", &both).await;
    let program = concat!("user-agent: busline/", env!("CARGO_PKG_VERSION"), "\r\n");
    assert!(head.contains(program), "{head}");
    assert!(head.contains("accept: application/json\r\n"), "{head}");
    let head = new.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let head = unknown.head().await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");

    let answer = with_token(&server, &signed_by("other")).await;
    assert_eq!(answer.status, 503, "tokens may not ask so often");
    assert_eq!(answer.header("retry-after"), Some("3600"));
    assert_eq!(server.app().counts().sessions.keys_fetched, 2);
    refreshing.abort();
}

#[tokio::test]
async fn a_client_whose_key_cannot_be_fetched_is_told_when_to_come_again() {
    let (listener, remote) = issuer(ONCE).await;
    let server = guarded_by(&remote).await;
    let operators = Operators::of(&server).await;
    let answer = operators.get("/readyz", "*/*").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body().contains("no published keys yet"),
        "{}",
        answer.body()
    );
    let refreshing = refresh(&server, remote.clone());
    drop(accept(&listener).await);
    server
        .until("the first fetch has failed", |server| {
            server.app().counts().sessions.keys_not_fetched == 1
        })
        .await;
    let mut waiting = ask_with(&server, &signed()).await;
    drop(accept(&listener).await);
    let head = waiting.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    let mut fields = head.lines();
    let wait = fields.find_map(|field| field.strip_prefix("retry-after: "));
    let wait: u64 = wait.expect("it is told").parse().expect("seconds");
    assert!((2_000..=3_600).contains(&wait), "{wait}");
    remote.fetch_again();
    publish(accept(&listener).await, "200 OK", &jwks()).await;
    server
        .until("the keys are there", |server| {
            server.app().counts().sessions.keys_fetched == 1
        })
        .await;
    assert_eq!(operators.get("/readyz", "*/*").await.status, 200);
    let metrics = operators.get("/metrics", "*/*").await;
    for line in [
        "busline_key_fetches_total{outcome=\"fetched\"} 1",
        "busline_key_fetches_total{outcome=\"failed\"} 2",
    ] {
        assert!(metrics.body().lines().any(|l| l == line), "{line}");
    }
    refreshing.abort();
}

#[tokio::test]
async fn a_hangup_fetches_the_keys_even_if_nothing_else_has_changed_or_the_settings_are_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let file = Scratch::new("jwks-hangup.toml", "");
    let url = format!("http://{address}/keys");
    let mut command = busline(&["--listen", "127.0.0.1:0", "--config", file.path()]);
    command.args(["--auth-jwks-url", &url, "--auth-audiences", "busline"]);
    command.args(["--join", "authenticated"]);
    let mut process = Process::start(command).await;
    publish(accept(&listener).await, "200 OK", &jwks_of(&["old"])).await;
    process.logged("keys fetched").await;
    process.signal("HUP").await;
    publish(accept(&listener).await, "200 OK", &jwks()).await;
    process.logged("keys fetched").await;
    process.join(&format!("echo?token={}", signed())).await;
    file.write("nonsense");
    process.signal("HUP").await;
    drop(accept(&listener).await);
    let line = process.logged("keys not fetched, the old ones stay").await;
    assert!(line.contains("retry_in="), "{line}");
}

#[tokio::test]
async fn published_keys_are_fetched_and_stay_when_a_fetch_fails() {
    let (listener, remote) = issuer(FetchPolicy {
        refresh: Duration::from_millis(1),
        ..FetchPolicy::default()
    })
    .await;
    let server = guarded_by(&remote).await;
    let good = signed();
    let answer = with_token(&server, &good).await;
    assert_eq!(
        answer.status, 503,
        "nobody can tell before the keys are there"
    );
    assert_eq!(answer.header("retry-after"), Some("1"));

    let fetching = refresh(&server, remote);
    publish(accept(&listener).await, "200 OK", &jwks()).await;
    // The next fetch shows that the one before is done.
    let other = jwks().replace(ED25519_X, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    publish(accept(&listener).await, "500 Oh", &other).await;
    publish(accept(&listener).await, "200 OK", "{}").await;
    drop(accept(&listener).await);
    let request = with("/ws/whoami", &format!("Authorization: Bearer {good}"));
    assert_eq!(called(&server, &request).await.1, "alice");
    fetching.abort();
}

/// The executable, which fetches keys from this host at the listener's port.
async fn fetching(listener: &TcpListener, host: &str, ca: &Scratch) -> Process {
    let port = listener.local_addr().expect("it is bound").port();
    let url = format!("https://{host}:{port}/keys");
    let mut command = busline(&["--listen", "127.0.0.1:0", "--auth-jwks-url", &url]);
    command.args(["--auth-jwks-ca", ca.path(), "--auth-audiences", "busline"]);
    command.args(["--join", "authenticated"]);
    Process::start(command).await
}

#[tokio::test]
async fn keys_are_fetched_through_tls_from_whom_the_authority_vouches_for() {
    let ca = Scratch::new("jwks-ca.pem", A[0]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut process = fetching(&listener, "localhost", &ca).await;
    let stream = secured(accept(&listener).await).await.expect("it trusts");
    publish(stream, "200 OK", &jwks()).await;
    let line = process.logged("keys fetched").await;
    assert!(line.contains("https://localhost:"), "{line}");
    process.join(&format!("echo?token={}", signed())).await;
}

#[tokio::test]
async fn a_server_of_keys_that_nobody_vouches_for_is_not_believed() {
    let (own, other) = (
        Scratch::new("jwks-own.pem", A[0]),
        Scratch::new("jwks-other.pem", B[0]),
    );
    for (host, ca, word) in [
        ("localhost", &other, "UnknownIssuer"),
        ("127.0.0.1", &own, "not valid for name"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut process = fetching(&listener, host, ca).await;
        let shaken = secured(accept(&listener).await).await;
        // In TLS 1.3 the server may be done before it is told that it is not believed.
        if let Ok(mut stream) = shaken {
            let read = soon(stream.read_u8()).await;
            assert!(read.is_err(), "{host}: it is asked for keys");
        }
        let line = process.logged("keys not fetched").await;
        assert!(line.contains("cannot trust the server"), "{line}");
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_is_of_no_use_is_named_at_the_start() {
    let empty = Scratch::new("jwks-empty.pem", "");
    let url = ["--auth-jwks-url", "https://localhost:1/"];
    let file = ["--auth-jwks-ca", empty.path()];
    let clear = ["--auth-jwks-url", "http://localhost:1/"];
    for (arguments, word) in [
        ([url, file].concat(), empty.path()),
        (
            [url, ["--auth-jwks-ca", "no/such/file"]].concat(),
            "no/such/file",
        ),
        ([clear, file].concat(), "https://"),
        (file.to_vec(), "https://"),
    ] {
        let output = output(&mut busline(&arguments)).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(word), "{word}: {error}");
    }
}
