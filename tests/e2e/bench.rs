//! The load generator: what it counts, what it notices, and what it says when it cannot measure.

use std::process::Output;

use busline::service::{echo, ping};
use busline::{Context, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{busline, output, text};
use crate::server::Server;

/// Runs a workload against what listens there. It sleeps when there is nothing to do, as the server
/// is on the same cores, and gives up long after the test has.
async fn bench(address: impl std::fmt::Display, line: &str) -> Output {
    let url = format!("ws://{address}");
    let (workload, options) = line.split_once(' ').unwrap_or((line, ""));
    let mut arguments = vec!["bench", workload, "--url", &url, "--json"];
    arguments.extend(options.split_whitespace());
    for (option, default) in [
        ("--connect-timeout", Some("60")),
        ("--patience", Some("60")),
        ("--wait", None),
    ] {
        let is_idle = workload == "idle" && option == "--wait";
        if !is_idle && !arguments.contains(&option) {
            arguments.push(option);
            arguments.extend(default);
        }
    }
    output(&mut busline(&arguments)).await
}

/// The figures, and what was said about them.
fn figures(output: &Output) -> (Value, &str) {
    let said = text(&output.stderr);
    let figures = serde_json::from_slice(&output.stdout);
    (
        figures.unwrap_or_else(|error| panic!("{error}: {said}")),
        said,
    )
}

#[tokio::test]
async fn every_message_of_every_workload_is_delivered_and_checked() {
    let server = Server::standard().await;
    for (line, sent, delivered) in [
        ("echo --clients 3 --in-flight 4 --messages 1000", 1000, 1000),
        ("echo --clients 2 --size 60000 --messages 20", 20, 20),
        ("fan-out --clients 5 --window 7 --messages 300", 300, 1500),
        (
            "fan-out --clients 5 --publish-path /ws/ping --messages 30",
            30,
            150,
        ),
        ("broadcast --clients 4 --messages 203", 203, 812),
        ("latency --clients 3 --rate 100000 --messages 500", 500, 500),
    ] {
        let output = bench(server.address(), &format!("{line} --verify")).await;
        let (figures, said) = figures(&output);
        assert!(output.status.success(), "{line}: {said}");
        assert_eq!(figures["sent"], sent, "{line}: {figures}");
        assert_eq!(figures["delivered"], delivered, "{line}: {figures}");
        assert_eq!(figures["messages"], delivered, "{line}: {figures}");
        assert_eq!(
            (&figures["missing"], &figures["excess"]),
            (&json!(0), &json!(0))
        );
        let verified = json!({"good": delivered, "foreign": 0, "skipped": 0, "repeated": 0});
        assert_eq!(figures["verified"], verified, "{line}");
        let took = &figures["latency_us"];
        assert!(took["p50"].as_f64() <= took["max"].as_f64(), "{took}");
    }
}

#[tokio::test]
async fn without_a_check_the_counts_are_the_same() {
    let server = Server::standard().await;
    let line = "broadcast --clients 4 --size 0 --messages 100";
    let output = bench(server.address(), line).await;
    let (figures, said) = figures(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        (&figures["sent"], &figures["delivered"]),
        (&json!(100), &json!(400))
    );
    assert_eq!(figures["verified"], Value::Null);
}

#[tokio::test]
async fn idle_clients_are_connected_and_counted() {
    let server = Server::standard().await;
    let output = bench(server.address(), "idle --clients 300 --seconds 0").await;
    let (figures, said) = figures(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        (&figures["clients"], &figures["sent"]),
        (&json!(300), &json!(0))
    );
    if cfg!(target_os = "linux") {
        assert_eq!(
            figures["server"]["pid"],
            std::process::id(),
            "found by its port"
        );
        assert!(figures["server"]["resident_bytes"].as_u64() > Some(0));
    }
}

#[tokio::test]
async fn a_service_that_errs_is_found_out() {
    /// Changes the fourth message, says the sixth twice, and says nothing to the eighth.
    async fn liar(mut ctx: Context) {
        let mut count = 0;
        while let Some(message) = ctx.recv().await {
            count += 1;
            let (text, times) = match count {
                4 => ("something else".into(), 1),
                6 => (message.clone(), 2),
                8 => continue,
                _ => (message.clone(), 1),
            };
            for _ in 0..times {
                ctx.reply(&message, text.clone());
            }
        }
    }
    let server = Server::start(|app| app.service("liar", liar)).await;
    let line = "echo --service liar --clients 1 --in-flight 4 --messages 20 --verify";
    let output = bench(server.address(), line).await;
    let (figures, said) = figures(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(figures["verified"]["foreign"], 1, "{figures}");
    assert_eq!(figures["verified"]["repeated"], 1, "{figures}");
    // The changed one and the one that never came.
    assert_eq!(figures["verified"]["skipped"], 2, "{figures}");
    for part in ["not what was sent", "came twice", "left out"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn what_does_not_come_is_missing() {
    async fn silent(mut ctx: Context) {
        while ctx.recv().await.is_some() {}
    }
    let server = Server::start(|app| app.service("silent", silent)).await;
    // No patience at all: it bounds what comes after the clients are connected, and nothing else.
    let line = "echo --service silent --clients 2 --in-flight 3 --messages 100 --patience 0";
    let output = bench(server.address(), line).await;
    let (figures, said) = figures(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        (&figures["sent"], &figures["missing"]),
        (&json!(6), &json!(6))
    );
    assert!(said.contains("6 messages did not come"), "{said}");
}

#[tokio::test]
async fn lost_connections_are_told_with_their_codes() {
    let limits = Limits {
        message_bytes: 16,
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("echo", echo)).await;
    let output = bench(server.address(), "echo --clients 3 --size 17 --messages 10").await;
    let (figures, said) = figures(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lost = figures["connections_lost"].as_object().expect("a table");
    assert_eq!(lost.values().collect::<Vec<_>>(), [&json!(3)], "{lost:?}");
    assert!(
        said.contains("3 connections were closed by the server with 1009"),
        "{said}"
    );
    assert!(said.contains("--size"), "{said}");
}

/// It fails, with one line for a person.
fn refused(output: &Output) -> &str {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stdout), "", "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[tokio::test]
async fn what_cannot_be_measured_is_told_with_what_to_do() {
    let limits = Limits {
        sessions: 3,
        ..Limits::default()
    };
    let server = Server::start(|app| app.limits(limits).service("ping", ping)).await;
    let address = server.address().to_string();
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = free.local_addr().expect("it is bound").to_string();
    drop(free);
    for (address, line, parts) in [
        (
            &nobody,
            "echo",
            &["cannot connect", "`busline`", "--url"][..],
        ),
        (&address, "echo", &["404", "ping", "--service"]),
        (
            &address,
            "broadcast --clients 5",
            &["of 5", "503", "--limits-sessions"],
        ),
        (
            &address,
            "broadcast --clients 3 --size 15 --verify",
            &["--size 16"],
        ),
        (
            &address,
            "broadcast --clients 9000 --verify",
            &["fewer --clients"],
        ),
        (&address, "broadcast --pid 4294967295", &["--pid"]),
    ] {
        let output = bench(address, line).await;
        let said = refused(&output);
        for part in parts {
            assert!(said.contains(part), "{line}: {part}: {said}");
        }
    }
    let secure = output(&mut busline(&["bench", "echo", "--url", "wss://localhost"])).await;
    assert!(refused(&secure).contains("TLS"));
}

#[tokio::test]
async fn the_token_is_shown_to_the_server_and_to_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let path = std::env::temp_dir().join(format!("busline-{}-token", std::process::id()));
    std::fs::write(&path, "s3cret.t0ken\n").expect("a file");
    let server = async {
        // The first connection only asks whether somebody listens.
        let _asked = listener.accept().await.expect("a connection");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a whole head"));
        }
        let answer = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        stream.write_all(answer).await.expect("it reads");
        request
    };
    let line = format!("echo --clients 1 --token-file {}", path.display());
    let (request, output) = tokio::join!(server, bench(address, &line));
    std::fs::remove_file(&path).expect("it is there");
    assert!(text(&request).contains("\r\nAuthorization: Bearer s3cret.t0ken\r\n"));
    let said = refused(&output);
    assert!(said.contains("403") && !said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn a_ping_is_answered_at_once_and_between_messages() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = async {
        let _asked = listener.accept().await.expect("a connection");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a whole head"));
        }
        // The answer to the key that every client of the generator has, and a ping behind it.
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
            \x89\x02hi";
        stream.write_all(answer).await.expect("it reads");
        for pinged in [b"hi", b"ho"] {
            let mut pong = [0; 8];
            stream.read_exact(&mut pong).await.expect("a pong");
            assert_eq!(pong[..2], [0x8a, 0x82]);
            assert_eq!([pong[6] ^ pong[2], pong[7] ^ pong[3]], *pinged);
            let mut message = [0; 8];
            stream.read_exact(&mut message).await.expect("a message");
            assert_eq!(message[..2], [0x81, 0x82]);
            let echo = [0x81, 2, message[6] ^ message[2], message[7] ^ message[3]];
            // The next message follows this one's return, and the ping is there by then.
            let echo = [&b"\x89\x02ho"[..], &echo].concat();
            stream.write_all(&echo).await.expect("it reads");
        }
        stream
    };
    let line = "echo --clients 1 --size 2 --messages 2";
    let (_stream, output) = tokio::join!(server, bench(address, line));
    let (figures, said) = figures(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(figures["delivered"], 2);
}
