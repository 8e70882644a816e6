//! Pings, pongs and closes, whose payload the protocol bounds.

use std::fmt;

use crate::wire::error::WireError;
use crate::wire::opcode::{ControlKind, FIN, OpCode};

/// The longest payload of a control frame (RFC 6455 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The payload of a control frame, at most [`CONTROL_BYTES_MAX`] bytes, kept inline.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: u8,
}

impl ControlPayload {
    /// The payload without bytes.
    pub const EMPTY: Self = Self {
        bytes: [0; CONTROL_BYTES_MAX],
        len: 0,
    };

    /// The bytes of the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends `chunk` and returns the appended bytes; the caller keeps to the bound.
    pub(super) fn append(&mut self, chunk: &[u8]) -> &mut [u8] {
        let start = usize::from(self.len);
        let tail = &mut self.bytes[start..start + chunk.len()];
        tail.copy_from_slice(chunk);
        self.len += u8::try_from(chunk.len()).expect("it fitted into 125 bytes");
        tail
    }
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl TryFrom<&[u8]> for ControlPayload {
    type Error = WireError;

    /// Copies `bytes`; fails with [`WireError::ControlTooLong`] above [`CONTROL_BYTES_MAX`].
    fn try_from(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > CONTROL_BYTES_MAX {
            return Err(WireError::ControlTooLong);
        }
        let mut payload = Self::EMPTY;
        payload.append(bytes);
        Ok(payload)
    }
}

impl AsRef<[u8]> for ControlPayload {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ControlPayload {}

impl fmt::Debug for ControlPayload {
    // Like a message, a control payload may hold private data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPayload")
            .field("len", &self.len)
            .finish()
    }
}

/// Appends an unmasked control frame to `out`: two bytes of header, then the payload.
///
/// The payload of a close frame is the result of
/// [`CloseFrame::encode`](crate::wire::CloseFrame::encode), or empty for no status (RFC 6455 5.5).
pub fn append_control(out: &mut Vec<u8>, kind: ControlKind, payload: &ControlPayload) {
    out.extend_from_slice(&[FIN | OpCode::Control(kind).bits(), payload.len]);
    out.extend_from_slice(payload.as_slice());
}
