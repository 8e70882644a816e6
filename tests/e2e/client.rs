//! A client as they are in the wild: another implementation of the protocol.

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::server::{Server, soon};

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(server: &Server, service: &str) -> Self {
        Self::try_connect(server, service)
            .await
            .expect("the client is let in")
    }

    pub(crate) async fn try_connect(server: &Server, service: &str) -> Result<Self, Error> {
        let stream = soon(TcpStream::connect(server.address())).await?;
        Self::on(stream, service).await
    }

    /// Joins a service over a connection that is there.
    pub(crate) async fn on(stream: TcpStream, service: &str) -> Result<Self, Error> {
        let url = format!("ws://{}/ws/{service}", stream.peer_addr()?);
        let (socket, _) = soon(client_async(url, stream)).await?;
        Ok(Self { socket })
    }

    pub(crate) fn into_socket(self) -> WebSocketStream<TcpStream> {
        self.socket
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        soon(self.socket.send(message.into()))
            .await
            .expect("the server reads");
    }

    /// The next message, control frames included.
    pub(crate) async fn next(&mut self) -> Message {
        let next = soon(self.socket.next()).await;
        next.expect("the stream goes on")
            .expect("the server keeps the protocol")
    }

    /// The next message, which is a text; a ping before it is answered.
    pub(crate) async fn text(&mut self) -> String {
        let mut message = self.next().await;
        while message.is_ping() {
            message = self.next().await;
        }
        let Message::Text(text) = message else {
            panic!("not a text: {message:?}");
        };
        text.to_string()
    }

    /// Sends a text and waits for an equal one.
    pub(crate) async fn round_trip(&mut self, text: &str) {
        self.send(text).await;
        assert_eq!(self.text().await, text);
    }

    /// Closes and returns what the server closes with.
    pub(crate) async fn close(mut self, code: u16, reason: &str) -> (u16, String) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        soon(self.socket.close(Some(frame)))
            .await
            .expect("the server reads");
        self.closed().await
    }

    /// Reads on until the server closes, and then to the end of the stream.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        let closed = loop {
            if let Message::Close(frame) = self.next().await {
                break frame.expect("the server gives a reason");
            }
        };
        let after = soon(self.socket.next()).await;
        assert!(after.is_none(), "after the close: {after:?}");
        (closed.code.into(), closed.reason.to_string())
    }
}
