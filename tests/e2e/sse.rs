//! Server-sent events over real sockets: who gets them, from where on, and where they end.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use busline::limits::{Recovery, RelayPolicy, Retention};
use busline::origin::Origins;
use busline::rt::Tokio;
use busline::service::{echo, ping};
use busline::{App, CloseReason, Limits, RefuseReason, ServicePolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::auth::{SECRET, claims, guarded_with, token};
use crate::http::{Answer, ask};
use crate::process::{Process, busline};
use crate::raw::wish;
use crate::server::{Server, soon};
use crate::settings::Scratch;

/// A client of events, which reads a chunked response.
struct Reader {
    stream: BufReader<TcpStream>,
    head: String,
    /// The text that was read and not returned.
    text: String,
}

impl Reader {
    async fn open(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut stream = soon(TcpStream::connect(address)).await.expect("it listens");
        let request = request("GET", path, headers);
        soon(stream.write_all(request.as_bytes()))
            .await
            .expect("it reads");
        let (mut stream, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            let read = soon(stream.read_line(&mut head)).await;
            assert!(read.expect("a head is text") > 0, "a whole head: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let text = String::new();
        Self { stream, head, text }
    }

    /// Reads one more chunk; `false` at the end.
    async fn chunk(&mut self) -> bool {
        let mut length = String::new();
        let read = soon(self.stream.read_line(&mut length)).await;
        assert!(read.expect("it goes on") > 0, "the response is cut off");
        let length = usize::from_str_radix(length.trim(), 16).expect("a length");
        let mut chunk = vec![0; length + 2];
        let read = soon(self.stream.read_exact(&mut chunk)).await;
        read.expect("a whole chunk");
        self.text
            .push_str(str::from_utf8(&chunk[..length]).expect("text"));
        length > 0
    }

    /// The next event, without comments before it; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if !event.starts_with(':') {
                    return Some(event);
                }
            }
            if !self.chunk().await {
                return None;
            }
        }
    }

    async fn event(&mut self) -> String {
        self.next().await.expect("it goes on")
    }

    /// The next event, of this kind: its data as JSON, and its id.
    async fn notice(&mut self, kind: &str) -> (Value, Option<String>) {
        let event = self.event().await;
        assert_eq!(field(&event, "event").as_deref(), Some(kind), "{event}");
        let data = field(&event, "data").expect("data");
        (
            serde_json::from_str(&data).expect("JSON"),
            field(&event, "id"),
        )
    }

    /// The next event, a message: its text and its id.
    async fn message(&mut self) -> (String, Option<String>) {
        let event = self.event().await;
        assert_eq!(field(&event, "event"), None, "{event}");
        (field(&event, "data").expect("data"), field(&event, "id"))
    }
}

fn field(event: &str, name: &str) -> Option<String> {
    let mut fields = event.lines().filter_map(|line| line.split_once(": "));
    fields
        .find(|(field, _)| *field == name)
        .map(|(_, value)| value.to_owned())
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

async fn answer(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    ask(server, &request(method, path, headers)).await
}

fn last_event(id: Option<&str>) -> String {
    format!("Last-Event-ID: {}\r\n", id.expect("it has an id"))
}

fn news(recovery: Recovery) -> ServicePolicy {
    let retention = Retention {
        messages: NonZeroUsize::new(10).expect("not 0"),
        bytes: 1 << 20,
        ttl: Duration::from_secs(3_600),
        recovery_max: None,
    };
    let mut policy = ServicePolicy::of_relay(RelayPolicy::default()).with_history(retention);
    if let Some(history) = &mut policy.history {
        history.recovery = recovery;
    }
    policy
}

async fn host() -> Server {
    Server::start(|app| {
        app.relay_with("news", news(Recovery::Asked))?
            .service("ping", ping)
    })
    .await
}

fn record(app: &App<Tokio>, text: &str) -> String {
    let room = app.room("news", "a").expect("a room");
    room.record(text).expect("it has a history").to_string()
}

#[tokio::test]
async fn a_client_that_comes_back_with_its_last_id_misses_nothing_and_gets_nothing_twice() {
    let server = host().await;
    let (mut sent, mut got, mut id) = (Vec::new(), Vec::new(), None);
    for round in 0..4 {
        let headers = id
            .as_ref()
            .map_or_else(String::new, |id: &String| last_event(Some(id)));
        let mut reader = Reader::open(server.address(), "/sse/news/a", &headers).await;
        let (told, first) = match round {
            0 => reader.notice("position").await,
            _ => reader.notice("recovered").await,
        };
        assert_eq!(told.get("recovered"), (round > 0).then_some(&json!(true)));
        assert_eq!(first.as_deref().filter(|_| round > 0), id.as_deref());
        id = first;
        for n in 0..3 {
            let text = format!("{round}.{n}");
            record(server.app(), &text);
            sent.push(text);
        }
        // All that was missed, and one of the three that are new: the connection is lost then.
        while got.len() + 2 < sent.len() {
            let (text, at) = reader.message().await;
            got.push(text);
            id = at;
        }
    }
    let mut reader =
        Reader::open(server.address(), "/sse/news/a", &last_event(id.as_deref())).await;
    reader.notice("recovered").await;
    while got.len() < sent.len() {
        got.push(reader.message().await.0);
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn a_stream_that_ends_is_over_and_a_client_that_has_all_of_it_is_stopped() {
    let server = host().await;
    let mut reader = Reader::open(server.address(), "/sse/news/a", "").await;
    reader.notice("position").await;
    let id = record(server.app(), "one");
    let room = server.app().room("news", "a").expect("a key");
    let end = room.end("{\"n\":1}").expect("the first end").to_string();
    assert_eq!(reader.message().await, ("one".to_owned(), Some(id.clone())));
    let told = reader.notice("end").await;
    assert_eq!(told, (json!({ "n": 1 }), Some(end.clone())));
    assert_eq!(reader.next().await, None, "the response is over");
    // Its end was lost on the way.
    let mut again = Reader::open(server.address(), "/sse/news/a", &last_event(Some(&id))).await;
    again.notice("recovered").await;
    assert_eq!(again.notice("end").await.1, Some(end.clone()));
    assert_eq!(again.next().await, None);
    for (path, headers) in [
        ("/sse/news/a".to_owned(), last_event(Some(&end))),
        (format!("/sse/news/a?since={end}"), String::new()),
    ] {
        let stopped = answer(&server, "GET", &path, &headers).await;
        assert_eq!((stopped.status, stopped.body()), (204, ""), "{path}");
    }
    let left = |server: &Server| server.app().sessions_open() == 0;
    server.until("the readers have left", left).await;
    let counts = server.app().counts().sessions;
    assert_eq!(counts.closed_for(CloseReason::Ended), 2);
}

#[tokio::test]
async fn a_client_of_a_server_that_has_lost_its_histories_is_told_so() {
    let (first, second) = (host().await, host().await);
    let id = record(first.app(), "lost");
    record(second.app(), "other");
    let headers = last_event(Some(&id));
    let mut reader = Reader::open(second.address(), "/sse/news/a", &headers).await;
    let (told, at) = reader.notice("recovered").await;
    assert_eq!(
        (&told["recovered"], &told["why"]),
        (&json!(false), &json!("epoch"))
    );
    let next = record(second.app(), "next");
    assert_eq!(reader.message().await, ("next".to_owned(), Some(next)));
    // And goes on from there.
    let headers = last_event(at.as_deref());
    let mut reader = Reader::open(second.address(), "/sse/news/a", &headers).await;
    assert_eq!(reader.notice("recovered").await.0["recovered"], json!(true));
    assert_eq!(reader.message().await.0, "next");
}

#[tokio::test]
async fn a_query_says_where_a_stream_begins_and_a_bad_one_is_refused_with_words() {
    let server = host().await;
    let ids = ["a", "b", "c"].map(|text| record(server.app(), text));
    for (query, id, kind, texts) in [
        ("", None, "position", &[][..]),
        ("?since=start", None, "recovered", &["a", "b", "c"]),
        ("?history=2", None, "position", &["b", "c"]),
        (&format!("?since={}", ids[1]), None, "recovered", &["c"]),
        ("?since=start", Some(&ids[1]), "recovered", &["c"]),
        ("?history=2", Some(&ids[0]), "recovered", &["b", "c"]),
    ] {
        let path = format!("/sse/news/a{query}");
        let headers = id.map_or_else(String::new, |id| last_event(Some(id)));
        let mut reader = Reader::open(server.address(), &path, &headers).await;
        reader.notice(kind).await;
        for text in texts {
            assert_eq!(reader.message().await.0, *text, "{query} {id:?}");
        }
    }
    for (query, headers, words) in [
        ("?since=7", "", "`since` is the position"),
        ("?history=all", "", "`history` is a number"),
        ("", "Last-Event-ID: 7\r\n", "`Last-Event-ID` is the id"),
        (
            "?since=start",
            "Last-Event-ID: x:7\r\n",
            "`Last-Event-ID` is the id",
        ),
    ] {
        let path = format!("/sse/news/a{query}");
        let refused = answer(&server, "GET", &path, headers).await;
        assert_eq!(refused.status, 400, "{query} {headers}");
        assert!(refused.body().contains(words), "{}", refused.body());
    }
    // Without a history the query is the service's own.
    let own = Reader::open(
        server.address(),
        "/sse/ping?since=7",
        "Last-Event-ID: 7\r\n",
    );
    drop(own.await);
}

#[tokio::test]
async fn a_stream_says_of_itself_what_browsers_and_proxies_need_to_know() {
    let server = host().await;
    let reader = Reader::open(server.address(), "/sse/ping", "").await;
    let head = reader.head.to_lowercase();
    for header in [
        "content-type: text/event-stream; charset=utf-8\r\n",
        "cache-control: no-cache, no-transform\r\n",
        "x-accel-buffering: no\r\n",
        "vary: origin\r\n",
    ] {
        assert!(head.contains(header), "{head}");
    }
    assert!(
        !head.contains("access-control"),
        "no page has asked: {head}"
    );
}

#[tokio::test]
async fn messages_of_a_service_are_events_and_bytes_are_base64() {
    let server = host().await;
    let mut reader = Reader::open(server.address(), "/sse/ping", "").await;
    let mut client = crate::client::Client::connect(&server, "ping").await;
    client.send("two\nlines").await;
    assert_eq!(reader.event().await, "data: two\ndata: lines");
    client.send(vec![1_u8, 2]).await;
    assert_eq!(reader.event().await, "event: binary\ndata: AQI=");
    assert_eq!(server.status("ping").clients, 2);
    drop(reader);
    let one = |server: &Server| server.status("ping").clients == 1;
    server.until("the reader is gone", one).await;
    let counts = server.app().counts().sessions;
    assert_eq!(counts.closed_for(CloseReason::Lost), 1);
}

#[tokio::test]
async fn other_methods_and_other_paths_are_refused() {
    let server = host().await;
    for method in ["HEAD", "POST", "PUT", "DELETE"] {
        for path in ["/sse/ping", "/sse/news/a"] {
            let refused = answer(&server, method, path, "").await;
            assert_eq!(refused.status, 405, "{method} {path}");
            assert_eq!(refused.header("allow"), Some("GET, OPTIONS"), "{method}");
            assert_eq!(refused.header("cache-control"), Some("no-store"));
        }
    }
    for (path, words) in [
        ("/sse/none", "there is no such service"),
        ("/sse/none/a", "there is no such service"),
        ("/sse/news", "name one"),
        ("/sse/news/", "name one"),
        ("/sse/ping/a", "no rooms"),
        ("/sse/%ff", "there is no such service"),
        ("/sse/", "there is nothing here"),
        ("/sse/news/a/b", "there is nothing here"),
    ] {
        let refused = answer(&server, "GET", path, "").await;
        assert_eq!(refused.status, 404, "{path}");
        assert!(refused.body().contains(words), "{path}: {}", refused.body());
    }
    // A body would hide the end of the connection.
    for body in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
        let refused = answer(&server, "GET", "/sse/ping", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.body().contains("no body"), "{}", refused.body());
        assert_eq!(refused.header("cache-control"), Some("no-store"));
    }
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused_and_others_may_read() {
    let page = "https://app.example";
    let origins = Origins::new(vec![page.parse().expect("a pattern")]);
    let server = Server::start(|app| app.origins(origins).service("echo", echo)).await;
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: https://app.example\r\nOrigin: https://app.example\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
    ] {
        for method in ["GET", "OPTIONS"] {
            let refused = answer(&server, method, "/sse/echo", headers).await;
            assert_eq!(refused.status, 403, "{method} {headers}");
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
    }
    let refused = server.app().counts().sessions;
    assert_eq!(refused.refused_for(RefuseReason::Origin), 8);
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
    let asks = format!(
        "Origin: {page}\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Headers: authorization,last-event-id\r\n"
    );
    let preflight = answer(&server, "OPTIONS", "/sse/echo", &asks).await;
    assert_eq!(preflight.status, 204);
    let allowed = [
        ("access-control-allow-origin", page),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, OPTIONS"),
        (
            "access-control-allow-headers",
            "Authorization, Last-Event-ID",
        ),
        ("vary", "Origin"),
    ];
    for (name, value) in allowed {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    assert_eq!(server.status("echo").counts.starts, 0, "it only asks");
    let from = format!("Origin: {page}\r\nSec-Fetch-Site: cross-site\r\n");
    let reader = Reader::open(server.address(), "/sse/echo", &from).await;
    let allows = format!("access-control-allow-origin: {page}\r\n");
    assert!(reader.head.contains(&allows), "{}", reader.head);
    let refused = answer(&server, "GET", "/sse/none", &from).await;
    assert_eq!(refused.status, 404, "a page may read why");
    assert_eq!(refused.header("access-control-allow-origin"), Some(page));
    // A page of the server's own host.
    Reader::open(
        server.address(),
        "/sse/echo",
        "Origin: http://localhost\r\n",
    )
    .await;
}

fn signed(seconds: i64, secret: &str) -> String {
    token(r#"{"alg":"HS256"}"#, &claims(seconds), secret)
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_and_the_query_and_an_expired_one_stops_the_client() {
    let server = guarded_with(true).await;
    let (good, expired) = (signed(600, SECRET), signed(-600, SECRET));
    let forged = signed(600, "another secret of at least 32 bytes");
    let ways = |token: &str| {
        [
            (String::new(), format!("Authorization: Bearer {token}\r\n")),
            (format!("?token={token}"), String::new()),
        ]
    };
    for (query, header) in ways(&good) {
        Reader::open(server.address(), &format!("/sse/whoami{query}"), &header).await;
    }
    for (token, path, status) in [
        (&expired, "/sse/whoami", 204),
        (&expired, "/sse/open", 204),
        (&forged, "/sse/whoami", 401),
        (&good, "/sse/other", 403),
    ] {
        for (query, header) in ways(token) {
            let refused = answer(&server, "GET", &format!("{path}{query}"), &header).await;
            assert_eq!(refused.status, status, "{path} {query} {header}");
        }
    }
    assert_eq!(answer(&server, "GET", "/sse/whoami", "").await.status, 401);
    // A client of a WebSocket is told in words.
    let refused = ask(&server, &wish(&format!("/ws/whoami?token={expired}"))).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.body(), "the token has expired\n");
}

#[tokio::test]
async fn where_no_token_may_be_in_the_query_one_is_refused_and_told_where_it_may_be() {
    let server = guarded_with(false).await;
    let good = signed(600, SECRET);
    let query = format!("whoami?token={good}");
    let upgrade = ask(&server, &wish(&format!("/ws/{query}"))).await;
    let stream = answer(&server, "GET", &format!("/sse/{query}"), "").await;
    for refused in [upgrade, stream] {
        assert_eq!(refused.status, 401);
        assert!(
            refused.body().contains("`auth.query_token`"),
            "{}",
            refused.body()
        );
        assert!(!refused.body().contains(&good));
    }
    let counts = server.app().counts().sessions;
    assert_eq!(counts.refused_for(RefuseReason::Unauthorized), 2);
    let header = format!("Authorization: Bearer {good}\r\n");
    Reader::open(server.address(), "/sse/whoami", &header).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does_and_the_client_is_stopped_then() {
    let server = guarded_with(true).await;
    let short = signed(2, SECRET);
    let path = format!("/sse/whoami?token={short}");
    let mut reader = Reader::open(server.address(), &path, "").await;
    assert_eq!(reader.next().await, None, "an orderly end");
    drop(reader);
    let is_counted = |server: &Server| {
        let counts = server.app().counts().sessions;
        counts.closed_for(CloseReason::Expired) == 1
    };
    server.until("the session has ended", is_counted).await;
    assert_eq!(answer(&server, "GET", &path, "").await.status, 204);
}

#[tokio::test]
async fn a_stream_takes_a_place_and_one_above_the_limit_is_told_when_to_try_again() {
    let limits = Limits {
        sessions: 1,
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("echo", echo)).await;
    let reader = Reader::open(server.address(), "/sse/echo", "").await;
    for request in [request("GET", "/sse/echo", ""), wish("/ws/echo")] {
        let refused = ask(&server, &request).await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    drop(reader);
    server.until_left("echo").await;
    let free = |server: &Server| server.app().sessions_open() == 0;
    server.until("the place is free", free).await;
    Reader::open(server.address(), "/sse/echo", "").await;
}

#[tokio::test]
async fn no_token_is_in_any_log_whatever_the_level_and_whatever_comes_of_it() {
    let settings = format!("[auth]\nsecret = \"{SECRET}\"\n[service.ping]\njoin = \"granted\"\n");
    let settings = Scratch::new("sse-tokens.toml", &settings);
    let arguments = [
        "--config",
        settings.path(),
        "--log",
        "trace",
        "--log-lines",
        "100000",
    ];
    let mut command = busline(&arguments);
    command.args(["--listen", "127.0.0.1:0", "--auth-audiences", "busline"]);
    let process = Process::start(command).await;
    let grants = claims(600).replace("who*", "ping");
    let good = token(r#"{"alg":"HS256"}"#, &grants, SECRET);
    let tokens = [
        good.clone(),
        signed(600, SECRET),
        signed(-600, SECRET),
        "a.b.c".to_owned(),
    ];
    for token in &tokens {
        let header = format!("Authorization: Bearer {token}\r\n");
        let query = format!("/sse/ping?token={token}&nick=ann");
        let upgrade = wish(&format!("/ws/ping?token={token}"));
        for request in [
            request("GET", "/sse/ping", &header),
            request("GET", &query, ""),
            upgrade,
        ] {
            let mut stream = soon(TcpStream::connect(process.address))
                .await
                .expect("it listens");
            let sent = soon(stream.write_all(request.as_bytes())).await;
            sent.expect("it reads");
            let mut first = [0; 12];
            let read = soon(stream.read_exact(&mut first)).await;
            read.expect("an answer");
        }
    }
    process.signal("TERM").await;
    let (_, log) = process.end().await;
    assert!(
        log.contains("a token was rejected"),
        "the log is a whole one: {log}"
    );
    for token in &tokens {
        assert!(!log.contains(token), "{token} is in the log");
        for part in token.split('.').filter(|part| part.len() > 1) {
            assert!(!log.contains(part), "{part} is in the log");
        }
    }
}
