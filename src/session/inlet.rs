//! What a session is reading: bytes in, events out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::io::AsyncRead;

use super::arrival::{Allowance, Arrival};
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::scratch;
use crate::wire::{Decoder, Event, Frames, Inflation, WireError};

/// The reading half of a session; holds no memory while nothing is partial.
#[derive(Debug)]
pub(super) struct Inlet {
    message_bytes_max: usize,
    inflation: Inflation,
    /// What is neither between two messages nor at the end of what was read.
    partial: Option<Box<Partial>>,
    /// Bytes read since [`take_read`](Self::take_read).
    read: u32,
}

/// What is under way; there is none while a client is idle.
#[derive(Debug)]
struct Partial {
    decoder: Decoder,
    /// Messages that were decoded and put back, the next ones last.
    put_back: Vec<Frames>,
    /// Bytes that were read but not decoded yet, from `decoded` on.
    ahead: Vec<u8>,
    decoded: usize,
    /// How long the message that is being decoded takes to arrive.
    arrival: Option<Arrival>,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The peer will send nothing more.
    End,
    /// Whole messages, or a control frame.
    Event(Event),
    /// Bytes that complete nothing yet.
    Partial,
    /// The peer broke the protocol.
    Violation(WireError),
}

impl Inlet {
    pub(super) fn new(message_bytes_max: usize, inflation: Inflation) -> Self {
        Self {
            message_bytes_max,
            inflation,
            partial: None,
            read: 0,
        }
    }

    /// Bytes it holds: read and not decoded, or parts of a message.
    pub(super) fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let put_back: usize = partial.put_back.iter().map(Frames::payload_bytes).sum();
            partial.ahead.capacity() + partial.decoder.heap_bytes() + put_back
        })
    }

    /// Whether nothing is under way.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_none()
    }

    /// Whether there is something that was read, and not decoded or put back.
    pub(super) fn is_ahead(&self) -> bool {
        let partial = self.partial.as_ref();
        partial.is_some_and(|partial| !partial.put_back.is_empty() || !partial.ahead.is_empty())
    }

    /// Bytes read since this was last asked.
    pub(super) fn take_read(&mut self) -> usize {
        std::mem::take(&mut self.read) as usize
    }

    /// The next event of what was read before, if that holds a whole one, with so many messages at
    /// most.
    #[inline]
    pub(super) fn next(&mut self, messages_max: usize) -> Option<Inbound> {
        let partial = self.partial.as_mut()?;
        if let Some(mut frames) = partial.put_back.pop() {
            if frames.len() > messages_max {
                let first = frames.split_front(messages_max);
                partial.put_back.push(std::mem::replace(&mut frames, first));
            }
            if partial.is_over() {
                self.partial = None;
            }
            return Some(Inbound::Event(Event::Messages(frames)));
        }
        if partial.ahead.is_empty() {
            return None;
        }
        let inbound = partial.decode_ahead(messages_max);
        if partial.is_over() {
            self.partial = None;
        }
        match inbound {
            Inbound::Partial => None,
            Inbound::End | Inbound::Event(_) | Inbound::Violation(_) => Some(inbound),
        }
    }

    /// Gives back messages of the last [`next`](Self::next), which are the next ones again, before
    /// all that was put back earlier.
    pub(super) fn put_back(&mut self, frames: Frames) {
        let decoder = || Decoder::new(self.message_bytes_max).inflating(self.inflation);
        let partial = self
            .partial
            .get_or_insert_with(|| Box::new(Partial::of(decoder())));
        partial.put_back.push(frames);
    }

    /// The same of one more read of at most so many bytes, once there is no [`next`](Self::next).
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        (bytes_max, messages_max): (usize, usize),
    ) -> Poll<io::Result<Inbound>> {
        let mut scratch = scratch::lend();
        let room = scratch.len().min(bytes_max);
        let read = ready!(Pin::new(stream).poll_read(cx, &mut scratch[..room]))?;
        if read == 0 {
            return Poll::Ready(Ok(Inbound::End));
        }
        self.read += u32::try_from(read).expect("no more than the buffer has");
        let mut input = &scratch[..read];
        let mut partial = self.partial.take();
        let inbound = match &mut partial {
            Some(partial) => partial.decode(&mut input, messages_max),
            None => {
                let mut decoder = Decoder::new(self.message_bytes_max).inflating(self.inflation);
                let inbound = decode(&mut decoder, &mut input, messages_max);
                // Most of what is read is one whole message, of which nothing is kept.
                let is_over = input.is_empty() && decoder.is_idle();
                partial = (!is_over).then(|| Box::new(Partial::of(decoder)));
                inbound
            }
        };
        if let Some(partial) = &mut partial
            && !planted::is(Bug::ReadAheadLost)
        {
            partial.ahead.extend_from_slice(input);
        }
        drop(scratch);
        self.partial = partial.filter(|partial| !partial.is_over());
        Poll::Ready(Ok(inbound))
    }

    /// Counts the time that a message which has begun takes to arrive; from now on the client is
    /// heard, or it is not.
    pub(super) fn look(&mut self, timeout: Duration, at: (Instant, bool)) {
        if let Some(partial) = &mut self.partial {
            partial.look(timeout, at);
        }
    }

    /// When the next [`look`](Self::look) is due, if a message has begun that has a bound.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let partial = self.partial.as_ref()?;
        partial.arrival?.deadline(partial.allowance(timeout))
    }

    /// Whether a message that has begun takes longer than it may.
    pub(super) fn is_late(&self, timeout: Duration) -> bool {
        let arrives = |partial: &Partial| {
            let allowance = partial.allowance(timeout);
            partial.arrival.is_some_and(|it| it.is_late(allowance))
        };
        self.partial.as_deref().is_some_and(arrives)
    }

    /// Reads and throws away, up to the end of the stream.
    pub(super) fn poll_discard<S: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let mut scratch = scratch::lend();
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

impl Partial {
    fn of(decoder: Decoder) -> Self {
        Self {
            decoder,
            put_back: Vec::new(),
            ahead: Vec::new(),
            decoded: 0,
            arrival: None,
        }
    }

    fn decode_ahead(&mut self, messages_max: usize) -> Inbound {
        let ahead = std::mem::take(&mut self.ahead);
        let mut input = &ahead[self.decoded..];
        let inbound = self.decode(&mut input, messages_max);
        if input.is_empty() {
            self.decoded = 0;
        } else {
            self.decoded = ahead.len() - input.len();
            self.ahead = ahead;
        }
        inbound
    }

    fn decode(&mut self, input: &mut &[u8], messages_max: usize) -> Inbound {
        let inbound = decode(&mut self.decoder, input, messages_max);
        if self.decoder.is_idle() {
            // Whole; what follows it begins later.
            self.arrival = None;
        }
        inbound
    }

    fn look(&mut self, timeout: Duration, at: (Instant, bool)) {
        if self.decoder.is_idle() {
            return;
        }
        let allowance = self.allowance(timeout);
        let arrival = self.arrival.get_or_insert_with(|| Arrival::new(at.0));
        arrival.look(allowance, at);
    }

    fn allowance(&self, timeout: Duration) -> Allowance {
        Allowance {
            timeout,
            received: self.decoder.received_bytes(),
        }
    }

    /// Whether the next byte is the first one of a message.
    fn is_over(&self) -> bool {
        self.put_back.is_empty() && self.ahead.is_empty() && self.decoder.is_idle()
    }
}

/// Reads thrown away before other tasks may run.
const DISCARDS_MAX: usize = 16;

#[inline]
fn decode(decoder: &mut Decoder, input: &mut &[u8], messages_max: usize) -> Inbound {
    match decoder.decode(input, messages_max) {
        Ok(Some(event)) => Inbound::Event(event),
        Ok(None) => Inbound::Partial,
        Err(error) => Inbound::Violation(error),
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wire::Frame;

    /// The texts of the next messages, so many at most.
    fn next(inlet: &mut Inlet, messages_max: usize) -> Vec<String> {
        match inlet.next(messages_max) {
            Some(Inbound::Event(Event::Messages(frames))) => texts(&frames),
            None => Vec::new(),
            Some(other) => panic!("{other:?}"),
        }
    }

    fn texts(frames: &Frames) -> Vec<String> {
        let text = |frame: Frame| String::from_utf8_lossy(frame.payload_bytes()).into_owned();
        frames.iter().map(text).collect()
    }

    fn frames(all: &[&str]) -> Frames {
        let each: Vec<_> = all
            .iter()
            .map(|text| Frames::from(Frame::text(*text)))
            .collect();
        Frames::join(each.iter()).expect("there are some")
    }

    #[test]
    fn messages_that_were_put_back_are_the_next_ones_in_their_order() {
        let mut inlet = Inlet::new(100, Inflation::default());
        inlet.put_back(frames(&["a", "b", "c", "d"]));
        assert_eq!(next(&mut inlet, 1), ["a"], "no more than may be taken");
        let mut rest = frames(&["b", "c"]);
        assert_eq!(next(&mut inlet, 2), texts(&rest));
        let _taken = rest.split_front(1);
        inlet.put_back(rest);
        assert!(inlet.is_ahead());
        assert_eq!(inlet.held(), 2, "bytes of texts");
        assert_eq!(next(&mut inlet, 9), ["c"], "before those that were left");
        assert_eq!(next(&mut inlet, 9), ["d"]);
        assert!(inlet.is_empty());
    }
}
