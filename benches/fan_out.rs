//! What a message costs to 1,000 clients, by the way in and out: `cargo bench --bench fan_out`.
//!
//! A process of its own serves on one thread, and three relay rooms in it have 1,000 clients each:
//! clients of plain WebSockets in a room into which a client publishes, and in one into which a
//! backend publishes over the API; and clients of server-sent events, into whose room a client
//! publishes. Bytes on their way to a client are the same, but for the frame around them. The
//! window is the number of messages that are published together before all clients have them.
//!
//! The CPU time is that of the serving process, user and system, for each delivered message. Rounds
//! alternate between the rooms; a ratio is the median over the rounds, each round by itself, and a
//! time the smallest one. Linux only.

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use self::program::{Program, free_address, settings, started};

mod program;

const KEY: &str = "a-key-of-a-benchmark-0123456789abcdef";

/// The clients of each room that only read.
const CLIENTS: usize = 1_000;

/// Windows, each with the messages in one measurement: a whole number of windows.
const WINDOWS: [(usize, usize); 2] = [(1, 400), (16, 3_200)];

/// Measurements of each kind.
const ROUNDS: usize = 7;

/// The byte that each message has once.
const MARK: u8 = b'#';

/// The payload of an event and that of a frame, which are equally long on their way.
const EVENT_BYTES: usize = 64;

/// The bytes that an event has around its data.
const AROUND: usize = "data: \n\n".len();

/// The messages that the clients of a room have received, all together.
#[derive(Default)]
struct Received {
    count: Cell<usize>,
    wanted: Cell<usize>,
    all: Notify,
}

impl Received {
    fn add(&self, messages: usize) {
        self.count.set(self.count.get() + messages);
        if self.count.get() >= self.wanted.get() {
            self.all.notify_one();
        }
    }

    /// Waits until so many messages more have been received.
    async fn more(&self, messages: usize) {
        self.wanted.set(self.wanted.get() + messages);
        while self.count.get() < self.wanted.get() {
            self.all.notified().await;
        }
    }
}

/// A room with its clients, and the connection that publishes into it.
struct Room {
    name: &'static str,
    publisher: TcpStream,
    /// One publish, as it is sent.
    publish: Vec<u8>,
    received: Rc<Received>,
}

impl Room {
    /// A room of plain WebSockets into which one of them publishes.
    async fn plain(address: SocketAddr) -> Self {
        let received = readers(address, &upgrade("plain")).await;
        let publisher = asked(address, &upgrade("plain")).await;
        Self {
            name: "plain WebSockets",
            publisher,
            publish: frame(&payload(EVENT_BYTES + AROUND)),
            received,
        }
    }

    /// A room of plain WebSockets into which a backend publishes.
    async fn api(address: SocketAddr, api: SocketAddr) -> Self {
        let received = readers(address, &upgrade("api")).await;
        // The text of a JSON string has its quotes.
        let text = payload(EVENT_BYTES + AROUND - 2);
        let body = format!(r#"{{"channel":"news:api","data":"{text}"}}"#);
        let length = body.len();
        let publish = format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        Self {
            name: "published over the API",
            publisher: connected(api).await,
            publish: publish.into_bytes(),
            received,
        }
    }

    /// A room of server-sent events into which a client publishes.
    async fn events(address: SocketAddr) -> Self {
        let request = "GET /sse/news/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let received = readers(address, request).await;
        let publisher = asked(address, &upgrade("events")).await;
        Self {
            name: "server-sent events",
            publisher,
            publish: frame(&payload(EVENT_BYTES)),
            received,
        }
    }

    /// Publishes so many windows of messages, each once all clients have the one before.
    async fn publish(&mut self, window: usize, windows: usize) {
        let together = self.publish.repeat(window);
        let mut answers = vec![0; 1 << 16];
        for _ in 0..windows {
            let sent = self.publisher.write_all(&together).await;
            sent.expect("the publisher stays");
            self.received.more(window * CLIENTS).await;
            // What comes back to the publisher, its answers or its own messages, is not looked at.
            drop(self.publisher.try_read(&mut answers));
        }
    }

    /// The CPU time of the program for a delivered message, in microseconds.
    async fn measured(&mut self, program: &Program, window: usize, messages: usize) -> f64 {
        let before = program.cpu();
        self.publish(window, messages / window).await;
        (program.cpu() - before) * 1e6 / (messages * CLIENTS) as f64
    }
}

/// A text with one mark, of so many bytes.
fn payload(bytes: usize) -> String {
    format!("#{}", "x".repeat(bytes - 1))
}

/// A masked text frame; the mask is zero.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    assert!(length < 126, "a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn upgrade(room: &str) -> String {
    format!(
        "GET /ws/news/{room} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

async fn connected(address: SocketAddr) -> TcpStream {
    let stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    stream.set_nodelay(true).expect("it is a socket");
    stream
}

/// Sends a request and reads the head of its response.
async fn asked(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = connected(address).await;
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("it is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a response"));
    }
    let is_good = head.starts_with(b"HTTP/1.1 101") || head.starts_with(b"HTTP/1.1 200");
    assert!(is_good, "{}", String::from_utf8_lossy(&head));
    stream
}

/// The clients of a room, which count what they receive.
async fn readers(address: SocketAddr, request: &str) -> Rc<Received> {
    let received = Rc::<Received>::default();
    for _ in 0..CLIENTS {
        let mut stream = asked(address, request).await;
        let received = Rc::clone(&received);
        spawn_local(async move {
            let mut bytes = vec![0; 1 << 12];
            loop {
                let read = stream.read(&mut bytes).await.expect("it stays");
                assert!(read > 0, "the server has closed");
                let marks = bytes[..read].iter().filter(|byte| **byte == MARK);
                received.add(marks.count());
            }
        });
    }
    received
}

/// Busline on one thread, and the address of its API.
fn busline() -> (Program, SocketAddr) {
    let [clients, api] = [free_address(), free_address()];
    let keys = format!("[[api.keys]]\nname = \"bench\"\nkey = \"{KEY}\"\n");
    // The clients answer no ping.
    let room = "limits.ping_interval = \"0s\"\n[room.news]\npublish = \"members\"\n";
    let file = settings("fan-out-bench.toml", &format!("{room}{keys}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_busline"));
    command.args(["--config", &file, "--threads", "1"]);
    command.args(["--listen", &clients.to_string()]);
    command.args(["--admin", &api.to_string()]);
    let program = started("busline", command.stdout(Stdio::null()), clients);
    (program, api)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

async fn measure_all() {
    let (program, api) = busline();
    let address = program.address;
    let mut rooms = [
        Room::plain(address).await,
        Room::api(address, api).await,
        Room::events(address).await,
    ];
    for (window, messages) in WINDOWS {
        let mut times = rooms.each_ref().map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (room, times) in rooms.iter_mut().zip(&mut times) {
                times.push(room.measured(&program, window, messages).await);
            }
        }
        println!(
            "{}, window {window}: us of CPU a delivered message, and its ratio to the first",
            program.name
        );
        let plain = times[0].clone();
        for (room, times) in rooms.iter().zip(times) {
            let ratios = times.iter().zip(&plain).map(|(time, plain)| time / plain);
            let ratio = median(ratios.collect());
            let least = times.into_iter().fold(f64::MAX, f64::min);
            println!("  {:<24} {least:>8.3} {ratio:>8.2}", room.name);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    LocalSet::new().run_until(measure_all()).await;
}
