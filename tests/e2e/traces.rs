//! Traces: what a collector is sent, and what becomes of the server while it is sent nothing.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::auth::{SECRET, now, token};
use crate::process::{Process, busline};
use crate::raw::{CLOSE, Raw, TEXT, close, frame};
use crate::server::soon;

/// A field of a message of Protocol Buffers: what it holds, with its number where that matters.
enum Field<'a> {
    Bytes(u64, &'a [u8]),
    Number(u64),
}

/// Takes a number of variable length off the front.
fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let number = tag >> 3;
        fields.push(match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Bytes(number, take(&mut bytes, 8)),
            2 => {
                let length = varint(&mut bytes);
                Field::Bytes(number, take(&mut bytes, length as usize))
            }
            5 => Field::Bytes(number, take(&mut bytes, 4)),
            kind => panic!("no kind of field: {kind}"),
        });
    }
    fields
}

/// The messages in the fields of this number.
fn inside(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let found = |field| match field {
        Field::Bytes(number, bytes) if number == wanted => Some(bytes),
        Field::Bytes(..) | Field::Number(_) => None,
    };
    fields(bytes).into_iter().filter_map(found).collect()
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The attributes in the fields of this number, as text.
fn attributes(bytes: &[u8], number: u64) -> BTreeMap<String, String> {
    let pair = |pair: &[u8]| {
        let value = fields(inside(pair, 2)[0])
            .into_iter()
            .map(|field| match field {
                Field::Bytes(_, text) => string(text),
                Field::Number(number) => number.to_string(),
            });
        (string(inside(pair, 1)[0]), value.collect())
    };
    inside(bytes, number).into_iter().map(pair).collect()
}

/// The name of the service that a request is of, and its spans: their names and attributes.
fn spans(request: &[u8]) -> Vec<(String, String, BTreeMap<String, String>)> {
    let mut spans = Vec::new();
    for resource in inside(request, 1) {
        let of = attributes(inside(resource, 1)[0], 1)["service.name"].clone();
        for scope in inside(resource, 2) {
            for span in inside(scope, 2) {
                let name = string(inside(span, 5)[0]);
                spans.push((of.clone(), name, attributes(span, 9)));
            }
        }
    }
    spans
}

/// Takes one request, which is for traces, and answers it.
async fn take_request(mut stream: TcpStream, status: &str) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    let head = string(&head).to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let length = head.split("content-length: ").nth(1).expect("a length");
    let length = length.lines().next().expect("a line");
    let mut body = vec![0; length.parse().expect("a number")];
    soon(stream.read_exact(&mut body)).await.expect("a body");
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    soon(stream.write_all(answer.as_bytes()))
        .await
        .expect("it reads");
    body
}

/// The executable, which sends its traces there.
async fn traced(collector: &TcpListener, arguments: &[&str]) -> Process {
    let address = collector.local_addr().expect("it is bound");
    let endpoint = format!("http://{address}");
    let mut command = busline(&["--listen", "127.0.0.1:0", "--otel-endpoint", &endpoint]);
    command.args(arguments).env("BUSLINE_AUTH_SECRET", SECRET);
    // Nothing is sent before the end, whatever the clock says.
    command.env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    Process::start(command).await
}

fn good() -> String {
    let claims = format!(
        r#"{{"sub":"alice","services":["echo"],"exp":{}}}"#,
        now() + 600
    );
    token(r#"{"alg":"HS256"}"#, &claims, SECRET)
}

#[tokio::test]
async fn a_collector_is_told_of_each_connection_and_of_nothing_that_is_said() {
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    // Without any line of a log, so that traces are seen not to depend on it.
    let process = traced(&collector, &["--log", "off"]).await;
    let (token, said, reason) = (good(), "a secret that is said", "a secret reason");
    let joined = process.join(&format!("echo?token={token}")).await;
    let staying = process.join(&format!("echo?token={token}")).await;
    let mut leaving = Raw::on(joined);
    leaving.send(&frame(TEXT, said.as_bytes())).await;
    assert_eq!(leaving.frame().await.1, said.as_bytes());
    let farewell = [&4000_u16.to_be_bytes()[..], reason.as_bytes()].concat();
    leaving.send(&frame(CLOSE, &farewell)).await;
    assert_eq!(leaving.closed().await.0, 4000);
    drop(leaving);
    process.signal("TERM").await;
    let mut staying = Raw::on(staying);
    assert_eq!(staying.closed().await.0, 1001);
    staying.send(&close(1001)).await;
    drop(staying);
    let (stream, _) = soon(collector.accept()).await.expect("it sends");
    let request = take_request(stream, "200 OK").await;
    assert_eq!(process.end().await.0, Some(0));

    for secret in [token.as_str(), SECRET, said, reason, "token="] {
        let found = string(&request).contains(secret);
        assert!(!found, "`{secret}` is in what is exported");
    }
    let spans = spans(&request);
    assert_eq!(spans.len(), 2, "{spans:?}");
    for (client, cause, code) in [("1", "peer_closed", "4000"), ("2", "drained", "1001")] {
        let span = spans.iter().find(|(_, _, span)| span["client"] == client);
        let (of, name, span) = span.unwrap_or_else(|| panic!("{client}: {spans:?}"));
        assert_eq!((of.as_str(), name.as_str()), ("busline", "connection"));
        assert_eq!(span["service"], "echo");
        assert_eq!(span["subject"], "alice");
        assert_eq!(span["address"], "127.0.0.1");
        assert_eq!(
            (span["cause"].as_str(), span["code"].as_str()),
            (cause, code)
        );
    }
}

#[tokio::test]
async fn a_share_of_none_and_another_name_are_kept() {
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let process = traced(&collector, &["--otel-sampling", "0"]).await;
    drop(process.join(&format!("echo?token={}", good())).await);
    process.signal("TERM").await;
    assert_eq!(process.end().await.0, Some(0));
    let asked = std::future::poll_fn(|cx| std::task::Poll::Ready(collector.poll_accept(cx)));
    assert!(asked.await.is_pending(), "nobody has asked for a trace");

    let process = traced(&collector, &["--otel-service-name", "edge"]).await;
    drop(process.join(&format!("echo?token={}", good())).await);
    process.signal("TERM").await;
    let (stream, _) = soon(collector.accept()).await.expect("it sends");
    let spans = spans(&take_request(stream, "200 OK").await);
    assert_eq!((spans.len(), spans[0].0.as_str()), (1, "edge"), "{spans:?}");
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn a_collector_that_says_nothing_holds_nobody_up() {
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let process = traced(&collector, &["--limits-drain-timeout", "1s"]).await;
    let stream = process.join(&format!("echo?token={}", good())).await;
    drop(stream);
    process.signal("TERM").await;
    // It is taken, and that is all.
    let (_silent, _) = soon(collector.accept()).await.expect("it sends");
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("traces were left behind"), "{log}");
}

#[tokio::test]
async fn a_collector_that_refuses_is_told_of_once() {
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let process = traced(&collector, &[]).await;
    for _ in 0..2 {
        drop(process.join(&format!("echo?token={}", good())).await);
    }
    process.signal("TERM").await;
    let (stream, _) = soon(collector.accept()).await.expect("it sends");
    take_request(stream, "403 Forbidden").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("not sent"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("spans=2") && lines[0].contains("403"),
        "{log}"
    );
    assert!(!log.contains("BatchSpanProcessor"), "{log}");
}
