//! Requests that are refused, or are none; tricks and floods before the upgrade.

use std::cell::Cell;
use std::time::Duration;

use busline::Limits;
use busline::service::{echo, ping};
use futures::future::{join, join_all};
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::http::ask;
use crate::raw::{Raw, wish};
use crate::server::{Server, soon};

/// Texts the bystander sends at least.
const ROUND_TRIPS_MIN: u32 = 20;

async fn server() -> Server {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    Server::start(|app| {
        app.limits(limits)
            .service("echo", echo)?
            .service("ping", ping)
    })
    .await
}

/// Does something bad to `ping`, while somebody uses `echo`.
async fn hurts_nobody(server: &Server, attack: impl Future<Output = ()>) {
    let over = Cell::new(false);
    let attack = async {
        attack.await;
        over.set(true);
    };
    let bystander = async {
        let mut client = Client::connect(server, "echo").await;
        let mut count = 0;
        while !over.get() || count < ROUND_TRIPS_MIN {
            client.round_trip(&count.to_string()).await;
            count += 1;
        }
        client.close(1000, "done").await
    };
    let ((), closed) = join(attack, bystander).await;
    assert_eq!(closed, (1000, "done".to_owned()));
    assert_eq!(server.status("ping").counts.starts, 0, "nobody was let in");
}

/// Sends these bytes, takes whatever comes, and returns it once the connection is over.
async fn shout(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = Raw::connect(server).await.into_stream().into_split();
    let write = async {
        // It need not be taken to its end.
        drop(writer.write_all(bytes).await);
        writer
    };
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 1024];
        // What is not read of a request makes the end a reset.
        while let Ok(length @ 1..) = tokio::io::AsyncReadExt::read(&mut reader, &mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    };
    soon(join(write, read)).await;
    answer
}

#[tokio::test]
async fn pages_of_foreign_hosts() {
    let server = server().await;
    hurts_nobody(&server, async {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "localhost:1",
            "127.0.0.1",
        ] {
            let origin = format!("\r\nOrigin: https://{host}\r\n\r\n");
            let wish = wish("/ws/ping").replace("\r\n\r\n", &origin);
            assert_eq!(ask(&server, &wish).await.status, 403, "{host}");
        }
    })
    .await;
}

#[tokio::test]
async fn tricks_with_the_path() {
    let server = server().await;
    hurts_nobody(&server, async {
        for path in [
            "/ws/../ws/ping",
            "/ws/./ping",
            "//ws/ping",
            "/ws//ping",
            "/ws/ping/",
            "/ws/ping%2f..",
            "/ws/ping%00",
            "/ws/..%2fping",
            "/ws/%252e%252e",
            "/ws/ping;a",
            "/ws/p\u{131}ng",
            "/WS/ping",
        ] {
            let status = ask(&server, &wish(path)).await.status;
            assert!([400, 404].contains(&status), "{path}: {status}");
        }
    })
    .await;
}

#[tokio::test]
async fn floods_of_headers() {
    let server = server().await;
    hurts_nobody(&server, async {
        let many = "X-A: b\r\n".repeat(5_000);
        let long = format!("X-A: {}\r\n", "b".repeat(1 << 20));
        let names = (0..2_000)
            .map(|n| format!("X-{n}: b\r\n"))
            .collect::<String>();
        let folded = format!("X-A: b\r\n{}", " c\r\n".repeat(10_000));
        for flood in [many, long, names, folded] {
            let wish = wish("/ws/ping").replace("Host:", &format!("{flood}Host:"));
            let answer = shout(&server, wish.as_bytes()).await;
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
                "{answer:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_never_end() {
    let server = server().await;
    hurts_nobody(&server, async {
        let starts = [
            &b""[..],
            b"G",
            b"GET /ws/ping HTTP/1.1\r\nHost: localhost\r\nX: ",
        ];
        let slow = starts
            .iter()
            .cycle()
            .take(150)
            .map(|start| shout(&server, start));
        for answer in join_all(slow).await {
            assert!(!answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_http_at_all() {
    let server = server().await;
    hurts_nobody(&server, async {
        for noise in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00\x00\x00\x00\r\n\r\n",
            b"GET /ws/ping\r\n\r\n",
            b"GET /ws/ping HTTP/9.9\r\n\r\n",
            b"GET /ws/ping HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /ws/ping HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ] {
            let answer = shout(&server, noise).await;
            assert!(!answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
        }
    })
    .await;
}
