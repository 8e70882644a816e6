//! TLS: the same server behind a handshake, whose certificate can be renewed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use busline::Limits;
use busline::server::{Reloaded, Tls, TlsError, bind};
use busline::service::echo;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::raw::{echoes_early, wish};
use crate::server::{Server, soon};
use crate::settings::Scratch;

pub(crate) const A: [&str; 2] = [include_str!("keys/a.pem"), include_str!("keys/a.key.pem")];
pub(crate) const B: [&str; 2] = [include_str!("keys/b.pem"), include_str!("keys/b.key.pem")];

/// A certificate and its key in files.
pub(crate) struct Files([Scratch; 2]);

impl Files {
    pub(crate) fn new(name: &str, pair: [&str; 2]) -> Self {
        let [certificate, key] = pair;
        Self([
            Scratch::new(&format!("{name}.pem"), certificate),
            Scratch::new(&format!("{name}.key"), key),
        ])
    }

    pub(crate) fn tls(&self) -> Result<Tls, TlsError> {
        let [certificate, key] = &self.0;
        Tls::read(certificate.as_ref(), key.as_ref())
    }

    /// Replaces both, later than they were written.
    fn replace(&self, pair: [&str; 2], seconds: u64) {
        for (file, text) in self.0.iter().zip(pair) {
            file.write(text);
            let opened = std::fs::File::options().append(true).open(file);
            let later = SystemTime::now() + Duration::from_secs(seconds);
            let set = opened.and_then(|file| file.set_modified(later));
            set.expect("a test may change its own file");
        }
    }
}

async fn secured(tls: &Tls, limits: Limits) -> Server {
    let listeners = bind("127.0.0.1:0").await.expect("loopback has free ports");
    let listeners = listeners.with_tls(tls);
    Server::start_on(listeners, |app| app.limits(limits).service("echo", echo))
}

/// Connects to a server that has this certificate.
pub(crate) async fn connect(
    server: &Server,
    certificate: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = soon(TcpStream::connect(server.address())).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn join(server: &Server, certificate: &str) -> Socket {
    let stream = connect(server, certificate).await.expect("it is trusted");
    let upgrade = Box::pin(client_async("wss://localhost/ws/echo", stream));
    let (socket, _) = soon(upgrade).await.expect("it upgrades");
    socket
}

async fn round_trip(socket: &mut Socket, text: &str) {
    soon(socket.send(Message::text(text)))
        .await
        .expect("it reads");
    let back = soon(socket.next())
        .await
        .expect("a message")
        .expect("a message");
    assert_eq!(back, Message::text(text));
}

#[tokio::test]
async fn a_page_of_a_rebound_name_is_refused_through_tls_as_without() {
    let files = Files::new("rebound", A);
    let server = secured(&files.tls().expect("a pair"), Limits::default()).await;
    let stream = connect(&server, A[0]).await.expect("it is trusted");
    let upgrade = Box::pin(client_async("wss://rebound.example/ws/echo", stream));
    let refused = soon(upgrade).await.expect_err("it is refused");
    let is_misdirected = matches!(&refused, Error::Http(answer) if answer.status() == 421);
    assert!(is_misdirected, "{refused}");
}

#[tokio::test]
async fn a_service_is_reached_through_tls_and_a_close_is_an_orderly_end() {
    let files = Files::new("reached", A);
    let mut server = secured(&files.tls().expect("a pair"), Limits::default()).await;
    let mut socket = join(&server, A[0]).await;
    round_trip(&mut socket, &"long ".repeat(10_000)).await;
    server.drain();
    let close = soon(socket.next())
        .await
        .expect("a close")
        .expect("a close");
    assert!(close.is_close(), "{close:?}");
    assert!(soon(socket.next()).await.is_none());
    drop(socket);
    server.ended().await.expect("nothing is left");
}

#[tokio::test]
async fn frames_sent_together_with_the_request_are_not_lost_in_tls() {
    let files = Files::new("early", A);
    let server = secured(&files.tls().expect("a pair"), Limits::default()).await;
    let stream = connect(&server, A[0]).await.expect("it is trusted");
    echoes_early(stream, "/ws/echo").await;
}

#[tokio::test]
async fn a_certificate_is_renewed_and_nobody_is_dropped() {
    let files = Files::new("renewed", A);
    let tls = files.tls().expect("a pair");
    let server = secured(&tls, Limits::default()).await;
    let mut old = join(&server, A[0]).await;
    assert_eq!(tls.reload(), Ok(Reloaded::Unchanged));
    files.replace(["nonsense", B[1]], 1);
    assert!(tls.reload().is_err());
    files.replace([B[0], A[1]], 2);
    assert!(matches!(tls.reload(), Err(TlsError::Pair(_))));
    let mut between = join(&server, A[0]).await;
    files.replace(B, 3);
    assert_eq!(tls.reload(), Ok(Reloaded::Changed));
    let mut new = join(&server, B[0]).await;
    assert!(connect(&server, A[0]).await.is_err(), "the old one is gone");
    for socket in [&mut old, &mut between, &mut new] {
        round_trip(socket, "still here").await;
    }
}

#[tokio::test]
async fn a_handshake_of_tls_is_inside_the_deadline_and_its_place() {
    let files = Files::new("slow", A);
    let limits = Limits {
        handshake_timeout: Duration::from_millis(100),
        handshakes: std::num::NonZeroUsize::MIN,
        ..Limits::default()
    };
    let server = secured(&files.tls().expect("a pair"), limits).await;
    // Nothing, and the start of a record that never comes to its end.
    for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let begin = Instant::now();
        let mut slow = soon(TcpStream::connect(server.address()))
            .await
            .expect("it listens");
        slow.write_all(start).await.expect("it is taken");
        let mut rest = Vec::new();
        // A reset is an end as well.
        let ended = soon(slow.read_to_end(&mut rest)).await;
        assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
        assert!(begin.elapsed() >= Duration::from_millis(100), "not before");
    }
    let mut socket = join(&server, A[0]).await;
    round_trip(&mut socket, "there is a place again").await;
}

#[tokio::test]
async fn a_client_without_tls_gets_no_answer_of_http() {
    let files = Files::new("plain", A);
    let server = secured(&files.tls().expect("a pair"), Limits::default()).await;
    let mut plain = soon(TcpStream::connect(server.address()))
        .await
        .expect("it listens");
    plain
        .write_all(wish("/ws/echo").as_bytes())
        .await
        .expect("it is taken");
    let mut answer = Vec::new();
    drop(soon(plain.read_to_end(&mut answer)).await);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
}
