//! Clients that have nothing more to say, and still listen.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use busline::Limits;
use busline::service::echo;
use tokio::net::TcpStream;

use crate::admin::Operators;
use crate::http::Answer;
use crate::limits::undecided;
use crate::raw::{Raw, wish};
use crate::server::Server;

/// A client that has said all this, and has ended its side, before the server looks at it.
fn said(address: SocketAddr, bytes: &[u8]) -> Raw {
    let mut stream = std::net::TcpStream::connect(address).expect("the server listens");
    stream.write_all(bytes).expect("the system takes it");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    stream.set_nonblocking(true).expect("it is a socket");
    Raw::on(TcpStream::from_std(stream).expect("it is a socket"))
}

/// Reads to the end, which is an orderly one.
async fn answer(mut raw: Raw) -> Answer {
    let answer = raw.end().await;
    Answer::parse(std::str::from_utf8(&answer).expect("text"))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test]
async fn a_whole_request_is_answered_though_nothing_follows_it() {
    let server = Server::standard().await;
    let operators = Operators::of(&server).await;
    for (address, path, status) in [
        (server.address(), "/", 200),
        (server.address(), "/healthz", 200),
        (server.address(), "/ws/echo", 426),
        (server.address(), "/nothing", 404),
        (operators.address(), "/healthz", 200),
        (operators.address(), "/metrics", 200),
    ] {
        for _ in 0..10 {
            let answer = answer(said(address, get(path).as_bytes())).await;
            assert_eq!(answer.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn a_whole_request_is_answered_whatever_follows_it() {
    let server = Server::standard().await;
    // More than one read takes, so that the socket still has some of it when it is closed.
    for more in [get("/healthz").repeat(2), "\r\n".repeat(50_000)] {
        let bytes = get("/healthz") + &more;
        let answer = answer(said(server.address(), bytes.as_bytes())).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(
            answer.body(),
            "ok\n",
            "one answer, which says that it is the last"
        );
    }
}

#[tokio::test]
async fn an_upgrade_is_answered_and_its_session_ends() {
    let server = Server::standard().await;
    for _ in 0..10 {
        let answer = answer(said(server.address(), wish("/ws/echo").as_bytes())).await;
        assert_eq!(answer.status, 101);
    }
    server.until_left("echo").await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_while_it_is_decided_about_is_answered() {
    let (_server, open, mut first) = undecided(Limits::default()).await;
    first.half_close().await;
    // The server sees the end before it decides.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    open.send(()).expect("it is waited for");
    assert!(first.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_keeps_its_place_no_longer_than_its_deadline() {
    let limits = Limits {
        handshakes: NonZeroUsize::MIN,
        handshake_timeout: Duration::from_secs(10),
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("echo", echo)).await;
    // A body that never comes to its end.
    let post = "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    drop(said(server.address(), post.as_bytes()));
    let answer = answer(said(server.address(), get("/healthz").as_bytes())).await;
    assert_eq!(answer.status, 200);
}
