//! What a session is reading: bytes in, events out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::AsyncRead;

use crate::planted::{self, Bug};
use crate::scratch::Scratch;
use crate::wire::{Decoder, Event, Inflation, WireError};

/// The reading half of a session; holds no memory while nothing is partial.
#[derive(Debug)]
pub(super) struct Inlet {
    decoder: Decoder,
    /// Bytes that were read but not decoded yet, from `decoded` on.
    ahead: Vec<u8>,
    decoded: usize,
    /// Bytes read since [`take_read`](Self::take_read).
    read: usize,
    scratch: Scratch,
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
    pub(super) fn new(message_bytes_max: usize, inflation: Inflation, scratch: &Scratch) -> Self {
        Self {
            decoder: Decoder::new(message_bytes_max).inflating(inflation),
            ahead: Vec::new(),
            decoded: 0,
            read: 0,
            scratch: scratch.clone(),
        }
    }

    /// Bytes it holds: read and not decoded, or parts of a message.
    pub(super) fn held(&self) -> usize {
        self.ahead.capacity() + self.decoder.heap_bytes()
    }

    /// Bytes read since this was last asked.
    pub(super) fn take_read(&mut self) -> usize {
        std::mem::take(&mut self.read)
    }

    /// The next event of what was read before, or of one more read of at most so many bytes.
    #[inline]
    pub(super) fn poll_next<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_max: usize,
    ) -> Poll<io::Result<Inbound>> {
        match self.decode_ahead() {
            Inbound::Partial => self.poll_read(cx, stream, bytes_max),
            inbound @ (Inbound::End | Inbound::Event(_) | Inbound::Violation(_)) => {
                Poll::Ready(Ok(inbound))
            }
        }
    }

    /// The next event of what was read before; after that it holds no memory for it.
    #[inline]
    fn decode_ahead(&mut self) -> Inbound {
        let mut input = &self.ahead[self.decoded..];
        if input.is_empty() {
            return Inbound::Partial;
        }
        let inbound = decode(&mut self.decoder, &mut input);
        self.decoded = self.ahead.len() - input.len();
        if input.is_empty() {
            self.ahead = Vec::new();
            self.decoded = 0;
        }
        inbound
    }

    /// The first event of one more read.
    #[inline(never)]
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_max: usize,
    ) -> Poll<io::Result<Inbound>> {
        let mut scratch = self.scratch.lend();
        let room = scratch.len().min(bytes_max);
        let read = ready!(Pin::new(stream).poll_read(cx, &mut scratch[..room]))?;
        if read == 0 {
            return Poll::Ready(Ok(Inbound::End));
        }
        self.read += read;
        let mut input = &scratch[..read];
        let inbound = decode(&mut self.decoder, &mut input);
        if !planted::is(Bug::ReadAheadLost) {
            self.ahead.extend_from_slice(input);
        }
        Poll::Ready(Ok(inbound))
    }

    /// Reads and throws away, up to the end of the stream.
    pub(super) fn poll_discard<S: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let mut scratch = self.scratch.lend();
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

#[inline]
fn decode(decoder: &mut Decoder, input: &mut &[u8]) -> Inbound {
    match decoder.decode(input) {
        Ok(Some(event)) => Inbound::Event(event),
        Ok(None) => Inbound::Partial,
        Err(error) => Inbound::Violation(error),
    }
}
