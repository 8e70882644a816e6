//! Streams of events of a whole server, in memory and under virtual time.

use std::future::pending;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::channel::oneshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::app::App;
use crate::limits::{KeepalivePolicy, Limits, RelayPolicy, Retention, ServicePolicy};
use crate::metrics::CloseReason;
use crate::rt::{Clock, Random, Spawn, Tokio};
use crate::server::pipe::{Dial, head, pipes, until};
use crate::server::sse::{draw, retry};
use crate::server::{Server, Undrained};

mod cuts;

/// A server of a relay with a history, and the signal to shut it down.
struct Host {
    app: App<Tokio>,
    dial: Dial,
    shutdown: Option<oneshot::Sender<()>>,
    served: oneshot::Receiver<Result<(), Undrained>>,
    /// Drops the server at once.
    kill: Option<oneshot::Sender<()>>,
}

fn host(limits: Limits) -> Host {
    let retention = Retention {
        messages: NonZeroUsize::new(100).expect("not 0"),
        bytes: 1 << 20,
        ttl: Duration::from_secs(3_600),
        recovery_max: None,
    };
    let policy = ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention);
    let app = App::builder(Tokio::current()).limits(limits);
    let app = app
        .relay_with("news", policy)
        .expect("a valid policy")
        .build();
    let (dial, pipes) = pipes("127.0.0.1:1");
    let (shutdown, signal) = oneshot::channel();
    let (tell, served) = oneshot::channel();
    let (kill, killed) = oneshot::channel();
    let server = Server::new(app.clone());
    let serve = server.serve(pipes, async {
        let _given_or_dropped = signal.await;
    });
    app.rt().spawn(Box::pin(async move {
        let serve = Box::pin(serve);
        if let futures::future::Either::Left((ended, _)) =
            futures::future::select(serve, killed).await
        {
            drop(tell.send(ended));
        }
    }));
    Host {
        app,
        dial,
        shutdown: Some(shutdown),
        served,
        kill: Some(kill),
    }
}

impl Host {
    /// Opens a stream over a connection with a buffer of so many bytes; reads its head.
    async fn open(&self, bytes: usize) -> DuplexStream {
        let mut stream = self.dial.connect(bytes);
        let request = "GET /sse/news/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("the server reads");
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }

    fn publish(&self, text: &str) {
        let room = self.app.room("news", "a").expect("a room");
        room.record(text).expect("it has a history");
    }

    fn closed_for(&self, reason: CloseReason) -> u64 {
        self.app.counts().sessions.closed_for(reason)
    }

    async fn until_left(&self) {
        while self.app.sessions_open() > 0 {
            let soon = self.app.rt().now() + Duration::from_millis(10);
            self.app.rt().sleep_until(soon).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_at_once_and_is_kept_alive_beyond_the_time_for_a_response() {
    let host = host(Limits::default());
    let mut stream = host.open(1 << 16).await;
    until(&mut stream, ": busline\n\n").await;
    until(&mut stream, "\"offset\":0}}\n\n").await;
    let since = || host.app.rt().now().since_start();
    assert_eq!(since(), Duration::ZERO);
    for comments in 1..=40 {
        until(&mut stream, "\r\n:\n\n\r\n").await;
        assert_eq!(since(), host.app.limits().keepalive.interval * comments);
    }
    host.publish("hello");
    until(&mut stream, "data: hello\n\n").await;
    assert_eq!(host.app.sessions_open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_as_a_session_and_holds_no_slot_for_handshakes() {
    let host = host(Limits {
        handshakes: NonZeroUsize::MIN,
        ..Limits::default()
    });
    let mut streams = Vec::new();
    for sessions in 1..=3 {
        streams.push(host.open(1 << 16).await);
        assert_eq!(host.app.sessions_open(), sessions);
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(host.dial.status(health).await, 200);
    }
    assert_eq!(host.app.rt().now().since_start(), Duration::ZERO);
    host.publish("hello");
    for stream in &mut streams {
        until(stream, "data: hello\n\n").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off_after_the_time_for_a_write() {
    let host = host(Limits::default());
    let mut stream = host.open(512).await;
    let began = host.app.rt().now();
    for _ in 0..50 {
        host.publish(&"x".repeat(4_000));
    }
    host.until_left().await;
    let stuck = host.app.rt().now().saturating_since(began);
    let limit = host.app.limits().write_timeout;
    assert!(
        (limit..limit + Duration::from_secs(1)).contains(&stuck),
        "{stuck:?}"
    );
    assert_eq!(host.closed_for(CloseReason::Unwritable), 1);
    // The connection ends with its session, and its response has no end of its own.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("it is cut off");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(host.app.rt().now().saturating_since(began), stuck);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_of_a_quiet_stream_is_cut_off_by_its_keep_alives() {
    let keepalive = KeepalivePolicy {
        interval: Duration::from_secs(1),
        ..Limits::default().keepalive
    };
    let write_timeout = Duration::from_secs(3);
    let host = host(Limits {
        keepalive,
        write_timeout,
        ..Limits::default()
    });
    // The comments of a few seconds fill the buffer.
    let _stream = host.open(160).await;
    host.until_left().await;
    assert_eq!(host.closed_for(CloseReason::Unwritable), 1);
    let stuck = host.app.rt().now().since_start();
    assert!(stuck < Duration::from_secs(12), "{stuck:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_frees_its_session_within_seconds() {
    let host = host(Limits::default());
    for publishes in [false, true] {
        let mut stream = host.open(1 << 16).await;
        until(&mut stream, ": busline\n\n").await;
        drop(stream);
        let began = host.app.rt().now();
        if publishes {
            host.publish("to whom?");
        }
        host.until_left().await;
        let noticed = host.app.rt().now().saturating_since(began);
        assert!(noticed < Duration::from_secs(2), "{noticed:?}");
    }
    assert_eq!(host.closed_for(CloseReason::Lost), 2);
}

/// Draws the same number each time.
struct Drawn(u64);

impl Random for Drawn {
    fn random(&self) -> u64 {
        self.0
    }
}

#[test]
fn clients_come_back_at_times_of_their_own_from_two_to_four_seconds() {
    for (drawn, millis) in [(0, 2_000), (1, 2_001), (1_999, 3_999), (2_000, 2_000)] {
        assert_eq!(draw(&Drawn(drawn)), Duration::from_millis(millis));
        assert_eq!(retry(&Drawn(drawn)), format!("retry: {millis}\n\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_sends_the_rest_then_when_to_come_back_then_the_end() {
    let mut host = host(Limits::default());
    let mut streams = [host.open(1 << 16).await, host.open(1 << 16).await];
    host.publish("last words");
    let shutdown = host.shutdown.take().expect("it is given once");
    shutdown.send(()).expect("it is serving");
    for stream in &mut streams {
        until(stream, "data: last words\n\n").await;
        until(stream, "retry: ").await;
        let retry = until(stream, "\n\n").await;
        let retry: u64 = retry.trim().parse().expect("a number");
        assert!((2_000..4_000).contains(&retry), "{retry}");
        let mut rest = String::new();
        stream
            .read_to_string(&mut rest)
            .await
            .expect("an orderly end");
        assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
    }
    drop(streams);
    let ended = host.served.await.expect("it is told");
    assert_eq!(ended, Ok(()));
    assert_eq!(
        host.app.counts().sessions.closed_for(CloseReason::Drained),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_source_that_meets_a_server_that_drains_comes_back_and_others_are_refused() {
    let mut host = host(Limits::default());
    let mut stream = host.open(1 << 16).await;
    until(&mut stream, ": busline\n\n").await;
    let shutdown = host.shutdown.take().expect("it is given once");
    shutdown.send(()).expect("it is serving");
    until(&mut stream, "retry: ").await;
    let request = |accept: &str| {
        format!("GET /sse/news/a HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")
    };
    let refused = host.dial.ask(&request("*/*")).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let later = host.dial.ask(&request("text/event-stream")).await;
    assert!(later.starts_with("HTTP/1.1 200 "), "{later}");
    assert!(later.contains("content-type: text/event-stream; charset=utf-8\r\n"));
    let (_, retry) = later.split_once("\r\n\r\n").expect("a whole head");
    assert!(
        retry.starts_with("retry: ") && retry.ends_with("\n\n"),
        "{retry}"
    );
    assert_eq!(host.app.sessions_open(), 1, "it is no session");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_client_that_never_hangs_up_for_longer_than_for_others() {
    let mut host = host(Limits::default());
    let mut stream = host.open(1 << 16).await;
    until(&mut stream, ": busline\n\n").await;
    let shutdown = host.shutdown.take().expect("it is given once");
    shutdown.send(()).expect("it is serving");
    until(&mut stream, "0\r\n\r\n").await;
    let closed = host.app.rt().now();
    assert_eq!(
        host.app.sessions_open(),
        1,
        "the session waits for the client"
    );
    assert_eq!(host.served.await.expect("it is told"), Ok(()));
    let waited = host.app.rt().now().saturating_since(closed);
    assert!(waited <= host.app.limits().close_timeout, "{waited:?}");
    assert!(waited > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_a_server_that_is_dropped() {
    let mut host = host(Limits::default());
    let mut stream = host.open(1 << 16).await;
    until(&mut stream, ": busline\n\n").await;
    drop(host.kill.take());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("it is cut off");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    host.until_left().await;
    assert_eq!(host.app.rt().now().since_start(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stream_in_a_listener_of_an_embedder_ends_with_its_connection() {
    let host = host(Limits::default());
    let routes = crate::server::routes(host.app.clone());
    let (dial, pipes) = pipes("127.0.0.1:2");
    let shutdown = pending::<()>();
    let served = axum::serve(pipes, routes).with_graceful_shutdown(shutdown);
    host.app.rt().spawn(Box::pin(async move {
        let served: std::io::Result<()> = served.await;
        drop(served);
    }));
    let mut stream = dial.connect(1 << 16);
    let request = "GET /sse/news/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the server reads");
    until(&mut stream, ": busline\n\n").await;
    assert_eq!(host.app.sessions_open(), 1);
    drop(stream);
    host.until_left().await;
    assert_eq!(host.closed_for(CloseReason::Lost), 1);
}
