//! What attackers do, from outside; while they do it a well-behaved client of another service sees
//! no loss.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::process::{Process, busline};
use crate::raw::Raw;
use crate::server::soon;

mod bad_bytes;
mod connection_flood;
mod half_open;
mod killed_clients;
mod never_reads;
mod oversize;
mod ping_flood;
mod requests;
mod sigterm_under_load;
mod slow_handshake;

/// A well-behaved client of `echo`, which asks and is answered without pause.
struct Witness {
    stop: oneshot::Sender<()>,
    task: JoinHandle<u64>,
}

impl Witness {
    async fn of(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.expect("it listens");
        let mut client = Client::on(stream, "echo").await.expect("it is let in");
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut count = 0_u64;
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                client.round_trip(&format!("message {count}")).await;
                count += 1;
            }
            client.round_trip("the last").await;
            client.close(1000, "").await;
            count
        });
        Self { stop, task }
    }

    /// Every message was answered, in order, up to now.
    async fn saw_no_loss(self) {
        self.stop
            .send(())
            .expect("it asks until it is told to stop");
        let count = soon(self.task)
            .await
            .expect("every answer was the right one");
        assert!(count > 0, "the witness has seen nothing");
    }
}

/// The executable, from outside.
struct Target {
    process: Process,
    operators: SocketAddr,
}

impl Target {
    async fn start() -> Self {
        // The system gives the port to nobody else for a while.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let operators = free.local_addr().expect("it is bound");
        drop(free);
        let admin = operators.to_string();
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--admin",
            &admin,
            "--log",
            "warn",
        ];
        let process = Process::start(busline(&arguments)).await;
        Self { process, operators }
    }

    fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// The present value of a metric.
    async fn metric(&self, name: &str) -> u64 {
        let mut raw = Raw::connect_to(self.operators).await;
        raw.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let text = String::from_utf8(raw.end().await).expect("text");
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = lines.find(|(found, _)| *found == name).expect("it is told");
        value.parse().expect("a number")
    }

    /// Waits until a metric has come to at least this.
    async fn until(&self, name: &str, value: u64) {
        soon(async { while self.metric(name).await < value {} }).await;
    }

    /// Memory it has in use, in KiB.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("it runs, on Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.expect("a size").parse().expect("a number")
    }
}
