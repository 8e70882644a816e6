//! The state machine that turns a client's bytes into events.

use std::fmt;

use crate::planted::{self, Bug};
use crate::wire::close::CloseFrame;
use crate::wire::control::ControlPayload;
use crate::wire::deflate::{deflated_bytes_max, inflate};
use crate::wire::error::{EMPTY_FRAGMENTS_MAX, WireError};
use crate::wire::frame::FrameBuffer;
use crate::wire::frames::{Builder, Frames, JOINED_BYTES_MAX};
pub use crate::wire::header::Inflation;
use crate::wire::header::{Coding, Header, PartialHeader, WholeHeader};
use crate::wire::mask::Mask;
use crate::wire::opcode::{ControlKind, DataKind, OpCode, header_len};
use crate::wire::utf8::Utf8Validator;

/// A decoded input of a client; small, as control frames, which are rare, are boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Complete data messages, at least one, already encoded for other clients.
    Messages(Frames),
    /// A ping, to be answered by a pong with the same payload (RFC 6455 5.5.2).
    Ping(Box<ControlPayload>),
    /// A pong, solicited or not (RFC 6455 5.5.3).
    Pong(Box<ControlPayload>),
    /// The frame of the closing handshake, with its status if it had one (RFC 6455 5.5.1).
    ///
    /// No event follows.
    Close(Option<CloseFrame>),
}

/// Decodes the frames of one client, from chunks that are cut anywhere.
///
/// Between messages the decoder holds no heap memory. During a message it holds the bytes that have
/// arrived, in a buffer of at most twice that and at most the limit; a length that a header merely
/// announces allocates nothing. Text is checked as it arrives. A complete message is copied once,
/// to memory of its exact size.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    /// The message whose fragments are arriving.
    message: Option<Message>,
    message_bytes_max: usize,
    inflation: Inflation,
}

impl Decoder {
    /// Makes a decoder that takes messages of up to `message_bytes_max` bytes of payload.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            stage: Stage::default(),
            message: None,
            message_bytes_max,
            inflation: Inflation::None,
        }
    }

    /// Sets whether permessage-deflate is agreed on with the client.
    ///
    /// A compressed message is kept compressed until it is complete; the restored message is held
    /// to the limit of all messages.
    #[must_use]
    pub fn inflating(mut self, inflation: Inflation) -> Self {
        self.inflation = inflation;
        self
    }

    /// Decodes the next event from the front of `input` and takes its bytes off. Complete messages
    /// at the front are returned together, up to `messages_max` and to a few kilobytes.
    ///
    /// Call it again until it returns `Ok(None)`: then it has taken all of `input` and needs more.
    /// After a close or an error it takes all input and returns no event, as RFC 6455 7.1.7
    /// demands.
    ///
    /// # Errors
    ///
    /// The first [`WireError`] in the order of the bytes, wherever the chunks are cut; `input` is
    /// then empty. [`WireError::TooBig`] comes with the header that announces the length.
    #[inline]
    pub fn decode(
        &mut self,
        input: &mut &[u8],
        messages_max: usize,
    ) -> Result<Option<Event>, WireError> {
        match self.decode_whole(input, messages_max) {
            Some(frames) => Ok(Some(Event::Messages(frames))),
            None => self.decode_next(input),
        }
    }

    /// The heap memory held for a partial frame or message, in bytes; zero when idle.
    pub fn heap_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |m| m.buffer.capacity());
        message + self.stage.heap_bytes()
    }

    /// The payload bytes received so far of an incomplete message, in all of its fragments.
    pub fn received_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |m| m.buffer.payload_len())
    }

    /// Decodes the next event of any kind.
    // Not inlined, so that the fast path of whole messages does not pay for its stack frame.
    #[inline(never)]
    fn decode_next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, WireError> {
        let outcome = self.advance(input);
        match &outcome {
            Ok(None | Some(Event::Messages(_) | Event::Ping(_) | Event::Pong(_))) => {}
            Ok(Some(Event::Close(_))) => self.end(),
            Err(_) => {
                self.end();
                *input = &[];
            }
        }
        outcome
    }

    /// Decodes the next messages as long as they are common ones: complete, in a single frame,
    /// plain.
    ///
    /// A shortcut that reports no error: it leaves anything else in `input`, to
    /// [`decode_next`](Self::decode_next).
    fn decode_whole(&self, input: &mut &[u8], messages_max: usize) -> Option<Frames> {
        if !self.is_idle() {
            return None;
        }
        let (count, bytes) = self.measure(input, messages_max);
        if count == 0 {
            return None;
        }
        let mut builder = Builder::with_room(bytes);
        for _ in 0..count {
            let (whole, rest) = self.split_whole(input)?;
            // A text that is not UTF-8 is left to `decode_next`, which reports the error.
            if !builder.push(whole.kind, whole.masked.len(), |room| whole.unmask(room)) {
                break;
            }
            *input = rest;
        }
        builder.finish()
    }

    /// The number of common messages at the front of `input`, and the length of their frames as the
    /// server encodes them.
    #[inline]
    fn measure(&self, input: &[u8], messages_max: usize) -> (usize, usize) {
        let (mut count, mut bytes, mut rest) = (0, 0, input);
        while count < messages_max
            && let Some((whole, after)) = self.split_whole(rest)
        {
            let frame = header_len(whole.masked.len()) + whole.masked.len();
            if count > 0 && bytes + frame > JOINED_BYTES_MAX {
                break;
            }
            (count, bytes, rest) = (count + 1, bytes + frame, after);
        }
        (count, bytes)
    }

    /// Splits a common message off the front of `input`; `None` for any other input.
    #[inline]
    fn split_whole<'a>(&self, input: &'a [u8]) -> Option<(Whole<'a>, &'a [u8])> {
        let header = WholeHeader::read(input)?;
        let payload_len = header.payload_len;
        let room = input.len() - header.size;
        if payload_len > room || !fits(payload_len, self.message_bytes_max) {
            return None;
        }
        let (whole, rest) = input.split_at(header.size + payload_len);
        let whole = Whole {
            kind: header.kind,
            mask: header.mask,
            masked: &whole[header.size..],
        };
        Some((whole, rest))
    }

    /// Whether the next byte is the first of a message: the decoder is then like a new one.
    pub fn is_idle(&self) -> bool {
        self.message.is_none() && self.stage.is_between_frames()
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, WireError> {
        loop {
            match &mut self.stage {
                Stage::Header(partial) => match partial.read(input, self.inflation)? {
                    Some(header) => self.stage = self.begin(&header)?,
                    None => return Ok(None),
                },
                Stage::Data(_) => match self.read_data(input)? {
                    Read::Missing => return Ok(None),
                    Read::Done(None) => {}
                    Read::Done(Some(frames)) => return Ok(Some(Event::Messages(frames))),
                },
                Stage::Control(control) => {
                    let Read::Done(payload) = control.read(input) else {
                        return Ok(None);
                    };
                    let kind = control.kind;
                    self.stage = Stage::default();
                    if planted::is(Bug::FragmentsForgotten) {
                        self.message = None;
                    }
                    return control_event(kind, payload).map(Some);
                }
                Stage::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Checks a header against the state of the message, and returns the next stage.
    fn begin(&mut self, header: &Header) -> Result<Stage, WireError> {
        let kind = match (header.opcode, &self.message) {
            (OpCode::Control(kind), _) => return Ok(Stage::control(kind, header)),
            (OpCode::Continuation, None) => return Err(WireError::UnexpectedContinuation),
            (OpCode::Data(_), Some(_)) => return Err(WireError::ExpectedContinuation),
            (OpCode::Continuation, Some(message)) => message.kind,
            (OpCode::Data(kind), None) => kind,
        };
        let coding = header.coding;
        let message = self
            .message
            .get_or_insert_with(|| Message::new(kind, coding));
        let limit = message.bytes_max(self.message_bytes_max);
        let total = message.total_with(header.payload_len, limit)?;
        if header.payload_len == 0 {
            message.count_empty()?;
        }
        Ok(Stage::Data(DataFrame {
            fin: header.fin,
            mask: header.mask,
            left: total - message.buffer.payload_len(),
            message_bytes_max: if header.fin { total } else { limit },
        }))
    }

    fn read_data(&mut self, input: &mut &[u8]) -> Result<Read<Option<Frames>>, WireError> {
        let (Stage::Data(frame), Some(message)) = (&mut self.stage, &mut self.message) else {
            unreachable!("a data frame's header makes its message")
        };
        message.read(frame, input)?;
        if frame.left > 0 {
            return Ok(Read::Missing);
        }
        let fin = frame.fin;
        self.stage = Stage::default();
        match self.message.take_if(|_| fin) {
            Some(message) => Ok(Read::Done(Some(message.finish(self.message_bytes_max)?))),
            None => Ok(Read::Done(None)),
        }
    }

    /// Drops all partial input, for good.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.message = None;
    }
}

/// A complete, plain message in a single frame.
struct Whole<'a> {
    kind: DataKind,
    mask: Mask,
    masked: &'a [u8],
}

impl Whole<'_> {
    /// Writes the payload to `room`, which has its length; returns whether all of it is ASCII.
    #[inline]
    fn unmask(&self, room: &mut [u8]) -> bool {
        self.mask.copy(self.masked, room)
    }
}

/// The part of a frame that the next byte belongs to.
#[derive(Debug)]
enum Stage {
    Header(PartialHeader),
    Data(DataFrame),
    Control(ControlFrame),
    /// A close or an error came: further bytes are ignored.
    Ended,
}

impl Stage {
    fn control(kind: ControlKind, header: &Header) -> Self {
        Self::Control(ControlFrame {
            kind,
            mask: header.mask,
            left: u8::try_from(header.payload_len).expect("a control frame has at most 125"),
            payload: None,
        })
    }

    /// Whether the next byte starts a frame.
    fn is_between_frames(&self) -> bool {
        matches!(self, Self::Header(partial) if partial.is_empty())
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Control(control) => control.payload.as_deref().map_or(0, size_of_val),
            Self::Header(_) | Self::Data(_) | Self::Ended => 0,
        }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::Header(PartialHeader::default())
    }
}

/// The result of a read: complete, or more input is missing.
enum Read<T> {
    Done(T),
    Missing,
}

/// A data frame after its header.
#[derive(Debug)]
struct DataFrame {
    fin: bool,
    mask: Mask,
    left: usize,
    /// The message's length if this frame is the last, the decoder's limit otherwise.
    message_bytes_max: usize,
}

/// A control frame after its header.
#[derive(Debug)]
struct ControlFrame {
    kind: ControlKind,
    mask: Mask,
    left: u8,
    /// Boxed, as it is rarely needed and far larger than the decoder.
    payload: Option<Box<ControlPayload>>,
}

impl ControlFrame {
    fn read(&mut self, input: &mut &[u8]) -> Read<Box<ControlPayload>> {
        let chunk = take(input, usize::from(self.left));
        self.left -= u8::try_from(chunk.len()).expect("no more than was left");
        if !chunk.is_empty() {
            let payload = self.payload.get_or_insert_default();
            self.mask.apply(payload.append(chunk));
        }
        match self.left {
            0 => Read::Done(self.payload.take().unwrap_or_default()),
            _ => Read::Missing,
        }
    }
}

fn control_event(kind: ControlKind, payload: Box<ControlPayload>) -> Result<Event, WireError> {
    match kind {
        ControlKind::Close => CloseFrame::parse(&payload).map(Event::Close),
        ControlKind::Ping => Ok(Event::Ping(payload)),
        ControlKind::Pong => Ok(Event::Pong(payload)),
    }
}

/// A message whose last fragment has not arrived in full.
struct Message {
    kind: DataKind,
    coding: Coding,
    empty_fragments: u16,
    utf8: Utf8Validator,
    buffer: FrameBuffer,
}

impl Message {
    fn new(kind: DataKind, coding: Coding) -> Self {
        Self {
            kind,
            coding,
            empty_fragments: 0,
            utf8: Utf8Validator::default(),
            buffer: FrameBuffer::default(),
        }
    }

    /// The most bytes of all fragments together.
    fn bytes_max(&self, message_bytes_max: usize) -> usize {
        match self.coding {
            Coding::Deflated => deflated_bytes_max(message_bytes_max),
            Coding::Plain => message_bytes_max,
        }
    }

    /// The length with a further fragment of `payload_len`, unless that exceeds `limit`.
    fn total_with(&self, payload_len: u64, limit: usize) -> Result<usize, WireError> {
        let announced = (self.buffer.payload_len() as u64).saturating_add(payload_len);
        usize::try_from(announced)
            .ok()
            .filter(|total| fits(*total, limit))
            .ok_or(WireError::TooBig { announced, limit })
    }

    fn count_empty(&mut self) -> Result<(), WireError> {
        if self.empty_fragments == EMPTY_FRAGMENTS_MAX {
            return Err(WireError::TooManyFragments);
        }
        self.empty_fragments += 1;
        Ok(())
    }

    /// Takes the bytes of `frame` that `input` has.
    fn read(&mut self, frame: &mut DataFrame, input: &mut &[u8]) -> Result<(), WireError> {
        let chunk = take(input, frame.left);
        frame.left -= chunk.len();
        let whole = frame.fin && frame.left == 0 && self.buffer.payload_len() == 0;
        let payload = self.buffer.append(chunk, frame.message_bytes_max);
        frame.mask.apply(payload);
        match (self.kind, self.coding) {
            // A message in one piece is checked once, when it becomes a frame.
            (DataKind::Text, Coding::Plain) if !whole => self.utf8.push(payload),
            (DataKind::Text | DataKind::Binary, Coding::Deflated | Coding::Plain) => Ok(()),
        }
    }

    fn finish(self, message_bytes_max: usize) -> Result<Frames, WireError> {
        let buffer = match self.coding {
            Coding::Deflated => inflate(self.buffer.payload(), message_bytes_max)?,
            Coding::Plain => self.buffer,
        };
        buffer.into_frame(self.kind).map(Frames::from)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("len", &self.buffer.payload_len())
            .finish_non_exhaustive()
    }
}

/// Whether a message of this length keeps to the limit.
fn fits(bytes: usize, limit: usize) -> bool {
    let limit = planted::one_more(Bug::LimitTooLarge, limit);
    bytes <= planted::one_less(Bug::LimitTooSmall, limit)
}

/// Takes up to `max` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], max: usize) -> &'a [u8] {
    let (chunk, rest) = input.split_at(max.min(input.len()));
    *input = rest;
    chunk
}
