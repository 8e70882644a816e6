//! The input of a session: bytes in, events out.

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

/// The decoder of a session and the input it has not finished; holds no memory between messages.
#[derive(Debug)]
pub(super) struct FrameReader {
    message_bytes_max: usize,
    inflation: Inflation,
    /// Input that was read and is neither decoded nor complete.
    partial: Option<Box<Partial>>,
    /// Bytes read since [`take_read`](Self::take_read).
    read: u32,
}

/// Unfinished input; an idle client has none.
#[derive(Debug)]
struct Partial {
    decoder: Decoder,
    /// Decoded messages that were given back, the next ones last.
    put_back: Vec<Frames>,
    /// Bytes that were read; the bytes from `decoded` on are not decoded yet.
    buffered: Vec<u8>,
    decoded: usize,
    /// How long the message that is being decoded has been arriving.
    arrival: Option<Arrival>,
}

/// The result of decoding input.
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

impl FrameReader {
    pub(super) fn new(message_bytes_max: usize, inflation: Inflation) -> Self {
        Self {
            message_bytes_max,
            inflation,
            partial: None,
            read: 0,
        }
    }

    /// Bytes held: input that is not decoded, and parts of a message.
    pub(super) fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let put_back: usize = partial.put_back.iter().map(Frames::payload_bytes).sum();
            partial.buffered.capacity() + partial.decoder.heap_bytes() + put_back
        })
    }

    /// Whether there is no unfinished input.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_none()
    }

    /// Whether there are bytes that were read and not decoded, or messages that were put back.
    pub(super) fn has_buffered(&self) -> bool {
        let partial = self.partial.as_ref();
        partial.is_some_and(|partial| !partial.put_back.is_empty() || !partial.buffered.is_empty())
    }

    /// Bytes read since the last call.
    pub(super) fn take_read(&mut self) -> usize {
        std::mem::take(&mut self.read) as usize
    }

    /// The next event from bytes that were read before, if they complete one, with at most
    /// `messages_max` messages.
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
        if partial.buffered.is_empty() {
            return None;
        }
        let inbound = partial.decode_buffered(messages_max);
        if partial.is_over() {
            self.partial = None;
        }
        match inbound {
            Inbound::Partial => None,
            Inbound::End | Inbound::Event(_) | Inbound::Violation(_) => Some(inbound),
        }
    }

    /// Gives back the last messages returned; [`next`](Self::next) returns them again, before all
    /// that were given back earlier.
    pub(super) fn put_back(&mut self, frames: Frames) {
        let decoder = || Decoder::new(self.message_bytes_max).inflating(self.inflation);
        let partial = self
            .partial
            .get_or_insert_with(|| Box::new(Partial::of(decoder())));
        partial.put_back.push(frames);
    }

    /// The next event from one more read of at most `bytes_max` bytes, with at most `messages_max`
    /// messages.
    ///
    /// [`next`](Self::next) must have returned `None` before.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes_max: usize,
        messages_max: usize,
    ) -> Poll<io::Result<Inbound>> {
        let mut scratch = scratch::acquire();
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
                // Most reads return exactly one whole message, and leave nothing to keep.
                let is_over = input.is_empty() && decoder.is_idle();
                partial = (!is_over).then(|| Box::new(Partial::of(decoder)));
                inbound
            }
        };
        if let Some(partial) = &mut partial
            && !planted::is(Bug::ReadAheadLost)
        {
            partial.buffered.extend_from_slice(input);
        }
        drop(scratch);
        self.partial = partial.filter(|partial| !partial.is_over());
        Poll::Ready(Ok(inbound))
    }

    /// Counts the time that an incomplete message has been arriving; `is_heard` says whether the
    /// client is read from `now` on.
    pub(super) fn look(&mut self, timeout: Duration, now: Instant, is_heard: bool) {
        if let Some(partial) = &mut self.partial {
            partial.look(timeout, now, is_heard);
        }
    }

    /// When the next [`look`](Self::look) is due, if an incomplete message has a time limit.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let partial = self.partial.as_ref()?;
        partial.arrival?.deadline(partial.allowance(timeout))
    }

    /// Whether an incomplete message has been arriving for longer than it may.
    pub(super) fn is_late(&self, timeout: Duration) -> bool {
        let arrives = |partial: &Partial| {
            let allowance = partial.allowance(timeout);
            partial.arrival.is_some_and(|it| it.is_late(allowance))
        };
        self.partial.as_deref().is_some_and(arrives)
    }

    /// Reads and discards input up to the end of the stream.
    pub(super) fn poll_discard<S: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let mut scratch = scratch::acquire();
        // The deadline of the close handshake cuts off a peer that never stops sending.
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
            buffered: Vec::new(),
            decoded: 0,
            arrival: None,
        }
    }

    fn decode_buffered(&mut self, messages_max: usize) -> Inbound {
        let buffered = std::mem::take(&mut self.buffered);
        let mut input = &buffered[self.decoded..];
        let inbound = self.decode(&mut input, messages_max);
        if input.is_empty() {
            self.decoded = 0;
        } else {
            self.decoded = buffered.len() - input.len();
            self.buffered = buffered;
        }
        inbound
    }

    fn decode(&mut self, input: &mut &[u8], messages_max: usize) -> Inbound {
        let inbound = decode(&mut self.decoder, input, messages_max);
        if self.decoder.is_idle() {
            // The message is whole; the time of the next message is counted from its own first
            // byte.
            self.arrival = None;
        }
        inbound
    }

    fn look(&mut self, timeout: Duration, now: Instant, is_heard: bool) {
        if self.decoder.is_idle() {
            return;
        }
        let allowance = self.allowance(timeout);
        let arrival = self.arrival.get_or_insert_with(|| Arrival::new(now));
        arrival.look(allowance, now, is_heard);
    }

    fn allowance(&self, timeout: Duration) -> Allowance {
        Allowance {
            timeout,
            received: self.decoder.received_bytes(),
        }
    }

    /// Whether the next byte is the first byte of a message.
    fn is_over(&self) -> bool {
        self.put_back.is_empty() && self.buffered.is_empty() && self.decoder.is_idle()
    }
}

/// Discarding reads in one poll before other tasks may run.
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
    fn next(frame_reader: &mut FrameReader, messages_max: usize) -> Vec<String> {
        match frame_reader.next(messages_max) {
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
        let mut frame_reader = FrameReader::new(100, Inflation::default());
        frame_reader.put_back(frames(&["a", "b", "c", "d"]));
        assert_eq!(
            next(&mut frame_reader, 1),
            ["a"],
            "no more than may be taken"
        );
        let mut rest = frames(&["b", "c"]);
        assert_eq!(next(&mut frame_reader, 2), texts(&rest));
        let _taken = rest.split_front(1);
        frame_reader.put_back(rest);
        assert!(frame_reader.has_buffered());
        assert_eq!(frame_reader.held(), 2, "bytes of texts");
        assert_eq!(
            next(&mut frame_reader, 9),
            ["c"],
            "before those that were left"
        );
        assert_eq!(next(&mut frame_reader, 9), ["d"]);
        assert!(frame_reader.is_empty());
    }
}
