//! A client of a user's test: it connects, sends, receives, closes and sleeps, in virtual time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::stage::STRIDE;
use crate::client::{PATIENCE, connect};
use crate::net::{Dial, Net, Simnet};
use crate::rng::Rng;
use crate::trace::{Digest, Ending, Event, Recorder};

type SimDial = <Simnet as Net>::Dial;
type Stream = WebSocketStream<<SimDial as Dial>::Io>;

/// A client, which has no connection before it asks for one; clones are the same client.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    number: u32,
    zone: u8,
    dial: SimDial,
    recorder: Recorder,
    rng: RefCell<Rng>,
    connections: Cell<u32>,
}

/// Why a client cannot go on: its connection is gone, or what it waited for did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone(String);

impl Gone {
    /// A client that cannot go on, and why.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Gone {}

impl Client {
    pub(super) fn new(
        seed: u64,
        (number, zone): (u32, u8),
        dial: SimDial,
        recorder: Recorder,
    ) -> Self {
        Self(Rc::new(Inner {
            number,
            zone,
            dial,
            recorder,
            rng: RefCell::new(Rng::keyed(seed, "player", u64::from(number))),
            connections: Cell::new(0),
        }))
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Its number in the run, from 1.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// The virtual time since the beginning of the run.
    pub fn now(&self) -> Duration {
        self.0.recorder.now()
    }

    /// A number that the seed draws for this client; no other client's draws change it.
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn random(&self, range: RangeInclusive<u64>) -> u64 {
        self.0.rng.borrow_mut().within(range)
    }

    /// Lets this much virtual time pass.
    pub async fn sleep(&self, time: Duration) {
        sleep(time).await;
    }

    /// Notes something in the trace, for rules to look at; see [`History::noted`].
    ///
    /// [`History::noted`]: crate::checker::History::noted
    pub fn note(&self, text: impl Into<String>) {
        let (client, text) = (self.0.number, text.into());
        self.0.recorder.record(Event::Noted { client, text });
    }

    /// A new connection to the service, with a handshake that was answered with 101.
    ///
    /// # Errors
    ///
    /// When it is refused, or not answered within 60 virtual seconds.
    pub async fn connect(&self, service: &str) -> Result<Socket, Gone> {
        let Inner { number, zone, .. } = *self.0;
        let before = self.0.connections.get();
        self.0.connections.set(before + 1);
        // In the trace each connection is a client of its own.
        let client = number + before * STRIDE;
        let recorder = self.0.recorder.clone();
        recorder.record(Event::Connecting {
            client,
            service: service.to_owned(),
            zone,
        });
        let url = format!("ws://server/ws/{service}");
        let opening = timeout(PATIENCE, connect(&url, &self.0.dial, client)).await;
        match opening.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(stream) => {
                recorder.record(Event::Connected { client });
                Ok(Socket {
                    client,
                    stream,
                    recorder,
                    ending: Some(Ending::Aborted),
                })
            }
            Err(reason) => {
                let gone = Gone(format!("{service} refused the connection: {reason}"));
                recorder.record(Event::Refused { client, reason });
                Err(gone)
            }
        }
    }
}

/// What a message carries.
enum Payload {
    Binary(Vec<u8>),
    Text(String),
}

/// A connection; dropping it aborts it.
pub struct Socket {
    client: u32,
    stream: Stream,
    recorder: Recorder,
    /// How it ends if it is dropped now; `None` once that is recorded.
    ending: Option<Ending>,
}

impl Socket {
    /// Sends a text.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or takes nothing for 60 virtual seconds.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<(), Gone> {
        let (client, text) = (self.client, text.into());
        let message = Message::text(text.as_str());
        self.recorder.record(Event::Sent { client, text });
        self.put(message).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), Gone> {
        let (client, bytes) = (self.client, bytes.into());
        let text = format!("binary {}", Digest::of(&bytes));
        self.recorder.record(Event::Sent { client, text });
        self.put(Message::binary(bytes)).await
    }

    async fn put(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(PATIENCE, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(Gone::new("nothing was taken for 60 s")),
        }
    }

    /// The next text.
    ///
    /// # Errors
    ///
    /// When the connection is gone or nothing comes for 60 virtual seconds, or when what comes is
    /// no text.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<String, Gone> {
        let text = self.recv_within(PATIENCE).await?;
        text.ok_or_else(|| Gone::new("nothing came for 60 s"))
    }

    /// The next text, if it comes within this virtual time.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or when what comes is no text.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_within(&mut self, time: Duration) -> Result<Option<String>, Gone> {
        match self.next(time).await? {
            None => Ok(None),
            Some(Payload::Text(text)) => Ok(Some(text)),
            Some(Payload::Binary(_)) => {
                Err(Gone::new("a binary message came where a text was due"))
            }
        }
    }

    /// The bytes of the next message, text or binary.
    ///
    /// # Errors
    ///
    /// When the connection is gone or nothing comes for 60 virtual seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv_bytes(&mut self) -> Result<Vec<u8>, Gone> {
        match self.next(PATIENCE).await? {
            Some(Payload::Binary(bytes)) => Ok(bytes),
            Some(Payload::Text(text)) => Ok(text.into_bytes()),
            None => Err(Gone::new("nothing came for 60 s")),
        }
    }

    /// The next message, unless none comes in this time.
    async fn next(&mut self, time: Duration) -> Result<Option<Payload>, Gone> {
        let client = self.client;
        let next = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Payload::Text(text.to_string())),
                    Some(Ok(Message::Binary(bytes))) => {
                        return Ok(Payload::Binary(bytes.to_vec()));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map(|frame| u16::from(frame.code));
                        self.recorder.record(Event::Closed { client, code });
                        self.ending = Some(Ending::Closed);
                    }
                    // Pings are answered below, and frames are not given out.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(error)) => return Err(Some(error)),
                    None => return Err(None),
                }
            }
        };
        let Ok(next) = timeout(time, next).await else {
            return Ok(None);
        };
        let message =
            next.map_err(|error| self.broken(&error.unwrap_or(Error::ConnectionClosed)))?;
        let text = match &message {
            Payload::Text(text) => text.clone(),
            Payload::Binary(bytes) => format!("binary {}", Digest::of(bytes)),
        };
        self.recorder.record(Event::Received { client, text });
        Ok(Some(message))
    }

    /// Closes with code 1000, and waits until the connection has ended; what still comes before
    /// that is thrown away.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or has not ended within 60 virtual seconds.
    pub async fn close(mut self) -> Result<(), Gone> {
        let (client, code) = (self.client, 1000);
        self.recorder.record(Event::Leaving { client, code });
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        };
        let closing = timeout(PATIENCE, self.stream.close(Some(frame))).await;
        if let Ok(Err(error)) = closing {
            return Err(self.broken(&error));
        }
        while let Ok(Some(_)) = self.next(PATIENCE).await {}
        match self.ending {
            Some(Ending::Closed) => Ok(()),
            Some(_) | None => Err(Gone::new("the connection ended without a close frame")),
        }
    }

    /// Drops the connection without a close frame.
    pub fn abort(self) {}

    fn broken(&mut self, error: &Error) -> Gone {
        if self.ending == Some(Ending::Aborted) {
            self.ending = Some(Ending::Broken);
        }
        Gone(format!("the connection is gone: {error}"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let client = self.client;
        if let Some(ending) = self.ending.take() {
            self.recorder.record(Event::Ended { client, ending });
        }
    }
}
