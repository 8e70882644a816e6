//! What is answered before, and instead of, an upgrade.

use std::time::Duration;

use busline::Limits;
use busline::service::echo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{Raw, TEXT, echoes_early, frame, wish};
use crate::server::{Server, soon};

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).expect("a status");
        Self {
            status: status.parse().expect("a status is a number"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// Sends a request and reads to the end of the connection.
pub(crate) async fn ask(server: &Server, request: &str) -> Answer {
    let mut raw = Raw::connect(server).await;
    raw.send(request.as_bytes()).await;
    let answer = raw.end().await;
    Answer::parse(&String::from_utf8(answer).expect("text"))
}

async fn get(server: &Server, path: &str, accept: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:1\r\nAccept: {accept}\r\n\r\n");
    ask(server, &head).await
}

#[tokio::test]
async fn the_index_names_every_service_as_text_for_a_shell() {
    let server = Server::standard().await;
    let answer = get(&server, "/", "*/*").await;
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type");
    assert!(
        kind.is_some_and(|kind| kind.starts_with("text/plain")),
        "{kind:?}"
    );
    for name in ["echo", "ping", "timenow"] {
        let line = format!("websocat ws://localhost:1/ws/{name}\n");
        assert!(answer.body.contains(&line), "{name}: {}", answer.body);
    }
    let line = "curl -N http://localhost:1/sse/echo\n";
    assert!(answer.body.contains(line), "{}", answer.body);
}

#[tokio::test]
async fn the_index_names_every_service_as_a_page_for_a_browser() {
    let server = Server::standard().await;
    let answer = get(&server, "/", "text/html,application/xhtml+xml;q=0.9").await;
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type");
    assert!(
        kind.is_some_and(|kind| kind.starts_with("text/html")),
        "{kind:?}"
    );
    for name in ["echo", "ping", "timenow"] {
        assert!(
            answer.body.contains(&format!("<option>{name}</option>")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn healthz_is_ok() {
    let server = Server::standard().await;
    let answer = get(&server, "/healthz", "*/*").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn an_unknown_service_is_not_found_and_the_known_ones_are_named() {
    let server = Server::standard().await;
    let plain = get(&server, "/ws/pong", "*/*").await;
    let upgrade = ask(&server, &wish("/ws/pong")).await;
    for answer in [plain, upgrade] {
        assert_eq!(answer.status, 404);
        assert!(
            answer.body.contains("echo, ping, timenow"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn what_is_no_name_of_a_service_is_not_found() {
    let server = Server::standard().await;
    let long = "p".repeat(4000);
    for name in [
        "..",
        "../",
        "../healthz",
        "%2e%2e",
        "ping%2f",
        "ping%00",
        "%ff",
        "%70ing%",
        "PING",
        "Ping",
        "ping/",
        "ping/x",
        "",
        "ping%20",
        &long,
    ] {
        let answer = ask(&server, &wish(&format!("/ws/{name}"))).await;
        assert_eq!(answer.status, 404, "{name}: {}", answer.head);
    }
}

#[tokio::test]
async fn a_name_written_with_escapes_is_that_name() {
    let server = Server::standard().await;
    assert_eq!(get(&server, "/ws/%70ing", "*/*").await.status, 426);
}

#[tokio::test]
async fn a_plain_get_is_told_to_upgrade_and_to_which_version() {
    let server = Server::standard().await;
    let plain = get(&server, "/ws/ping", "*/*").await;
    let old = wish("/ws/ping").replace("Version: 13", "Version: 12");
    let old = ask(&server, &old).await;
    for answer in [plain, old] {
        assert_eq!(answer.status, 426);
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
    }
}

#[tokio::test]
async fn a_key_that_is_not_16_bytes_is_a_bad_request() {
    let server = Server::standard().await;
    for key in ["", "c2hvcnQ=", "!", "dGhlIHNhbXBsZSBub25jZQ"] {
        let bad = wish("/ws/ping").replace("dGhlIHNhbXBsZSBub25jZQ==", key);
        assert_eq!(ask(&server, &bad).await.status, 400, "{key:?}");
    }
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

#[tokio::test]
async fn another_method_than_get_is_not_allowed() {
    let server = Server::standard().await;
    for path in ["/", "/healthz", "/ws/ping"] {
        let post = wish(path).replace("GET", "POST");
        assert_eq!(ask(&server, &post).await.status, 405, "{path}");
    }
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

/// RFC 6455 4.1: the method must be GET.
#[tokio::test]
async fn a_head_cannot_upgrade() {
    let server = Server::standard().await;
    let head = wish("/ws/ping").replace("GET", "HEAD");
    assert_eq!(status(&server, &head).await, "405");
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

/// RFC 6455 4.1: the version of HTTP must be at least 1.1; RFC 9110 7.8: 1.0 cannot upgrade.
#[tokio::test]
async fn http_1_0_cannot_upgrade() {
    let server = Server::standard().await;
    let old = wish("/ws/ping").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(status(&server, &old).await, "426");
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

/// A proxy that is not told of WebSockets speaks HTTP/1.0 to its upstream, or takes headers out.
#[tokio::test]
async fn a_request_that_a_proxy_has_changed_is_told_what_to_set_there() {
    let server = Server::standard().await;
    let stripped = wish("/ws/ping").replace("Connection: Upgrade\r\nUpgrade: websocket\r\n", "");
    let closed = wish("/ws/ping").replace("Connection: Upgrade", "Connection: close");
    for (request, named) in [
        (stripped.replace("HTTP/1.1", "HTTP/1.0"), "came as HTTP/1.0"),
        (stripped, "came without `Upgrade: websocket`"),
        (closed, "came without `Connection: Upgrade`"),
    ] {
        let answer = ask(&server, &request).await;
        assert_eq!(answer.status, 426);
        assert!(answer.body.contains(named), "{}", answer.body);
        assert!(
            answer.body.contains("proxy_http_version 1.1;"),
            "{}",
            answer.body
        );
    }
}

/// A request to upgrade with these headers, and what comes together with it.
fn with_body(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = wish("/ws/echo").replace("\r\n\r\n", &format!("\r\n{headers}\r\n\r\n"));
    [head.as_bytes(), body].concat()
}

/// The bodies that a request to upgrade may announce, each of which looks like a frame.
fn bodies() -> [(&'static str, Vec<u8>); 4] {
    let hello = frame(TEXT, b"smuggled");
    let chunk = [&b"e\r\n"[..], &hello, b"\r\n0\r\n\r\n"].concat();
    [
        ("Content-Length: 14", hello),
        ("Transfer-Encoding: chunked", b"0\r\n\r\n".to_vec()),
        ("Transfer-Encoding: chunked", chunk.clone()),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", chunk),
    ]
}

fn assert_no_body(told: &str, headers: &str) {
    let answer = Answer::parse(told);
    assert_eq!(answer.status, 400, "{headers}: {told}");
    let connection = answer.header("connection");
    assert_eq!(connection, Some("Upgrade, close"), "{headers}: {told}");
    let text = "a request to upgrade has no body: ";
    assert!(
        answer.body.starts_with(text) && answer.body.lines().count() == 1,
        "{told}"
    );
}

#[tokio::test]
async fn a_body_that_comes_with_a_request_to_upgrade_is_refused_and_read_as_nothing() {
    let server = Server::standard().await;
    for (headers, body) in bodies() {
        let mut raw = Raw::connect(&server).await;
        raw.send(&with_body(headers, &body)).await;
        let told = String::from_utf8(raw.end().await).expect("text");
        assert_no_body(&told, headers);
    }
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
}

#[tokio::test]
async fn a_body_that_comes_late_is_refused_before_it_is_there_and_read_as_nothing() {
    let server = Server::standard().await;
    for (headers, body) in bodies() {
        let mut raw = Raw::connect(&server).await;
        raw.send(&with_body(headers, b"")).await;
        let mut told = raw.head().await;
        raw.send(&body).await;
        told += &String::from_utf8(raw.end().await).expect("text");
        assert_no_body(&told, headers);
    }
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
}

/// Bytes that a server has not read make the end of a connection a reset.
#[tokio::test]
async fn a_client_that_still_sends_its_body_gets_the_whole_answer() {
    let server = Server::standard().await;
    let mut raw = Raw::connect(&server).await;
    let headers = "Content-Length: 300000";
    raw.send(&with_body(headers, &[b'x'; 300_000])).await;
    let told = String::from_utf8(raw.end().await).expect("text");
    assert_no_body(&told, headers);
}

#[tokio::test]
async fn a_body_that_never_comes_holds_no_connection() {
    // Longer than this test may take.
    let limits = Limits {
        handshake_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("echo", echo)).await;
    let mut raw = Raw::connect(&server).await;
    let headers = "Content-Length: 1";
    raw.send(&with_body(headers, b"")).await;
    let told = String::from_utf8(raw.end().await).expect("text");
    assert_no_body(&told, headers);
}

#[tokio::test]
async fn a_body_of_no_bytes_is_none() {
    let server = Server::standard().await;
    for headers in [
        "Content-Length: 0",
        "Content-Length: 0\r\nExpect: 100-continue",
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(&with_body(headers, b"")).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "), "{headers}");
        raw.send(&frame(TEXT, b"hello")).await;
        assert_eq!(raw.frame().await, (TEXT, b"hello".to_vec()), "{headers}");
    }
}

#[tokio::test]
async fn a_body_without_a_sure_length_is_a_bad_request() {
    let server = Server::standard().await;
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 0\r\nContent-Length: 6",
        "Content-Length: 0, 6",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length:",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 0\r\nTransfer-Encoding: xchunked",
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(&with_body(headers, b"")).await;
        let told = raw.head().await;
        assert!(told.starts_with("HTTP/1.1 400 "), "{headers}: {told}");
        raw.end().await;
    }
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
}

/// The status of the answer, which may be one that does not end the connection.
async fn status(server: &Server, request: &str) -> String {
    let mut raw = Raw::connect(server).await;
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    head.split(' ').nth(1).expect("a status").to_owned()
}

/// Clients compare the whole value of `Connection`: `Upgrade, close` is none to some of them.
#[tokio::test]
async fn the_handshake_proves_that_the_key_was_read_and_keeps_the_connection() {
    let server = Server::standard().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(wish("/ws/ping").as_bytes()).await;
    let head = raw.head().await.to_lowercase();
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
}

#[tokio::test]
async fn frames_sent_together_with_the_request_are_not_lost() {
    let server = Server::standard().await;
    let stream = Raw::connect(&server).await.into_stream();
    echoes_early(stream, "/ws/echo").await;
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused_and_the_connection_ends() {
    let server = Server::standard().await;
    let (mut reader, mut writer) = Raw::connect(&server).await.into_stream().into_split();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let write = async {
        // It need not be taken to its end.
        drop(writer.write_all(head.as_bytes()).await);
    };
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 1024];
        // What is not read of the head makes the end a reset.
        while let Ok(length @ 1..) = reader.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    };
    soon(futures::future::join(write, read)).await;
    let answer = String::from_utf8(answer).expect("text");
    assert_eq!(Answer::parse(&answer).status, 431, "{answer}");
}
