//! Connections in memory, for tests under virtual time.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Accepts connections in memory, at an address that no socket has.
pub(super) struct Pipes {
    address: SocketAddr,
    connected: UnboundedReceiver<DuplexStream>,
}

/// Connects to it.
pub(super) struct Dial(UnboundedSender<DuplexStream>);

/// A listener at this address, and what connects to it.
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
    /// A connection that holds so many bytes in each direction.
    pub(super) fn connect(&self, bytes: usize) -> DuplexStream {
        let (own, other) = duplex(bytes);
        self.0.send(other).expect("the listener is there");
        own
    }

    /// Sends a request, and reads the answer to its end; only the head of one that has none.
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

    /// The status of the answer.
    pub(super) async fn status(&self, request: &str) -> u16 {
        let answer = self.ask(request).await;
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.unwrap_or_else(|| panic!("no status: {answer}"))
    }
}

/// The head of a response.
pub(super) async fn head(stream: &mut DuplexStream) -> String {
    until(stream, "\r\n\r\n").await
}

/// All up to a text and with it.
pub(super) async fn until(stream: &mut DuplexStream, text: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(text.as_bytes()) {
        all.push(stream.read_u8().await.expect("the stream goes on"));
    }
    String::from_utf8(all).expect("text")
}
