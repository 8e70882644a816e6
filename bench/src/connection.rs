//! The open connection of one client: sends the granted messages, and counts the received ones.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::frames::{Frames, masked};
use super::incoming::{Event, Incoming, Keep};

/// The close code of a client: 1000.
const BYE: u16 = 1000;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    incoming: Incoming,
    /// The number of messages that the client may send in total.
    granted: u64,
    /// Bytes of messages that were written.
    written: u64,
    /// Pongs to be written, and how many bytes of them were written.
    pongs: Vec<u8>,
    pongs_written: usize,
    end: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// The server closed the connection, with this code.
    Closed(Option<u16>),
    /// The connection broke.
    Broken(String),
    /// The server violated the protocol.
    Violated(String),
}

impl End {
    fn broken(error: &io::Error) -> Self {
        Self::Broken(error.to_string())
    }

    /// A sentence for the report, with advice.
    pub(super) fn text(&self) -> String {
        let advice = match self {
            Self::Closed(Some(1001 | 1012)) => "the server stops",
            Self::Closed(Some(1008)) => "it allows less: look at its limits for one client",
            Self::Closed(Some(1009)) => "choose a smaller --size, or allow larger messages",
            Self::Closed(Some(1011)) => "the service crashed: look into the server's log",
            Self::Closed(Some(1013)) => "it holds too much for slow clients: offer less at once",
            Self::Closed(_) | Self::Broken(_) | Self::Violated(_) => "look into the server's log",
        };
        match self {
            Self::Closed(Some(code)) => format!("closed by the server with {code}: {advice}"),
            Self::Closed(None) => format!("closed by the server without a code: {advice}"),
            Self::Broken(error) => format!("broken ({error}): {advice}"),
            Self::Violated(what) => format!("given up, as the server broke the protocol ({what})"),
        }
    }
}

impl Connection {
    /// A connection after its upgrade; `behind` are the bytes that followed the server's response.
    pub(super) fn new(stream: TcpStream, behind: &[u8]) -> Self {
        let mut connection = Self {
            stream,
            incoming: Incoming::default(),
            granted: 0,
            written: 0,
            pongs: Vec::new(),
            pongs_written: 0,
            end: None,
        };
        // Messages that a service sends before the run begins are not measured.
        connection.take(behind, Keep::Nothing, &mut |_message| ());
        connection
    }

    /// How the connection ended, if it did.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Allows the client to send `count` further messages.
    pub(super) fn grant(&mut self, count: u64) {
        self.granted += count;
    }

    /// Reads until the socket is empty; returns the number of messages, and passes each kept
    /// message to `show`.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        keep: Keep,
        mut show: impl FnMut(&[u8]),
    ) -> u64 {
        let mut count = 0;
        while self.end.is_none() {
            match self.stream.read(buffer) {
                Ok(0) => self.end = Some(End::Broken("end of the stream".to_owned())),
                Ok(len) => {
                    count += self.take(&buffer[..len], keep, &mut show);
                    // Bytes that arrive after a short read cause a new event.
                    if cfg!(unix) && len < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end = Some(End::broken(&error)),
            }
        }
        count
    }

    fn take(&mut self, bytes: &[u8], keep: Keep, show: &mut impl FnMut(&[u8])) -> u64 {
        let (pongs, mut end, mut count) = (&mut self.pongs, None, 0);
        let taken = self.incoming.take(bytes, keep, |event| match event {
            Event::Message(_) if end.is_some() => {}
            Event::Message(payload) => {
                count += 1;
                show(payload);
            }
            Event::Ping(payload) => pongs.extend(masked(0x8a, payload)),
            Event::Close(code) => end = end.take().or(Some(End::Closed(code))),
        });
        let violated = taken
            .err()
            .map(|violation| End::Violated(violation.to_string()));
        self.end = end.or(violated);
        count
    }

    /// Writes granted messages and pongs, until the socket accepts no more.
    pub(super) fn write(&mut self, client: usize, frames: &mut Frames) {
        while self.end.is_none() {
            let at_border = self.written.is_multiple_of(frames.frame_bytes());
            let is_pong = !self.pongs.is_empty() && (at_border || self.pongs_written > 0);
            let bytes = match is_pong {
                true => &self.pongs[self.pongs_written..],
                false => {
                    let end = self.granted * frames.frame_bytes();
                    frames.stretch(client, self.written, end)
                }
            };
            if bytes.is_empty() {
                return;
            }
            match self.stream.write(bytes) {
                Ok(len) if is_pong => self.pong_written(len),
                Ok(len) => self.written += len as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end = Some(End::broken(&error)),
            }
        }
    }

    fn pong_written(&mut self, len: usize) {
        self.pongs_written += len;
        if self.pongs_written == self.pongs.len() {
            self.pongs.clear();
            self.pongs_written = 0;
        }
    }

    /// Sends a close frame, if the socket accepts it at once.
    pub(super) fn bye(&mut self) {
        if self.end.is_none() {
            // A server that does not receive the close frame notices the end of the stream.
            let _written = self.stream.write(&masked(0x88, &BYE.to_be_bytes()));
        }
    }
}
