//! Data messages, encoded once as a server sends them.

use std::fmt;

use crate::wire::error::WireError;
use crate::wire::frames::{Builder, Frames, header_len_of};
use crate::wire::opcode::{DataKind, header_len};

/// The content of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// The payload of a text message.
    Text(&'a str),
    /// The payload of a binary message.
    Binary(&'a [u8]),
}

/// A complete data message, encoded as an unmasked FIN frame (RFC 6455 5.2, 5.6).
///
/// The encoded frame lies in a block of memory that its clones share: a frame serves any number of
/// receivers. Two frames are equal if their encodings are.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(
    /// Frames of a single message.
    Frames,
);

impl Frame {
    /// Encodes a text message, copying `text`.
    ///
    /// # Panics
    ///
    /// If the frame is 4 GiB or longer.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::copied(DataKind::Text, text.as_ref().as_bytes())
    }

    /// Encodes a binary message, copying `bytes`.
    ///
    /// # Panics
    ///
    /// If the frame is 4 GiB or longer.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::copied(DataKind::Binary, bytes.as_ref())
    }

    /// Encodes a message of this kind, copying `payload`, which must be legal.
    fn copied(kind: DataKind, payload: &[u8]) -> Self {
        let fill = |room: &mut [u8]| {
            room.copy_from_slice(payload);
            true
        };
        Self::parse(kind, payload.len(), fill).expect("it is legal")
    }

    /// Encodes a message. `fill` writes the payload and returns whether that is ASCII; `None` for a
    /// text that is not UTF-8.
    #[inline]
    fn parse(
        kind: DataKind,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> Option<Self> {
        let mut builder = Builder::with_room(header_len(payload_len) + payload_len);
        builder.push(kind, payload_len, fill);
        builder.finish().map(Self)
    }

    /// Makes a frame of frames of a single message.
    #[inline]
    pub(crate) fn single(frames: Frames) -> Self {
        debug_assert_eq!(frames.len(), 1, "a frame is one message");
        Self(frames)
    }

    /// The frame as [`Frames`] of a single message.
    #[inline]
    pub fn frames(&self) -> &Frames {
        &self.0
    }

    /// Whether the message is text or binary.
    pub fn kind(&self) -> DataKind {
        DataKind::of(self.as_bytes()[0])
    }

    /// The payload as text or bytes.
    ///
    /// Checks each time that a text is UTF-8, in time proportional to its length.
    pub fn payload(&self) -> Payload<'_> {
        let bytes = self.payload_bytes();
        match self.kind() {
            DataKind::Text => {
                Payload::Text(str::from_utf8(bytes).expect("it was checked when it was made"))
            }
            DataKind::Binary => Payload::Binary(bytes),
        }
    }

    /// The bytes of the payload; UTF-8 for a text.
    pub fn payload_bytes(&self) -> &[u8] {
        let bytes = self.as_bytes();
        &bytes[header_len_of(bytes)..]
    }

    /// The encoded frame, header included, ready for any client's socket; at most
    /// [`HEADER_BYTES_MAX`](super::HEADER_BYTES_MAX) bytes longer than the payload.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The length of the payload in bytes, header excluded.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.payload_bytes()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frames {
    /// Iterates over the messages one by one; each shares the memory of the block.
    pub fn iter(&self) -> impl Iterator<Item = Frame> {
        let mut rest = Some(self.clone());
        std::iter::from_fn(move || Self::pop_front(&mut rest))
    }

    /// Takes the first message off; with the last message, `rest` becomes `None`.
    pub(crate) fn pop_front(rest: &mut Option<Self>) -> Option<Frame> {
        let first = match rest {
            Some(frames) if frames.len() > 1 => frames.split_front(1),
            Some(_) | None => rest.take()?,
        };
        Some(Frame::single(first))
    }
}

impl From<Frame> for Frames {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

impl fmt::Debug for Frame {
    // Messages belong to users: their content stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind())
            .field("len", &self.len())
            .finish()
    }
}

/// A payload under construction; an empty one has no allocation.
#[derive(Default)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Appends `chunk` and returns the appended bytes.
    ///
    /// The capacity at most doubles beyond the needed length, and is at most the larger of that
    /// length and `payload_max`, a bound on the complete payload.
    pub(super) fn append(&mut self, chunk: &[u8], payload_max: usize) -> &mut [u8] {
        self.reserve(chunk.len(), payload_max);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        &mut self.bytes[start..]
    }

    /// The payload so far.
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes
    }

    /// The length of the payload so far, in bytes.
    pub(super) fn payload_len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of allocated bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Encodes the payload as a frame; copies it once.
    ///
    /// # Errors
    ///
    /// [`WireError::InvalidUtf8`] for a text that is not UTF-8.
    pub(super) fn into_frame(self, kind: DataKind) -> Result<Frame, WireError> {
        let parsed = Frame::parse(kind, self.bytes.len(), |room| {
            room.copy_from_slice(&self.bytes);
            self.bytes.is_ascii()
        });
        parsed.ok_or(WireError::InvalidUtf8)
    }

    fn reserve(&mut self, additional: usize, payload_max: usize) {
        let needed = self.bytes.len() + additional;
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let target = needed.max(payload_max.min(capacity.saturating_mul(2)));
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }
}
