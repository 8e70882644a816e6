//! A client that says what the test wants, allowed or not: bytes out, bytes in.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::{Server, soon};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// The mask of every frame.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::connect_to(server.address()).await
    }

    pub(crate) async fn connect_to(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await;
        let stream = stream.expect("the server listens");
        Self { stream }
    }

    /// A client on a connection that is there.
    pub(crate) fn on(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// Connects to a service.
    pub(crate) async fn join_at(address: SocketAddr, service: &str) -> Self {
        Self::connect_to(address).await.upgrade(service).await
    }

    /// Connects to a service.
    pub(crate) async fn join(server: &Server, service: &str) -> Self {
        Self::connect(server).await.upgrade(service).await
    }

    /// Connects to a service with as small a receive buffer as the system has.
    pub(crate) async fn join_narrow(server: &Server, service: &str) -> Self {
        Self::join_narrow_at(server.address(), service).await
    }

    pub(crate) async fn join_narrow_at(address: SocketAddr, service: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket
            .set_recv_buffer_size(1)
            .expect("the system rounds it up");
        let stream = soon(socket.connect(address)).await;
        let stream = stream.expect("the server listens");
        Self { stream }.upgrade(service).await
    }

    pub(crate) async fn upgrade(mut self, service: &str) -> Self {
        self.send(wish(&format!("/ws/{service}")).as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes))
            .await
            .expect("the server reads");
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn half_close(&mut self) {
        soon(self.stream.shutdown()).await.expect("it is connected");
    }

    /// Cuts the connection by a reset.
    pub(crate) fn kill(self) {
        self.stream.set_zero_linger().expect("it is a socket");
    }

    /// The head of an HTTP response.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.expect("a whole head"));
        }
        String::from_utf8(head).expect("a head is text")
    }

    /// Reads on until this text has come.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        loop {
            all.push(
                soon(self.stream.read_u8())
                    .await
                    .expect("the stream goes on"),
            );
            let so_far = String::from_utf8_lossy(&all);
            if so_far.ends_with(text) {
                return so_far.into_owned();
            }
        }
    }

    /// The first byte and the payload of the server's next frame.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        soon(async {
            let first = self.stream.read_u8().await.expect("a frame");
            let length = match self.stream.read_u8().await.expect("a length") {
                126 => u64::from(self.stream.read_u16().await.expect("a length")),
                127 => self.stream.read_u64().await.expect("a length"),
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).expect("it fits")];
            self.stream
                .read_exact(&mut payload)
                .await
                .expect("a payload");
            (first, payload)
        })
        .await
    }

    /// Sends a request of a client of `busline.v1.json`, which the server upgrades.
    pub(crate) async fn ask_json(&mut self, request: &str) {
        self.send(request.as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// The next frame, which is a text of JSON.
    pub(crate) async fn told(&mut self) -> Value {
        let (first, payload) = self.frame().await;
        assert_eq!(first, TEXT);
        serde_json::from_slice(&payload).expect("JSON")
    }

    /// Reads on until the server closes.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let payload = loop {
            if let (CLOSE, payload) = self.frame().await {
                break payload;
            }
        };
        let (code, reason) = payload.split_at(2);
        let reason = String::from_utf8(reason.to_vec()).expect("a reason is text");
        (u16::from_be_bytes([code[0], code[1]]), reason)
    }

    /// Reads to the end of the stream, which is an orderly one.
    pub(crate) async fn end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = soon(self.stream.read_to_end(&mut rest)).await;
        read.expect("the server ends the stream, it does not reset it");
        rest
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// A valid request to speak WebSocket.
pub(crate) fn wish(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\n\
         Host: localhost\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame, as it should be but for what is wrong in its parts.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | length as u8),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A client's close frame.
pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// Asks to join `echo` and says hello in the same write, on whatever kind of stream.
pub(crate) async fn echoes_early<S>(mut stream: S, path: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = wish(path).into_bytes();
    bytes.extend(frame(TEXT, b"hello"));
    soon(stream.write_all(&bytes)).await.expect("it reads");
    soon(stream.flush()).await.expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut back = [0; 7];
    soon(stream.read_exact(&mut back)).await.expect("a frame");
    assert_eq!(&back, b"\x81\x05hello");
}
