//! The bounds that protect a server from its clients.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busline::authorize::{Authorize, ConnectRequest, Denied};
use busline::identity::Identity;
use busline::limits::{KeepalivePolicy, Rate};
use busline::service::echo;
use busline::{DisplaceReason, Limits};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::client::Client;
use crate::http::ask;
use crate::raw::{CLOSE, PING, Raw, wish};
use crate::server::{Server, soon};

async fn limited(limits: Limits) -> Server {
    Server::start(|app| app.limits(limits).service("echo", echo)).await
}

#[tokio::test]
async fn a_client_above_the_limit_of_sessions_is_refused_until_one_leaves() {
    let limits = Limits {
        sessions: 2,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let first = Client::connect(&server, "echo").await;
    let mut second = Client::connect(&server, "echo").await;
    let answer = ask(&server, &wish("/ws/echo")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(server.app().counts().sessions.refused, 1);
    first.close(1000, "").await;
    server
        .until("there is room", |server| server.app().sessions_open() == 1)
        .await;
    let mut third = Client::connect(&server, "echo").await;
    second.round_trip("was here").await;
    third.round_trip("is new").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed_at_the_handshake_timeout() {
    slow_handshake(b"").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_finished_is_closed_at_the_handshake_timeout() {
    slow_handshake(b"GET /ws/echo HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
}

async fn slow_handshake(start: &[u8]) {
    let limit = Duration::from_secs(5);
    let limits = Limits {
        handshake_timeout: limit,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let begin = Instant::now();
    let mut raw = Raw::connect(&server).await;
    raw.send(start).await;
    raw.end().await;
    assert!(begin.elapsed() >= limit, "not before");
    // A connection has twice that for its whole request and the answer.
    assert!(begin.elapsed() < 2 * limit, "and not by another timeout");
}

#[tokio::test]
async fn a_request_head_may_fill_its_bound_and_not_reach_it() {
    const BYTES: usize = 8192;
    let limits = Limits {
        request_head_bytes: BYTES,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let wish = wish("/ws/echo");
    let filled = |bytes: usize| {
        let header = "X-Filler: ";
        let letters = bytes - wish.len() - header.len() - 2;
        wish.replace(
            "\r\n\r\n",
            &format!("\r\n{header}{}\r\n\r\n", "a".repeat(letters)),
        )
    };
    let mut allowed = Raw::connect(&server).await;
    allowed.send(filled(BYTES - 1).as_bytes()).await;
    assert!(allowed.head().await.starts_with("HTTP/1.1 101 "));
    // One that has not come to its end by then has no end that would be in time.
    let mut refused = Raw::connect(&server).await;
    refused.send(&filled(BYTES + 4).as_bytes()[..BYTES]).await;
    assert!(refused.head().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_session_outlives_the_handshake_timeout() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = limited(limits).await;
    let mut client = Client::connect(&server, "echo").await;
    // Another connection shows that the time has passed.
    Raw::connect(&server).await.end().await;
    Raw::connect(&server).await.end().await;
    client.round_trip("still here").await;
}

/// A bound at which only a connection that gives way makes room: none ends by its deadline.
fn patient(limits: Limits) -> Limits {
    Limits {
        handshake_timeout: Duration::from_secs(3600),
        ..limits
    }
}

/// Two silent connections, of which the first makes room for a client, and the second does not.
async fn the_oldest_gives_way(limits: Limits, reason: DisplaceReason) {
    let server = limited(patient(limits)).await;
    let mut first = Raw::connect(&server).await;
    first.send(b"GET /healthz HTTP/1.1\r\n").await;
    let mut second = Raw::connect(&server).await;
    server
        .until("both are accepted", |server| {
            server.app().counts().sessions.accepted == 2
        })
        .await;
    let mut client = Client::connect(&server, "echo").await;
    client.round_trip("in the place of the first").await;
    first.end().await;
    second
        .send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(second.head().await.starts_with("HTTP/1.1 200 "));
    let counts = server.app().counts().sessions;
    assert_eq!(counts.displaced_for(reason), 1);
    assert_eq!(counts.displaced_by.iter().sum::<u64>(), 1);
    assert_eq!(counts.accepts_refused, 0);
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

#[tokio::test]
async fn for_a_connection_above_the_limit_of_handshakes_the_oldest_silent_one_gives_way() {
    let limits = Limits {
        handshakes: TWO,
        ..Limits::default()
    };
    the_oldest_gives_way(limits, DisplaceReason::Handshakes).await;
}

#[tokio::test]
async fn for_one_of_an_address_with_too_many_handshakes_the_oldest_of_these_gives_way() {
    let limits = Limits {
        handshakes_per_address: TWO,
        ..Limits::default()
    };
    the_oldest_gives_way(limits, DisplaceReason::HandshakesPerAddress).await;
}

#[tokio::test]
async fn a_silent_connection_of_a_proxy_gives_way_at_the_limit_of_all() {
    let limits = Limits {
        handshakes: TWO,
        handshakes_per_address: NonZeroUsize::MIN,
        proxies: vec!["127.0.0.1".parse().expect("a network")],
        ..Limits::default()
    };
    the_oldest_gives_way(limits, DisplaceReason::Handshakes).await;
}

/// Decides about nobody before it is told to, and counts those who ask.
#[derive(Clone)]
struct Gate {
    opened: Shared<oneshot::Receiver<()>>,
    asked: Arc<AtomicUsize>,
}

impl Authorize for Gate {
    fn connect(&self, _: ConnectRequest) -> BoxFuture<'static, Result<Identity, Denied>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let opened = self.opened.clone();
        async {
            opened.await.map_or(
                Err(Denied::Unavailable {
                    retry_after: Duration::from_secs(1),
                }),
                |()| Ok(Identity::anonymous()),
            )
        }
        .boxed()
    }
}

/// A server that decides about its first client when it is told to, and the client.
pub(crate) async fn undecided(limits: Limits) -> (Server, oneshot::Sender<()>, Raw) {
    let (open, opened) = oneshot::channel();
    let gate = Gate {
        opened: opened.shared(),
        asked: Arc::default(),
    };
    let asked = Arc::clone(&gate.asked);
    let server = Server::start(|app| {
        app.limits(patient(limits))
            .authorize(gate)
            .service("echo", echo)
    });
    let server = server.await;
    let mut first = Raw::connect(&server).await;
    first.send(wish("/ws/echo").as_bytes()).await;
    let is_asked = |_: &Server| asked.load(Ordering::SeqCst) == 1;
    server.until("it is asked about", is_asked).await;
    (server, open, first)
}

#[tokio::test]
async fn a_connection_that_is_served_gives_way_to_nobody_who_waits_for_its_place() {
    let limits = Limits {
        handshakes: NonZeroUsize::MIN,
        ..Limits::default()
    };
    let (server, open, mut first) = undecided(limits).await;
    let mut second = Raw::connect(&server).await;
    second.send(wish("/ws/echo").as_bytes()).await;
    let accepted = |server: &Server| server.app().counts().sessions.accepted == 2;
    server.until("it has come", accepted).await;
    open.send(()).expect("it is waited for");
    for raw in [&mut first, &mut second] {
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    }
    let counts = server.app().counts().sessions;
    assert_eq!(counts.displaced_by.iter().sum::<u64>(), 0);
}

#[tokio::test]
async fn a_connection_of_an_address_all_of_whose_are_served_is_closed_without_a_word() {
    let limits = Limits {
        handshakes_per_address: NonZeroUsize::MIN,
        ..Limits::default()
    };
    let (server, open, mut first) = undecided(limits).await;
    Raw::connect(&server).await.end().await;
    let counts = server.app().counts().sessions;
    assert_eq!(counts.accepts_refused, 1);
    assert_eq!(counts.displaced_by.iter().sum::<u64>(), 0);
    open.send(()).expect("it is waited for");
    assert!(first.head().await.starts_with("HTTP/1.1 101 "));
    // Sessions are no handshakes.
    let mut client = Client::connect(&server, "echo").await;
    client.round_trip("there is a place").await;
}

#[tokio::test]
async fn a_client_that_keeps_its_connection_after_the_answer_takes_nobodys_place() {
    let limits = Limits {
        handshakes_per_address: NonZeroUsize::MIN,
        close_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let server = limited(patient(limits)).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(&server).await;
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert!(raw.end().await.starts_with(b"HTTP/1.1 200 "));
        kept.push(raw);
    }
    let mut client = Client::connect(&server, "echo").await;
    client.round_trip("beside them").await;
}

#[tokio::test]
async fn connections_beyond_the_rate_wait_and_all_get_in() {
    let limits = Limits {
        accepts: Rate::new(20, 2),
        ..Limits::default()
    };
    let server = limited(limits).await;
    let begin = Instant::now();
    for number in 0..4 {
        let mut client = Client::connect(&server, "echo").await;
        client.round_trip(&number.to_string()).await;
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(90),
        "two waited for 50 ms each"
    );
    assert!(server.app().counts().sessions.accepts_delayed >= 2);
}

#[tokio::test]
async fn sessions_are_counted_by_the_clients_address_and_not_by_the_proxys() {
    let limits = Limits {
        sessions_per_address: 1,
        proxies: vec!["127.0.0.1".parse().expect("a network")],
        ..Limits::default()
    };
    let server = limited(limits).await;
    let forwarded = |address: &str| {
        let end = format!("\r\nX-Forwarded-For: {address}\r\n\r\n");
        wish("/ws/echo").replace("\r\n\r\n", &end)
    };
    let mut clients = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut raw = Raw::connect(&server).await;
        raw.send(forwarded(address).as_bytes()).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "), "{address}");
        clients.push(raw);
    }
    // What the client wrote itself, left of what the proxy has appended, changes nothing.
    let answer = ask(&server, &forwarded("203.0.113.7, 192.0.2.2")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn nobody_but_a_proxy_may_say_where_it_comes_from() {
    let limits = Limits {
        sessions_per_address: 1,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let _first = Client::connect(&server, "echo").await;
    let claim = "\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    let answer = ask(&server, &wish("/ws/echo").replace("\r\n\r\n", claim)).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_loses_its_lease() {
    let keepalive = KeepalivePolicy {
        interval: Duration::from_millis(50),
        pong_timeout: Duration::from_millis(50),
    };
    let limits = Limits {
        keepalive,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let mut silent = Raw::join(&server, "echo").await;
    assert_eq!(silent.frame().await.0, PING);
    let (first, payload) = silent.frame().await;
    let said = (first, payload.split_first_chunk());
    let code = 1011_u16.to_be_bytes();
    assert_eq!(said, (CLOSE, Some((&code, &b"no answer to a ping"[..]))));
    silent.end().await;
    server.until_left("echo").await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let keepalive = KeepalivePolicy {
        interval: Duration::from_millis(20),
        pong_timeout: Duration::from_secs(10),
    };
    let limits = Limits {
        keepalive,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let mut client = Client::connect(&server, "echo").await;
    for _ in 0..5 {
        let ping = soon(client.next()).await;
        assert!(ping.is_ping(), "{ping:?}");
    }
    client.round_trip("alive").await;
}
