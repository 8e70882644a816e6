//! What a publish over the API costs: `cargo bench --bench api`.
//!
//! Programs of their own serve kept connections on loopback: busline; a bare axum handler that
//! parses the same JSON and does nothing; and, with `CENTRIFUGO=path/to/centrifugo`, Centrifugo.
//! The CPU time is that of the serving process, user and system, for each publish into one of a few
//! rooms without clients. Rounds alternate between the programs; the smallest time of each is the
//! least disturbed. Linux only.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::program::{Program, free_address, settings, started};

mod program;

const KEY: &str = "a-key-of-a-benchmark-0123456789abcdef";

/// Publishes in one measurement.
const PUBLISHES: usize = 30_000;

/// Commands in a batch.
const BATCH: usize = 100;

/// Measurements of each kind.
const ROUNDS: usize = 9;

fn busline() -> Program {
    let address = free_address();
    let keys = format!("[room.news]\n[[api.keys]]\nname = \"bench\"\nkey = \"{KEY}\"\n");
    let file = settings("api-bench.toml", &keys);
    let mut command = Command::new(env!("CARGO_BIN_EXE_busline"));
    command.args(["--config", &file, "--listen", "127.0.0.1:0"]);
    command.args(["--admin", &address.to_string()]);
    started("busline", command.stdout(Stdio::null()), address)
}

fn bare() -> Program {
    let address = free_address();
    let own = std::env::current_exe().expect("this program has a file");
    let mut command = Command::new(own);
    command.args(["--bare", &address.to_string()]);
    started("a bare handler", &mut command, address)
}

fn centrifugo() -> Option<Program> {
    let program = std::env::var("CENTRIFUGO").ok()?;
    let address = free_address();
    let text = format!(
        r#"{{"log":{{"level":"error"}},"usage_stats":{{"disabled":true}},
            "http_server":{{"address":"127.0.0.1","port":{}}},"http_api":{{"key":"{KEY}"}},
            "channel":{{"namespaces":[{{"name":"news"}}]}}}}"#,
        address.port()
    );
    let file = settings("api-bench.json", &text);
    let mut command = Command::new(program);
    command.args(["--config", &file]);
    Some(started(
        "Centrifugo",
        command.stdout(Stdio::null()),
        address,
    ))
}

#[derive(Deserialize)]
struct Publish {
    channel: String,
    data: Box<RawValue>,
}

/// Serves the bare handler.
async fn serve_bare(address: &str) {
    let handler = async |body: Bytes| {
        let publish: Publish = serde_json::from_slice(&body).expect("JSON of a publish");
        assert!(!publish.channel.is_empty() && !publish.data.get().is_empty());
        ([("content-type", "application/json")], r#"{"result":{}}"#)
    };
    let listener = TcpListener::bind(address).await.expect("it is free");
    let routes = Router::new().route("/api/publish", post(handler));
    axum::serve(listener, routes).await.expect("it serves");
}

fn request(method: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /api/{method} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn publish(room: usize) -> String {
    format!(r#"{{"channel":"news:{room}","data":{{"headline":"It works","count":17}}}}"#)
}

fn batch() -> String {
    let commands = (0..BATCH).map(|room| format!(r#"{{"publish":{}}}"#, publish(room % 8)));
    format!(
        r#"{{"commands":[{}]}}"#,
        commands.collect::<Vec<_>>().join(",")
    )
}

/// Sends one request after the other on a kept connection, and reads each response.
async fn call(address: SocketAddr, request: Vec<u8>, times: usize) {
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    stream.set_nodelay(true).expect("it is a socket");
    let mut response = vec![0; 1 << 16];
    for _ in 0..times {
        stream.write_all(&request).await.expect("it is kept");
        let mut read = 0;
        while !is_whole(&response[..read]) {
            let more = stream
                .read(&mut response[read..])
                .await
                .expect("it is kept");
            assert!(more > 0, "the connection ended");
            read += more;
        }
        assert!(response.starts_with(b"HTTP/1.1 200"), "refused");
    }
}

/// Whether a response is whole, which has a length or is chunked.
fn is_whole(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => body.len() >= length.parse::<usize>().expect("a length"),
        None => body.ends_with("0\r\n\r\n"),
    }
}

/// The CPU time of the program for one publish of so many, in microseconds.
async fn measured(program: &Program, connections: usize, method: &str, each: usize) -> f64 {
    let body = |room: usize| match each {
        1 => publish(room % 8),
        _ => batch(),
    };
    let times = PUBLISHES / connections / each;
    let before = program.cpu();
    let calls =
        (0..connections).map(|room| call(program.address, request(method, &body(room)), times));
    join_all(calls).await;
    let publishes = times * connections * each;
    (program.cpu() - before) * 1e6 / publishes as f64
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--bare") {
        return serve_bare(&arguments[at + 1]).await;
    }
    let programs: Vec<_> = [Some(bare()), Some(busline()), centrifugo()]
        .into_iter()
        .flatten()
        .collect();
    println!("us of CPU a publish    1 connection   64 connections   of a batch of {BATCH}");
    let kinds = [(1, "publish", 1), (64, "publish", 1), (1, "batch", BATCH)];
    let mut best = vec![[f64::MAX; 3]; programs.len()];
    for _ in 0..ROUNDS {
        for (kind, (connections, method, each)) in kinds.into_iter().enumerate() {
            for (program, best) in programs.iter().zip(&mut best) {
                if program.name == "a bare handler" && each > 1 {
                    continue;
                }
                let now = measured(program, connections, method, each).await;
                best[kind] = now.min(best[kind]);
            }
        }
    }
    for (program, [one, many, batch]) in programs.iter().zip(best) {
        let batch = if batch < f64::MAX {
            format!("{batch:.2}")
        } else {
            "-".to_owned()
        };
        println!("{:<20} {one:>15.2} {many:>16.2} {batch:>20}", program.name);
    }
}
