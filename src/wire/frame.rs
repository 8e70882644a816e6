//! Data messages, encoded once as a server sends them.

use std::fmt;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use crate::wire::control::ControlKind;
use crate::wire::error::WireError;

/// The longest header of a server's frame: two bytes and a 64-bit length (RFC 6455 5.2).
pub const HEADER_BYTES_MAX: usize = 10;

/// The FIN bit of a frame's first byte (RFC 6455 5.2).
pub(super) const FIN: u8 = 0x80;

/// The first reserved bit, which marks a compressed message (RFC 7692 6).
pub(super) const RSV1: u8 = 0x40;

/// What a frame is, as its first byte's low four bits say (RFC 6455 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// A further fragment of the message under way.
    Continuation,
    /// The first or only fragment of a message.
    Data(DataKind),
    /// A control frame, which may stand between fragments.
    Control(ControlKind),
}

impl OpCode {
    /// Reads the low four bits of a frame's first byte; the reserved codes are `None`.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0x0F {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Data(DataKind::Text)),
            0x2 => Some(Self::Data(DataKind::Binary)),
            0x8 => Some(Self::Control(ControlKind::Close)),
            0x9 => Some(Self::Control(ControlKind::Ping)),
            0xA => Some(Self::Control(ControlKind::Pong)),
            _ => None,
        }
    }

    /// The four bits that stand for this code, `0x0` to `0xA`.
    pub fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Data(DataKind::Text) => 0x1,
            Self::Data(DataKind::Binary) => 0x2,
            Self::Control(ControlKind::Close) => 0x8,
            Self::Control(ControlKind::Ping) => 0x9,
            Self::Control(ControlKind::Pong) => 0xA,
        }
    }
}

/// The two kinds of data message (RFC 6455 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// What a data message says, shared with the frame it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The payload of a text message.
    Text(ByteString),
    /// The payload of a binary message.
    Binary(Bytes),
}

impl Payload {
    /// Whether this is text or binary.
    pub fn kind(&self) -> DataKind {
        match self {
            Self::Text(_) => DataKind::Text,
            Self::Binary(_) => DataKind::Binary,
        }
    }

    /// The payload's bytes; a text's are UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// One complete data message, encoded as one unmasked FIN frame (RFC 6455 5.2, 5.6).
///
/// The encoding and the payload are views of one allocation, so a clone copies no payload and
/// one frame serves any number of receivers. Two frames are equal if their encodings are.
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
    payload: Payload,
}

impl Frame {
    /// Encodes a text message, copying `text` once.
    pub fn text(text: impl AsRef<str>) -> Self {
        FrameBuffer::filled(text.as_ref().as_bytes())
            .into_frame(DataKind::Text)
            .expect("a str is UTF-8")
    }

    /// Encodes a binary message, copying `bytes` once.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        FrameBuffer::filled(bytes.as_ref())
            .into_frame(DataKind::Binary)
            .expect("only text is checked")
    }

    /// What the message says.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The encoded frame, header included, ready for any client's socket.
    ///
    /// It is at most [`HEADER_BYTES_MAX`] longer than the payload.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The length of the payload in bytes, header excluded.
    pub fn len(&self) -> usize {
        self.payload.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    // Messages belong to users: their content stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.payload.kind())
            .field("len", &self.len())
            .finish()
    }
}

/// A payload under construction, with room in front for its header.
///
/// Either empty and without an allocation, or [`HEADER_BYTES_MAX`] bytes of room followed by
/// the payload so far.
#[derive(Default)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// A buffer that holds exactly `payload`.
    fn filled(payload: &[u8]) -> Self {
        let mut buffer = Self::default();
        buffer.append(payload, payload.len());
        buffer
    }

    /// Appends `chunk` and returns it in its place.
    ///
    /// Capacity at most doubles beyond what is needed, and exceeds neither that nor
    /// `payload_max`, a bound on the finished payload.
    pub(super) fn append(&mut self, chunk: &[u8], payload_max: usize) -> &mut [u8] {
        if chunk.is_empty() {
            return &mut [];
        }
        self.reserve(chunk.len(), payload_max);
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES_MAX, 0);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        &mut self.bytes[start..]
    }

    /// The payload so far.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES_MAX..).unwrap_or_default()
    }

    /// The length of the payload so far.
    pub(super) fn payload_len(&self) -> usize {
        self.payload().len()
    }

    /// The bytes allocated, room for the header included.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes the header in front of the payload and makes both a frame, without copying.
    ///
    /// # Errors
    ///
    /// [`WireError::InvalidUtf8`] for a text that is not UTF-8.
    pub(super) fn into_frame(mut self, kind: DataKind) -> Result<Frame, WireError> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES_MAX, 0);
        }
        let (room, payload) = self
            .bytes
            .split_first_chunk_mut()
            .expect("a buffer that is not empty starts with the header's room");
        let header_len = write_header(room, kind, payload.len());
        let mut bytes = Bytes::from(self.bytes);
        bytes.advance(HEADER_BYTES_MAX - header_len);
        let payload = bytes.slice(header_len..);
        let payload = match kind {
            DataKind::Text => Payload::Text(
                ByteString::try_from(payload).map_err(|_invalid| WireError::InvalidUtf8)?,
            ),
            DataKind::Binary => Payload::Binary(payload),
        };
        Ok(Frame { bytes, payload })
    }

    fn reserve(&mut self, additional: usize, payload_max: usize) {
        let needed = self.bytes.len().max(HEADER_BYTES_MAX) + additional;
        let capacity = self.bytes.capacity();
        if needed <= capacity {
            return;
        }
        let ceiling = payload_max.saturating_add(HEADER_BYTES_MAX);
        let target = needed.max(ceiling.min(capacity.saturating_mul(2)));
        self.bytes.reserve_exact(target - self.bytes.len());
    }
}

/// Writes the minimal header at the end of `room` and returns its length.
pub(super) fn write_header(
    room: &mut [u8; HEADER_BYTES_MAX],
    kind: DataKind,
    payload_len: usize,
) -> usize {
    let first = FIN | OpCode::Data(kind).bits();
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(short @ 0..=125), _) => {
            room[8..].copy_from_slice(&[first, short]);
            2
        }
        (_, Ok(medium)) => {
            room[6..8].copy_from_slice(&[first, 126]);
            room[8..].copy_from_slice(&medium.to_be_bytes());
            4
        }
        (_, Err(_too_long)) => {
            room[..2].copy_from_slice(&[first, 127]);
            room[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    }
}
