//! Connections in memory, for tests under virtual time.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Accepts in-memory connections, at an address without a socket.
pub(super) struct Pipes {
    address: SocketAddr,
    connected: UnboundedReceiver<DuplexStream>,
}

/// Connects to [`Pipes`].
pub(super) struct Dial(UnboundedSender<DuplexStream>);

/// A listener at this address, and the handle to connect to it.
pub(super) fn pipes(address: &str) -> (Dial, Pipes) {
    let (connect, connected) = unbounded_channel();
    let address = address.parse().expect("an address");
    (Dial(connect), Pipes { address, connected })
}

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.connected.recv().await {
            Some(stream) => (stream, self.address),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Dial {
    /// A connection with a buffer of `bytes` bytes in each direction.
    pub(super) fn connect(&self, bytes: usize) -> DuplexStream {
        let (own, other) = duplex(bytes);
        self.0.send(other).expect("the listener is there");
        own
    }

    /// Sends a request and reads the response to its end, or only the head of an upgrade.
    pub(super) async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect(1 << 16);
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("the server reads");
        let head = head(&mut stream).await;
        let mut body = String::new();
        if !head.starts_with("HTTP/1.1 101 ") {
            let read = stream.read_to_string(&mut body).await;
            read.expect("an answer is text");
        }
        head + &body
    }

    /// Sends a request and returns the status of the response.
    pub(super) async fn status(&self, request: &str) -> u16 {
        let answer = self.ask(request).await;
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.unwrap_or_else(|| panic!("no status: {answer}"))
    }
}

/// Reads the head of a response.
pub(super) async fn head(stream: &mut DuplexStream) -> String {
    until(stream, "\r\n\r\n").await
}

/// Reads up to and including a text.
pub(super) async fn until(stream: &mut DuplexStream, text: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(text.as_bytes()) {
        all.push(stream.read_u8().await.expect("the stream goes on"));
    }
    String::from_utf8(all).expect("text")
}
