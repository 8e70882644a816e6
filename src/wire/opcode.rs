//! The kind and the length of a frame, as its first bytes state them.

/// The longest header of a server's frame: two bytes and a 64-bit length (RFC 6455 5.2).
pub const HEADER_BYTES_MAX: usize = 10;

/// The FIN bit of a frame's first byte (RFC 6455 5.2).
pub(super) const FIN: u8 = 0x80;

/// The first reserved bit, which marks a compressed message (RFC 7692 6).
pub(super) const RSV1: u8 = 0x40;

/// The kind of a frame, from the low four bits of its first byte (RFC 6455 5.2).
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
    /// Reads the low four bits of a frame's first byte; `None` for the reserved codes.
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

    /// The four bits of this code, `0x0` to `0xA`.
    pub const fn bits(self) -> u8 {
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

/// The three kinds of control frame (RFC 6455 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// Starts or completes the closing handshake.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or is sent unsolicited.
    Pong,
}

/// The two kinds of data message (RFC 6455 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl DataKind {
    /// The kind of a data message whose frame has this first byte.
    #[inline]
    pub(super) fn of(first: u8) -> Self {
        if first & 0x0F == OpCode::Data(Self::Text).bits() {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

/// The length of the minimal header for a payload of this length.
#[inline]
pub(super) fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// Writes the minimal header into `room`, which must have its length.
#[inline(always)]
pub(super) fn write_header(room: &mut [u8], kind: DataKind, payload_len: usize) {
    room[0] = FIN | OpCode::Data(kind).bits();
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(short @ 0..=125), _) => room[1] = short,
        (_, Ok(medium)) => {
            room[1] = 126;
            room[2..].copy_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_too_long)) => {
            room[1] = 127;
            room[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}
