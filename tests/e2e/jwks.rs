//! Keys that somebody publishes: fetched in the clear or through TLS, from whom they should be.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use busline::server::auth::{Jwt, JwtPolicy, Keys, Remote};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::auth::{called, claims, whoami, with, with_token};
use crate::process::{Process, busline, output, text};
use crate::server::{Server, soon};
use crate::settings::Scratch;
use crate::tls::{A, B};

/// A key of tests; its public half is `ED25519_X`.
const ED25519: &str = include_str!("../../src/server/auth/tests/ed25519.pem");
const ED25519_X: &str = "ClBFKUMlCfjU2VUuR_8I3vadjlo9wEISZVGVn20UXrM";

/// What is published.
fn jwks() -> String {
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{ED25519_X}"}}]}}"#)
}

/// A token that the published key has signed.
fn signed() -> String {
    let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
    let header = r#"{"alg":"EdDSA","kid":"k"}"#;
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims(600)));
    let signature = sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("it can be signed");
    format!("{message}.{signature}")
}

async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.expect("it is asked").0
}

/// Answers one request with this body, whatever it asks for.
async fn publish<S>(mut stream: S, status: &str, body: &str)
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

#[tokio::test]
async fn published_keys_are_fetched_and_stay_when_a_fetch_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let remote = Remote::new(format!("http://{address}/keys").parse().expect("a URL"));
    let policy = JwtPolicy {
        audiences: vec!["busline".to_owned()],
        ..JwtPolicy::default()
    };
    let jwt = Jwt::new(Keys::default(), policy).with_remote(remote.clone());
    let server = Server::start(|app| app.authorize(jwt).service("whoami", whoami)).await;
    let good = signed();
    let answer = with_token(&server, &good).await;
    assert_eq!(
        answer.status, 503,
        "nobody can tell before the keys are there"
    );
    assert_eq!(answer.header("retry-after"), Some("1"));

    let every = Duration::from_millis(1);
    let rt = server.app().rt().clone();
    let fetching = tokio::spawn(async move { remote.refresh(&rt, every).await });
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
