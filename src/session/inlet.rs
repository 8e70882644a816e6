//! What a session is reading: bytes in, events out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::AsyncRead;

use crate::wire::{Decoder, Event, WireError};

/// Bytes asked of the socket in one read.
const READ_BYTES: usize = 8_192;

/// The reading half of a session; holds no memory while nothing is partial.
#[derive(Debug)]
pub(super) struct Inlet {
    decoder: Decoder,
    /// Bytes that were read but not decoded yet, from `decoded` on.
    ahead: Vec<u8>,
    decoded: usize,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The peer will send nothing more.
    End,
    /// A whole message, or a control frame.
    Event(Event),
    /// Bytes that complete nothing yet.
    Partial,
    /// The peer broke the protocol.
    Violation(WireError),
}

impl Inlet {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::new(message_bytes_max),
            ahead: Vec::new(),
            decoded: 0,
        }
    }

    /// The next event of what was read before, or of one more read.
    pub(super) fn poll_next<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<Inbound>> {
        if !self.ahead.is_empty() {
            match self.decode_ahead() {
                Inbound::Partial => {}
                inbound @ (Inbound::End | Inbound::Event(_) | Inbound::Violation(_)) => {
                    return Poll::Ready(Ok(inbound));
                }
            }
        }
        let mut scratch = [0; READ_BYTES];
        let read = ready!(Pin::new(stream).poll_read(cx, &mut scratch))?;
        if read == 0 {
            return Poll::Ready(Ok(Inbound::End));
        }
        let mut input = &scratch[..read];
        let inbound = decode(&mut self.decoder, &mut input);
        self.ahead.extend_from_slice(input);
        Poll::Ready(Ok(inbound))
    }

    fn decode_ahead(&mut self) -> Inbound {
        let mut input = &self.ahead[self.decoded..];
        let inbound = decode(&mut self.decoder, &mut input);
        self.decoded = self.ahead.len() - input.len();
        if input.is_empty() {
            self.ahead = Vec::new();
            self.decoded = 0;
        }
        inbound
    }

    /// Reads and throws away, up to the end of the stream.
    pub(super) fn poll_discard<S: AsyncRead + Unpin>(
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let mut scratch = [0; READ_BYTES];
        // A peer that never stops sending is cut off by the deadline of the close.
        for _ in 0..DISCARDS_MAX {
            if ready!(Pin::new(&mut *stream).poll_read(cx, &mut scratch))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Reads thrown away before other tasks may run.
const DISCARDS_MAX: usize = 16;

fn decode(decoder: &mut Decoder, input: &mut &[u8]) -> Inbound {
    match decoder.decode(input) {
        Ok(Some(event)) => Inbound::Event(event),
        Ok(None) => Inbound::Partial,
        Err(error) => Inbound::Violation(error),
    }
}
