//! The header of a client's frame (RFC 6455 5.2).

use crate::wire::control::CONTROL_BYTES_MAX;
use crate::wire::error::WireError;
use crate::wire::mask::Mask;
use crate::wire::opcode::{DataKind, FIN, OpCode, RSV1};

/// The longest header of a client's frame: two bytes, a 64-bit length, a masking key.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// RSV1 to RSV3, which only an agreed extension may set.
const RESERVED: u8 = 0x70;

/// The bit of a frame's second byte that announces a masking key.
const MASKED: u8 = 0x80;

/// Whether clients may compress their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inflation {
    /// permessage-deflate is agreed on.
    Agreed,
    /// Compression is not agreed on: a compressed message is an error.
    #[default]
    None,
}

/// Whether a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Deflated,
    Plain,
}

/// A header that is legal as far as the header alone tells.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) coding: Coding,
    pub(super) opcode: OpCode,
    /// At most 125 for a control frame.
    pub(super) payload_len: u64,
    pub(super) mask: Mask,
}

/// The bytes of a header that has arrived in part.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; CLIENT_HEADER_BYTES_MAX],
    len: u8,
}

impl PartialHeader {
    /// Whether no byte has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a header's bytes off `input`; with `None` it took all of `input` and needs more.
    ///
    /// After a header was returned, `self` is of no further use.
    ///
    /// # Errors
    ///
    /// The first error of [`parse`] in the order of the header's bytes.
    pub(super) fn read(
        &mut self,
        input: &mut &[u8],
        inflation: Inflation,
    ) -> Result<Option<Header>, WireError> {
        let old = usize::from(self.len);
        let more = input.len().min(CLIENT_HEADER_BYTES_MAX - old);
        let new = old + more;
        self.bytes[old..new].copy_from_slice(&input[..more]);
        if let Some((header, size)) = parse(&self.bytes[..new], inflation)? {
            *input = &input[size - old..];
            return Ok(Some(header));
        }
        *input = &input[more..];
        self.len = u8::try_from(new).expect("14 bytes hold every header");
        Ok(None)
    }
}

/// Reads a header from the front of `bytes`, with its size; `None` if the header is incomplete.
fn parse(bytes: &[u8], inflation: Inflation) -> Result<Option<(Header, usize)>, WireError> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let fin = first & FIN != 0;
    let (opcode, coding) = parse_first(first, inflation)?;
    if second & MASKED == 0 {
        return Err(WireError::Unmasked);
    }
    let short_len = second & !MASKED;
    if let OpCode::Control(_) = opcode {
        check_control(fin, short_len)?;
    }
    let Some((payload_len, rest)) = parse_len(short_len, rest)? else {
        return Ok(None);
    };
    let Some((&key, rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let header = Header {
        fin,
        coding,
        opcode,
        payload_len,
        mask: Mask::new(key),
    };
    Ok(Some((header, bytes.len() - rest.len())))
}

fn parse_first(first: u8, inflation: Inflation) -> Result<(OpCode, Coding), WireError> {
    let opcode = OpCode::from_bits(first);
    match (first & RESERVED, opcode, inflation) {
        (0, Some(opcode), _) => Ok((opcode, Coding::Plain)),
        (0, None, _) => Err(WireError::ReservedOpcode(first & 0x0F)),
        // RSV1 may be set on the first frame of a message alone (RFC 7692 6.1).
        (RSV1, Some(opcode @ OpCode::Data(_)), Inflation::Agreed) => Ok((opcode, Coding::Deflated)),
        (_, Some(_) | None, Inflation::Agreed | Inflation::None) => Err(WireError::ReservedBits),
    }
}

fn check_control(fin: bool, short_len: u8) -> Result<(), WireError> {
    if !fin {
        return Err(WireError::FragmentedControl);
    }
    // The forms 126 and 127 announce a longer payload, or are not minimal.
    if usize::from(short_len) > CONTROL_BYTES_MAX {
        return Err(WireError::ControlTooLong);
    }
    Ok(())
}

/// The header of an uncompressed message in a single frame, as most messages are.
pub(super) struct WholeHeader {
    pub(super) kind: DataKind,
    pub(super) payload_len: usize,
    pub(super) mask: Mask,
    /// The length of the header.
    pub(super) size: usize,
}

impl WholeHeader {
    /// Reads such a header from the front of `bytes`; `None` for other headers and incomplete ones.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        const TEXT: u8 = FIN | OpCode::Data(DataKind::Text).bits();
        const BINARY: u8 = FIN | OpCode::Data(DataKind::Binary).bits();
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let kind = match first {
            TEXT => DataKind::Text,
            BINARY => DataKind::Binary,
            _ => return None,
        };
        let short_len = second.checked_sub(MASKED)?;
        if let (0..=125, Some(&key)) = (short_len, rest.first_chunk()) {
            return Some(Self {
                kind,
                payload_len: usize::from(short_len),
                mask: Mask::new(key),
                size: 6,
            });
        }
        let (payload_len, rest) = parse_len(short_len, rest).ok()??;
        let (&key, rest) = rest.split_first_chunk()?;
        Some(Self {
            kind,
            payload_len: usize::try_from(payload_len).ok()?,
            mask: Mask::new(key),
            size: bytes.len() - rest.len(),
        })
    }
}

/// Reads the payload's length in any of its three forms; returns it with the bytes behind it.
#[inline]
fn parse_len(short_len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, WireError> {
    match short_len {
        126 => {
            let Some((&len, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let len = u16::from_be_bytes(len);
            if len <= 125 {
                return Err(WireError::NonMinimalLength);
            }
            Ok(Some((u64::from(len), rest)))
        }
        127 => {
            let Some((&len, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(len);
            if len >> 63 != 0 {
                return Err(WireError::LengthTopBit);
            }
            if len <= u64::from(u16::MAX) {
                return Err(WireError::NonMinimalLength);
            }
            Ok(Some((len, rest)))
        }
        short => Ok(Some((u64::from(short), rest))),
    }
}
