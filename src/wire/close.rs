//! The reasons for which a connection ends, as a close frame states them (RFC 6455 5.5.1 and 7.4).

use crate::planted::{self, Bug};
use crate::wire::close_code::CloseCode;
use crate::wire::control::{CONTROL_BYTES_MAX, ControlPayload};
use crate::wire::error::WireError;

/// The longest reason of a close frame: a control payload without the code (RFC 6455 5.5.1).
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The body of a close frame, if the frame has a body (RFC 6455 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    code: CloseCode,
    reason: Box<str>,
}

impl CloseFrame {
    /// Makes a body; cuts `reason` at a character's end to at most [`CLOSE_REASON_BYTES_MAX`].
    pub fn new(code: CloseCode, reason: impl AsRef<str>) -> Self {
        let reason = reason.as_ref();
        let end = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
        Self {
            code,
            reason: Box::from(&reason[..end]),
        }
    }

    /// The status code.
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The reason, empty or for a developer to read; at most [`CLOSE_REASON_BYTES_MAX`] bytes.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Reads a close frame's unmasked payload; `None` for an empty payload, which has no status.
    ///
    /// # Errors
    ///
    /// [`WireError::CloseTooShort`] for one byte, [`WireError::BadCloseCode`] for a code that
    /// is not [allowed on the wire](CloseCode::allowed_on_wire), [`WireError::InvalidUtf8`]
    /// for a reason that is not UTF-8 (RFC 6455 7.1.5, 8.1).
    pub fn parse(payload: &ControlPayload) -> Result<Option<Self>, WireError> {
        let (code, reason) = match payload.as_slice() {
            [] => return Ok(None),
            [_] => return Err(WireError::CloseTooShort),
            [high, low, reason @ ..] => (CloseCode::new(u16::from_be_bytes([*high, *low])), reason),
        };
        if !code.allowed_on_wire() && !planted::is(Bug::CloseCodeTaken) {
            return Err(WireError::BadCloseCode(code));
        }
        let reason = str::from_utf8(reason).map_err(|_invalid| WireError::InvalidUtf8)?;
        Ok(Some(Self {
            code,
            reason: reason.into(),
        }))
    }

    /// Encodes the body as the payload of a close frame.
    ///
    /// The payload is empty if the code is not [allowed on the wire](CloseCode::allowed_on_wire):
    /// RFC 6455 7.4.1 forbids to send such a code.
    pub fn encode(&self) -> ControlPayload {
        let mut payload = ControlPayload::EMPTY;
        if self.code.allowed_on_wire() {
            payload.append(&self.code.get().to_be_bytes());
            payload.append(self.reason.as_bytes());
        }
        payload
    }
}
