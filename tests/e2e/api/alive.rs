//! Connections that serve one call after another.

use std::net::SocketAddr;

use busline::server::bind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{Backend, KEY, parts};
use crate::admin::Operators;
use crate::http::Answer;
use crate::process::{Process, busline};
use crate::server::{Server, soon};
use crate::settings::Scratch;
use crate::tls::{A, Files, connect};
use crate::unix::path;

const PUBLISH: &str = r#"{"channel":"news:1","data":1}"#;

/// A caller that keeps its connection.
struct Caller<S>(S);

impl Caller<TcpStream> {
    async fn at(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await;
        Self(stream.expect("the server listens"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Caller<S> {
    async fn send(&mut self, text: &str) {
        let sent = async {
            self.0.write_all(text.as_bytes()).await?;
            self.0.flush().await
        };
        soon(sent).await.expect("the server reads");
    }

    /// The next response, up to the end of its body.
    async fn answer(&mut self) -> Answer {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(soon(self.0.read_u8()).await.expect("a whole head"));
        }
        let head = Answer::parse(std::str::from_utf8(&text).expect("text"));
        let length = head.header("content-length").expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        let read = soon(self.0.read_exact(&mut body)).await;
        read.expect("a whole body");
        text.extend(body);
        Answer::parse(std::str::from_utf8(&text).expect("text"))
    }

    async fn ask(&mut self, key: &str) -> Answer {
        self.send(&request(key)).await;
        self.answer().await
    }

    /// Calls, and expects that the connection stays.
    async fn call(&mut self) {
        let answer = self.ask(KEY).await;
        assert_eq!(answer.status, 200, "{}", answer.body());
        assert_eq!(answer.header("connection"), None);
    }

    /// Expects the orderly end of the stream, and nothing before it.
    async fn end(&mut self) {
        let mut rest = Vec::new();
        let read = soon(self.0.read_to_end(&mut rest)).await;
        read.expect("the server ends the stream, it does not reset it");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Expects the last response of the connection.
    async fn last(&mut self, answer: &Answer, status: u16) {
        assert_eq!(answer.status, status, "{}", answer.body());
        assert_eq!(answer.header("connection"), Some("close"));
        self.end().await;
    }
}

fn request(key: &str) -> String {
    let length = PUBLISH.len();
    format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\
         Content-Length: {length}\r\n\r\n{PUBLISH}"
    )
}

/// Calls often over one connection, and then several times before the first answer is read.
async fn calls(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut caller = Caller(stream);
    for _ in 0..100 {
        caller.call().await;
    }
    caller.send(&request(KEY).repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(caller.answer().await.status, 200);
    }
    let answer = caller.ask("wrong").await;
    caller.last(&answer, 401).await;
}

#[tokio::test]
async fn one_connection_takes_many_calls_on_each_listener_and_over_each_kind_of_stream() {
    let public = |app| Ok(parts(app)?.api_public(true));
    let server = Server::start(public).await;
    let operators = Operators::of(&server).await;
    for address in [server.address(), operators.address()] {
        calls(Caller::at(address).await.0).await;
    }
    let accepted = server.app().counts().sessions.accepted;
    assert_eq!(accepted, 2);

    let files = Files::new("alive", A);
    let listeners = bind("127.0.0.1:0").await.expect("loopback has free ports");
    let listeners = listeners.with_tls(&files.tls().expect("a certificate"));
    let mut server = Server::start_on(listeners, public);
    calls(connect(&server, A[0]).await.expect("a handshake")).await;
    let mut idle = Caller(connect(&server, A[0]).await.expect("a handshake"));
    idle.call().await;
    server.drain();
    // An end of TCP alone would be an error here.
    idle.end().await;

    let path = path("alive");
    let listeners = bind(&format!("unix:{}", path.display())).await;
    let _server = Server::start_on(listeners.expect("a free path"), public);
    calls(soon(UnixStream::connect(&path)).await.expect("it listens")).await;
}

#[tokio::test]
async fn a_drain_ends_what_is_idle_at_once_and_lets_a_call_have_its_answer() {
    let mut backend = Backend::start().await;
    let at = backend.operators.address();
    let (mut idle, mut busy) = (Caller::at(at).await, Caller::at(at).await);
    idle.call().await;
    busy.call().await;
    let whole = request(KEY);
    let (head, rest) = whole.split_at(whole.len() - 1);
    busy.send(head).await;
    let app = backend.server.app().clone();
    let in_flight = |_: &_| app.caller_counts().in_flight == 1;
    backend.server.until("it is being read", in_flight).await;
    backend.server.drain();
    idle.end().await;
    busy.send(rest).await;
    let answer = busy.answer().await;
    busy.last(&answer, 200).await;
    let Backend { server, .. } = backend;
    server.ended().await.expect("nothing is left");
}

#[tokio::test]
async fn a_reload_takes_a_key_from_a_connection_and_a_stop_ends_one_in_order() {
    let settings = |key: &str| {
        format!(
            "[room.news]\n[api]\nlisten = \"127.0.0.1:0\"\n\
             [[api.keys]]\nname = \"a\"\nkey = \"{key}\"\n"
        )
    };
    let file = Scratch::new("alive.toml", &settings(KEY));
    let mut process =
        Process::start(busline(&["--listen=127.0.0.1:0", "--config", file.path()])).await;
    let at = process
        .logged_address("listener of the API addresses=[")
        .await;
    let (mut old, mut new) = (Caller::at(at).await, Caller::at(at).await);
    old.call().await;
    new.call().await;
    let newer = KEY.replace("0123", "3210");
    file.write(&settings(&newer));
    process.signal("HUP").await;
    process.logged("settings reloaded").await;
    let answer = old.ask(KEY).await;
    old.last(&answer, 401).await;
    let answer = new.ask(&newer).await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    process.signal("TERM").await;
    new.end().await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
}
