//! The header of a client's frame (RFC 6455 5.2).

use crate::wire::control::CONTROL_BYTES_MAX;
use crate::wire::error::WireError;
use crate::wire::frame::{FIN, OpCode};
use crate::wire::mask::Mask;

/// The longest header of a client's frame: two bytes, a 64-bit length, a masking key.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// RSV1 to RSV3, which only a negotiated extension may set; none is.
const RESERVED: u8 = 0x70;

/// The bit of a frame's second byte that announces a masking key.
const MASKED: u8 = 0x80;

/// A legal header, as far as a header alone can be judged.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    /// At most 125 for a control frame.
    pub(super) payload_len: u64,
    pub(super) mask: Mask,
}

/// The bytes of a header that has not arrived in full.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; CLIENT_HEADER_BYTES_MAX],
    len: u8,
}

impl PartialHeader {
    /// Takes a header's bytes off `input`; `None` took all of them and needs more.
    ///
    /// With the header, `self` has served its purpose.
    ///
    /// # Errors
    ///
    /// What [`parse`] finds, the first in the order of the header's bytes.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Header>, WireError> {
        let old = usize::from(self.len);
        let more = input.len().min(CLIENT_HEADER_BYTES_MAX - old);
        let new = old + more;
        self.bytes[old..new].copy_from_slice(&input[..more]);
        if let Some((header, size)) = parse(&self.bytes[..new])? {
            *input = &input[size - old..];
            return Ok(Some(header));
        }
        *input = &input[more..];
        self.len = u8::try_from(new).expect("14 bytes hold every header");
        Ok(None)
    }
}

/// Reads a header from the front of `bytes`, with its size; `None` if it goes on.
fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, WireError> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let fin = first & FIN != 0;
    let opcode = parse_opcode(first)?;
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
        opcode,
        payload_len,
        mask: Mask::new(key),
    };
    Ok(Some((header, bytes.len() - rest.len())))
}

fn parse_opcode(first: u8) -> Result<OpCode, WireError> {
    if first & RESERVED != 0 {
        return Err(WireError::ReservedBits);
    }
    OpCode::from_bits(first).ok_or(WireError::ReservedOpcode(first & 0x0F))
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

/// Reads the payload's length in whichever of its three forms, and what follows it.
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
