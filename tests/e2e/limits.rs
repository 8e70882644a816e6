//! The bounds that protect a server from its clients.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use busline::Limits;
use busline::limits::{KeepalivePolicy, Rate};
use busline::service::echo;
use tokio::time::Instant;

use crate::client::Client;
use crate::http::ask;
use crate::raw::{PING, Raw, wish};
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

#[tokio::test]
async fn a_connection_above_the_limit_of_handshakes_waits_for_its_turn() {
    let limits = Limits {
        handshakes: NonZeroUsize::MIN,
        handshake_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = limited(limits).await;
    let mut silent = Raw::connect(&server).await;
    let mut client = Client::connect(&server, "echo").await;
    client.round_trip("after the silent one").await;
    silent.end().await;
    // A session is no handshake: there is room for the next one.
    let mut other = Client::connect(&server, "echo").await;
    other.round_trip("beside it").await;
}

#[tokio::test]
async fn a_connection_of_an_address_with_too_many_handshakes_is_closed_without_a_word() {
    let limits = Limits {
        handshakes_per_address: NonZeroUsize::MIN,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let silent = Raw::connect(&server).await;
    let refused = |server: &Server| server.app().counts().sessions.accepts_refused == 1;
    Raw::connect(&server).await.end().await;
    server.until("it is counted", refused).await;
    drop(silent);
    // Sessions are no handshakes.
    loop {
        let Ok(mut first) = Client::try_connect(&server, "echo").await else {
            continue;
        };
        first.round_trip("there is a place").await;
        break;
    }
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
        missed_max: NonZeroU32::new(2).expect("2 is not 0"),
    };
    let limits = Limits {
        keepalive,
        ..Limits::default()
    };
    let server = limited(limits).await;
    let mut silent = Raw::join(&server, "echo").await;
    assert_eq!(silent.frame().await.0, PING);
    silent.end().await;
    server.until_left("echo").await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let keepalive = KeepalivePolicy {
        interval: Duration::from_millis(20),
        missed_max: NonZeroU32::MIN,
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
