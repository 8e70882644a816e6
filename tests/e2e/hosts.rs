//! Hosts that requests name, on real sockets: what the gate in front of the routes learns of a
//! connection, and what people learn of a request that is refused.

use busline::server::bind;
use busline::service::echo;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::http::ask;
use crate::process::{Process, busline};
use crate::raw::{Raw, wish};
use crate::server::{Server, soon};
use crate::settings::Scratch;

/// A wish of a page whose name was made to lead here.
fn rebound(path: &str) -> String {
    let page = "Host: rebound.example\r\nOrigin: http://rebound.example";
    wish(path).replace("Host: localhost", page)
}

/// The head of the answer on a connection of any kind.
async fn head<S>(mut stream: S, request: &str) -> String
where
    S: tokio::io::AsyncRead + AsyncWrite + Unpin,
{
    let sent = soon(stream.write_all(request.as_bytes())).await;
    sent.expect("the server reads");
    soon(stream.flush()).await.expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    String::from_utf8(head).expect("a head is text")
}

#[tokio::test]
async fn a_connection_over_loopback_is_one_though_every_address_is_listened_on() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let Ok(listeners) = bind(address).await else {
            eprintln!("skipped: there is no {address} here");
            continue;
        };
        let port = listeners.addresses().expect("it is bound")[0].port();
        let _server = Server::start_on(listeners, |app| app.service("echo", echo));
        for (request, status) in [(rebound("/ws/echo"), "421"), (wish("/ws/echo"), "101")] {
            let loopback = if address.starts_with('[') {
                "::1"
            } else {
                "127.0.0.1"
            };
            let stream = soon(TcpStream::connect((loopback, port))).await;
            let head = head(stream.expect("it listens"), &request).await;
            assert_eq!(head.split(' ').nth(1), Some(status), "{address}: {head}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn no_page_reaches_a_file_and_so_any_host_may_be_named_there() {
    let path = format!("busline-{}-hosts.sock", std::process::id());
    let path = std::env::temp_dir().join(path);
    let listeners = bind(&format!("unix:{}", path.display())).await;
    let listeners = listeners.expect("a free path");
    let _server = Server::start_on(listeners, |app| app.service("echo", echo));
    let stream = soon(UnixStream::connect(&path)).await.expect("it listens");
    let head = head(stream, &rebound("/ws/echo")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_refused_host_is_told_which_setting_lists_those_that_are_not() {
    let server = Server::standard().await;
    let answer = ask(&server, &rebound("/ws/echo")).await;
    assert_eq!(answer.status, 421);
    assert!(answer.body().contains("`hosts`"), "{}", answer.body());
    assert_eq!(server.status("echo").counts.starts, 0, "nobody was let in");
}

#[tokio::test]
async fn the_log_names_the_origin_and_the_host_of_a_page_that_is_refused() {
    let mut process = Process::start(busline(&["--listen", "127.0.0.1:0"])).await;
    let mut raw = Raw::connect_to(process.address).await;
    let page = "\r\nOrigin: https://a.test\u{e9}\"\r\n\r\n";
    raw.send(wish("/ws/echo").replace("\r\n\r\n", page).as_bytes())
        .await;
    raw.end().await;
    let line = process.logged("request refused").await;
    for word in ["WARN", "https://a.test\\\\xc3\\\\xa9", "host=\"localhost\""] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let mut raw = Raw::connect_to(process.address).await;
    raw.send(rebound("/").as_bytes()).await;
    raw.end().await;
    let line = process.logged("request refused").await;
    for word in [
        "`hosts`",
        "origin=\"http://rebound.example\"",
        "host=\"rebound.example\"",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[tokio::test]
async fn a_hangup_takes_over_hosts() {
    let file = Scratch::new("hosts.toml", "");
    let arguments = ["--listen", "127.0.0.1:0", "--config", file.path()];
    let mut process = Process::start(busline(&arguments)).await;
    let status = async || {
        let mut raw = Raw::connect_to(process.address).await;
        raw.send(rebound("/ws/echo").as_bytes()).await;
        raw.head().await[9..12].to_owned()
    };
    assert_eq!(status().await, "421");
    file.write("hosts = [\"*.example\"]\n");
    process.signal("HUP").await;
    let line = process.logged("settings reloaded").await;
    assert!(line.contains("taken over: hosts"), "{line}");
    let mut raw = Raw::connect_to(process.address).await;
    raw.send(rebound("/ws/echo").as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
}
