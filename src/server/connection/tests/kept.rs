//! Connections of callers, which are kept from one call to the next.

use std::num::NonZeroUsize;

use super::*;
use crate::caller::{Key, Keys, Rights};
use crate::limits::{ApiLimits, Limits};
use crate::server::pipe::head;
use crate::server::serve;
use crate::service::echo;

const KEY: &str = "all-rights-0123456789abcdef01234567";

const SECOND: Duration = Duration::from_secs(1);

fn app_with(limits: Limits) -> App<Tokio> {
    let key = Key::new(KEY, Rights::all("all")).expect("long enough");
    let app = App::builder(Tokio::current()).api_keys(Keys::new([key]));
    let app = app.limits(limits).api_public(true).service("echo", echo);
    app.expect("it is valid").build()
}

fn app() -> App<Tokio> {
    app_with(Limits::default())
}

/// The listener for clients, which serves the API, too.
fn clients(app: &App<Tokio>) -> Dial {
    let (dial, pipes) = pipes("127.0.0.1:1");
    let served = serve(pipes, app.clone(), std::future::pending());
    app.rt().spawn(Box::pin(async move {
        let _ended = served.await;
    }));
    dial
}

/// A request of a caller; the header lines end in CRLF.
fn request(method: &str, version: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /api/{method} HTTP/{version}\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn info() -> String {
    request("info", "1.1", "", "{}")
}

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn send(stream: &mut DuplexStream, bytes: &str) {
    let sent = stream.write_all(bytes.as_bytes()).await;
    sent.expect("the server reads");
}

/// The next response: its status, the values of `Connection`, and its body.
async fn response(stream: &mut DuplexStream) -> (u16, Vec<String>, String) {
    let head = head(stream).await.to_ascii_lowercase();
    let values = |name: &str| {
        let lines = head.lines().filter_map(|line| line.strip_prefix(name));
        Vec::from_iter(lines.map(|value| value.trim().to_owned()))
    };
    let length = &values("content-length:")[0];
    let mut body = vec![0; length.parse().expect("a number")];
    let read = stream.read_exact(&mut body).await;
    read.expect("a whole body");
    let status = head[9..12].parse().expect("a status");
    let body = String::from_utf8(body).expect("text");
    (status, values("connection:"), body)
}

/// Sends a request whose response leaves the connection open.
async fn call(stream: &mut DuplexStream) {
    send(stream, &info()).await;
    let (status, connection, body) = response(stream).await;
    assert_eq!((status, connection), (200, vec![]), "{body}");
}

/// Asserts that the response is the last one, and that the end of the stream follows at once.
async fn last(app: &App<Tokio>, stream: &mut DuplexStream, expected: u16) {
    let (status, connection, body) = response(stream).await;
    assert_eq!(
        (status, &*connection.concat()),
        (expected, "close"),
        "{body}"
    );
    ends(app, stream, Duration::ZERO).await;
}

/// Asserts that the stream ends after this time without another byte.
async fn ends(app: &App<Tokio>, stream: &mut DuplexStream, after: Duration) {
    let began = app.rt().now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("an orderly end");
    assert_eq!(String::from_utf8_lossy(&rest), "");
    assert_eq!(app.rt().now().saturating_since(began), after);
}

async fn pass(app: &App<Tokio>, time: Duration) {
    app.rt().sleep_until(app.rt().now() + time).await;
}

fn kept(app: &App<Tokio>) -> u64 {
    app.caller_counts().connections
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_calls_until_it_was_idle_for_its_time() {
    let app = app();
    let idle = app.limits().api.idle_timeout;
    for dial in [clients(&app), operators(&app)] {
        let mut stream = dial.connect(4096);
        for _ in 0..100 {
            call(&mut stream).await;
            pass(&app, idle - SECOND).await;
        }
        call(&mut stream).await;
        assert_eq!(kept(&app), 1);
        ends(&app, &mut stream, idle).await;
        drop(stream);
        pass(&app, SECOND).await;
        assert_eq!(kept(&app), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_further_request_has_the_time_of_a_first_one() {
    let app = app();
    let limit = app.limits().handshake_timeout;
    let dial = clients(&app);
    let head = info().replace("{}", "");
    for (part, after) in [("P", limit), (&*head, limit * 2)] {
        let mut stream = dial.connect(4096);
        call(&mut stream).await;
        pass(&app, limit * 3).await;
        send(&mut stream, part).await;
        ends(&app, &mut stream, after).await;
        // The head has its time from its first byte, and not from a later one.
        let mut stream = dial.connect(4096);
        call(&mut stream).await;
        send(&mut stream, &part[..1]).await;
        pass(&app, limit - SECOND).await;
        send(&mut stream, &part[1..]).await;
        ends(&app, &mut stream, after - (limit - SECOND)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_further_response_that_is_not_taken_ends_after_the_time_of_a_request() {
    let app = app();
    let limit = app.limits().handshake_timeout * 2;
    let mut stream = clients(&app).connect(100);
    call(&mut stream).await;
    pass(&app, SECOND).await;
    let kept = super::kept(&app, stream, &info()).await;
    assert!((limit..=limit + SECOND).contains(&kept), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let app = app();
    let mut stream = clients(&app).connect(64);
    // Numbers whose remainders tell a lost, a doubled or a swapped request.
    let is_bad = |number: &usize| [3, 5].iter().any(|part| number.is_multiple_of(*part));
    let call = |number| request("info", "1.1", "", if is_bad(&number) { "{" } else { "{}" });
    let calls = (0..40).map(call);
    let all = String::from_iter(calls.chain([PROBE.to_owned(), info()]));
    let (mut reads, mut writes) = tokio::io::split(&mut stream);
    let ask = async { writes.write_all(all.as_bytes()).await };
    let answers = async {
        let mut answers = Vec::new();
        reads.read_to_end(&mut answers).await.map(|_| answers)
    };
    let (asked, answers) = futures::join!(ask, answers);
    asked.expect("the server reads to the end");
    let answers = String::from_utf8(answers.expect("an orderly end")).expect("text");
    let statuses = answers.match_indices("HTTP/1.1 ");
    let statuses = statuses.map(|(at, _)| &answers[at + 9..at + 12]);
    let expected = (0..40).map(|number| if is_bad(&number) { "400" } else { "200" });
    let expected = Vec::from_iter(expected.chain(["200"]));
    assert_eq!(Vec::from_iter(statuses), expected, "{answers}");
    assert!(
        answers.ends_with("ok\n"),
        "the probe is the last one: {answers}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_has_its_answer_and_the_end_at_once() {
    let app = app();
    let dial = clients(&app);
    for calls in 0..3 {
        // The narrow one takes a response in several parts, before which the end has come.
        for (requests, bytes) in [(1, 64), (2, 4096), (0, 4096)] {
            let mut stream = dial.connect(bytes);
            for _ in 0..calls {
                call(&mut stream).await;
            }
            send(&mut stream, &info().repeat(requests)).await;
            stream.shutdown().await.expect("it is connected");
            if requests > 0 {
                pass(&app, SECOND).await;
            }
            for _ in 0..requests {
                assert_eq!(response(&mut stream).await.0, 200);
            }
            ends(&app, &mut stream, Duration::ZERO).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_before_it_is_answered_has_its_answer() {
    let app = app();
    let mut stream = clients(&app).connect(4096);
    let whole = info();
    let (head, body) = whole.split_at(whole.len() - 2);
    for is_last in [false, true] {
        send(&mut stream, head).await;
        pass(&app, SECOND).await;
        send(&mut stream, body).await;
        if is_last {
            stream.shutdown().await.expect("it is connected");
        }
        assert_eq!(response(&mut stream).await.0, 200);
    }
    ends(&app, &mut stream, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn as_many_connections_are_kept_as_may_be() {
    for most in [0, 2] {
        let app = app_with(Limits {
            api: ApiLimits {
                connections: most,
                ..ApiLimits::default()
            },
            ..Limits::default()
        });
        let dial = clients(&app);
        let mut streams = Vec::new();
        for _ in 0..most {
            let mut stream = dial.connect(4096);
            call(&mut stream).await;
            streams.push(stream);
        }
        let mut further = dial.connect(4096);
        send(&mut further, &info()).await;
        last(&app, &mut further, 200).await;
        let counts = app.caller_counts();
        assert_eq!((counts.connections, counts.unkept), (most as u64, 1));
        for stream in &mut streams {
            call(stream).await;
        }
        if streams.pop().is_some() {
            pass(&app, SECOND).await;
            call(&mut dial.connect(4096)).await;
        }
    }
}

/// One slot for connections that have no whole request yet.
fn narrow() -> Limits {
    Limits {
        handshakes: NonZeroUsize::MIN,
        handshakes_per_address: NonZeroUsize::MIN,
        ..Limits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn kept_connections_and_strangers_leave_each_other_their_places() {
    let app = app_with(narrow());
    let dial = clients(&app);
    let mut streams = Vec::new();
    for _ in 0..9 {
        let mut stream = dial.connect(4096);
        call(&mut stream).await;
        streams.push(stream);
    }
    // A request that is being served, and a head that is arriving, hold no slot either.
    send(&mut streams[0], &info().replace("{}", "{")).await;
    send(&mut streams[1], "POST ").await;
    let mut silent = dial.connect(4096);
    send(&mut silent, "GET ").await;
    for stream in &mut streams[2..] {
        call(stream).await;
    }
    assert_eq!(dial.status(PROBE).await, 200, "the silent one gives way");
    ends(&app, &mut silent, Duration::ZERO).await;
    send(&mut streams[0], "}").await;
    send(&mut streams[1], &info()["POST ".len()..]).await;
    for stream in &mut streams[..2] {
        assert_eq!(response(stream).await.0, 200);
    }
    assert_eq!(kept(&app), 9);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_call_of_a_known_caller_is_closed_as_ever() {
    let app = app();
    let dial = clients(&app);
    let alive = "Connection: keep-alive\r\n";
    let wrong = info().replace(KEY, "wrong");
    let without = info().replace(&format!("X-API-Key: {KEY}\r\n"), alive);
    let long = app.limits().api.body_bytes + 1;
    for (request, status) in [
        (PROBE.replace("\r\n\r\n", &format!("\r\n{alive}\r\n")), 200),
        (PROBE.replace("healthz", "nothing"), 404),
        (PROBE.replace("healthz", "ws/echo"), 426),
        (wrong, 401),
        (without, 401),
        (info().replace("info", "info?api_key=k"), 401),
        (info().replace("info", "nothing"), 404),
        (info().replace("POST", "PUT"), 405),
        (info().replace("Length: 2", &format!("Length: {long}")), 413),
    ] {
        for calls in 0..2 {
            let mut stream = dial.connect(4096);
            for _ in 0..calls {
                call(&mut stream).await;
            }
            send(&mut stream, &request).await;
            if status == 413 {
                let _more = stream.write_all(&vec![b' '; long - 2]).await;
            }
            let (found, connection, body) = response(&mut stream).await;
            assert_eq!(found, status, "{request}: {body}");
            assert!(
                connection.concat().ends_with("close"),
                "{request}: {connection:?}"
            );
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("an orderly end");
            assert_eq!(rest, b"", "{request}");
        }
    }
    pass(&app, app.limits().close_timeout).await;
    assert_eq!(kept(&app), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_says_whether_its_connection_is_kept() {
    let app = app();
    let dial = clients(&app);
    let (alive, close) = ("Connection: keep-alive\r\n", "Connection: close\r\n");
    for (version, headers, connection, is_kept) in [
        ("1.1", close, &["close"][..], false),
        ("1.1", alive, &[], true),
        ("1.0", "", &[], false),
        ("1.0", close, &[], false),
        ("1.0", alive, &["keep-alive"], true),
    ] {
        let mut stream = dial.connect(4096);
        for _ in 0..3 {
            send(&mut stream, &request("info", version, headers, "{}")).await;
            let (status, found, _) = response(&mut stream).await;
            assert_eq!(status, 200);
            assert_eq!(found, connection, "{version} {headers}");
            if !is_kept {
                break;
            }
        }
        let idle = app.limits().api.idle_timeout;
        let after = if is_kept { idle } else { Duration::ZERO };
        ends(&app, &mut stream, after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_with_its_whole_body_leaves_the_connection_open() {
    let app = app();
    let mut stream = clients(&app).connect(4096);
    for (body, status) in [("{", 400), ("{\"channel\":\"no:1\",\"data\":1}", 200)] {
        send(&mut stream, &request("publish", "1.1", "", body)).await;
        let (found, connection, _) = response(&mut stream).await;
        assert_eq!((found, connection), (status, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_idle_connections_at_once_and_others_after_their_response() {
    let app = app();
    let dial = clients(&app);
    let mut idle = dial.connect(4096);
    call(&mut idle).await;
    let mut first = dial.connect(4096);
    let whole = info();
    let (head, body) = whole.split_at(whole.len() - 2);
    send(&mut first, head).await;
    let mut later = dial.connect(4096);
    call(&mut later).await;
    send(&mut later, head).await;
    let mut arriving = dial.connect(4096);
    call(&mut arriving).await;
    send(&mut arriving, "POST ").await;
    pass(&app, SECOND).await;
    app.drain();
    ends(&app, &mut idle, Duration::ZERO).await;
    send(&mut first, body).await;
    send(&mut later, body).await;
    send(&mut arriving, &whole["POST ".len()..]).await;
    for mut stream in [first, later, arriving] {
        last(&app, &mut stream, 200).await;
    }
    let mut new = dial.connect(4096);
    send(&mut new, &info()).await;
    last(&app, &mut new, 200).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_ends_after_the_answer_to_a_call() {
    let app = app();
    let (dial, pipes) = pipes("127.0.0.1:1");
    let (shut_down, told) = futures::channel::oneshot::channel::<()>();
    let served = serve(pipes, app.clone(), async { told.await.unwrap_or_default() });
    let ask = async {
        let mut stream = dial.connect(4096);
        call(&mut stream).await;
        let whole = info();
        let (head, body) = whole.split_at(whole.len() - 2);
        send(&mut stream, head).await;
        pass(&app, SECOND).await;
        drop(shut_down);
        pass(&app, SECOND / 2).await;
        send(&mut stream, body).await;
        last(&app, &mut stream, 200).await;
    };
    let (served, ()) = futures::join!(served, ask);
    served.expect("nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_back_ends_its_connections_with_their_next_request() {
    let app = app();
    let mut stream = clients(&app).connect(4096);
    call(&mut stream).await;
    let mut policies = (*app.policies()).clone();
    policies.api_keys = Keys::default();
    app.replace_policies(policies);
    send(&mut stream, &info()).await;
    last(&app, &mut stream, 401).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_can_be_a_session_after_its_calls() {
    let app = app_with(narrow());
    let dial = clients(&app);
    let mut stream = dial.connect(4096);
    call(&mut stream).await;
    let upgrade = "GET /ws/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    send(&mut stream, upgrade).await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(!answer.contains("close"), "{answer}");
    pass(&app, SECOND).await;
    assert_eq!((app.sessions_open(), kept(&app)), (1, 0));
    drop(stream);
    let mut stream = dial.connect(4096);
    call(&mut stream).await;
    let events = "GET /sse/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";
    send(&mut stream, events).await;
    let answer = head(&mut stream).await;
    assert!(answer.contains("connection: close"), "{answer}");
    // The events have the deadlines of a session, and not those of a request.
    pass(&app, app.limits().api.idle_timeout * 2).await;
    assert_eq!(app.sessions_open(), 1);
}
