//! The mistakes of a client on the wire, and the close code that answers each.

use std::error::Error;
use std::fmt;

use crate::wire::close_code::CloseCode;

/// The most empty fragments of a message.
///
/// The limit of a message's length bounds fragments with bytes, but not empty ones, which RFC 6455
/// 5.4 allows.
pub const EMPTY_FRAGMENTS_MAX: u16 = 1024;

/// The reason why the decoder gave up on a client's bytes; one variant for each cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A frame without a mask (RFC 6455 5.1).
    Unmasked,
    /// A reserved bit that no agreed extension uses there (RFC 6455 5.2).
    ReservedBits,
    /// An opcode from 3 to 7 or from 11 to 15 (RFC 6455 5.2).
    ReservedOpcode(u8),
    /// A control frame without FIN (RFC 6455 5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes, or with a length in the form for more (RFC 6455
    /// 5.5).
    ControlTooLong,
    /// A length in more bytes than it needs (RFC 6455 5.2).
    NonMinimalLength,
    /// A 64-bit length with its most significant bit set (RFC 6455 5.2).
    LengthTopBit,
    /// A continuation without a message to continue (RFC 6455 5.4).
    UnexpectedContinuation,
    /// A new message before the last fragment of the message under way (RFC 6455 5.4).
    ExpectedContinuation,
    /// A close frame with one byte, which is half a code (RFC 6455 5.5.1).
    CloseTooShort,
    /// A close frame with a code that must not be sent (RFC 6455 7.4).
    BadCloseCode(CloseCode),
    /// A text or a close reason that is not UTF-8 (RFC 6455 8.1).
    InvalidUtf8,
    /// A compressed message that no compressor wrote (RFC 7692 7.2.2).
    BadDeflate,
    /// A compressed message that is longer than the decoder's limit once it is restored.
    InflatesTooBig {
        /// The decoder's limit, in bytes.
        limit: usize,
    },
    /// A message longer than the decoder's limit; if compressed, longer than any message within the
    /// limit can be once compressed.
    TooBig {
        /// The message's length as far as announced, in bytes.
        announced: u64,
        /// The decoder's limit, in bytes.
        limit: usize,
    },
    /// A message with more than [`EMPTY_FRAGMENTS_MAX`] empty fragments.
    TooManyFragments,
}

impl WireError {
    /// The code to close the connection with: 1002, 1007, 1008 or 1009 (RFC 6455 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::NonMinimalLength
            | Self::LengthTopBit
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTooShort
            | Self::BadCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::BadDeflate | Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::InflatesTooBig { .. } | Self::TooBig { .. } => CloseCode::TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmasked => f.write_str("frame is not masked"),
            Self::ReservedBits => f.write_str("reserved bit is set"),
            Self::ReservedOpcode(bits) => write!(f, "opcode {bits:#x} is reserved"),
            Self::FragmentedControl => f.write_str("control frame is fragmented"),
            Self::ControlTooLong => f.write_str("control frame is longer than 125 bytes"),
            Self::NonMinimalLength => f.write_str("length is not in its shortest form"),
            Self::LengthTopBit => f.write_str("length has its top bit set"),
            Self::UnexpectedContinuation => f.write_str("continuation without a message"),
            Self::ExpectedContinuation => f.write_str("new message within a fragmented one"),
            Self::CloseTooShort => f.write_str("close frame has half a code"),
            Self::BadCloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::InvalidUtf8 => f.write_str("text is not utf-8"),
            Self::BadDeflate => f.write_str("compressed message cannot be restored"),
            Self::InflatesTooBig { limit } => {
                write!(
                    f,
                    "message exceeds the limit of {limit} bytes once restored"
                )
            }
            Self::TooBig { announced, limit } => {
                write!(
                    f,
                    "message of {announced} bytes exceeds the limit of {limit}"
                )
            }
            Self::TooManyFragments => {
                write!(
                    f,
                    "message has more than {EMPTY_FRAGMENTS_MAX} empty fragments"
                )
            }
        }
    }
}

impl Error for WireError {}
