//! Incremental UTF-8 validation, of chunks that are cut anywhere.

use std::str;

use crate::planted::{self, Bug};
use crate::wire::error::WireError;

/// Checks a text chunk by chunk (RFC 6455 8.1), and keeps at most three bytes between chunks.
///
/// An error is reported with the first byte after which no continuation makes the text valid. A
/// text that ends within a character is found by the check of the whole, which every frame gets.
#[derive(Debug, Default)]
pub(super) struct Utf8Validator {
    /// The start of a character whose end is in the next chunk.
    tail: [u8; 3],
    tail_len: u8,
}

impl Utf8Validator {
    /// Checks the next chunk.
    ///
    /// # Errors
    ///
    /// [`WireError::InvalidUtf8`] if no continuation makes the text valid.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), WireError> {
        let mut rest = chunk;
        while self.tail_len > 0 {
            let Some((&byte, after)) = rest.split_first() else {
                return Ok(());
            };
            self.extend_tail(byte)?;
            rest = after;
        }
        let incomplete = incomplete_end(rest)?;
        if planted::is(Bug::CharacterCutRefused) && !incomplete.is_empty() {
            return Err(WireError::InvalidUtf8);
        }
        self.tail[..incomplete.len()].copy_from_slice(incomplete);
        self.tail_len = u8::try_from(incomplete.len()).expect("a character has four bytes");
        Ok(())
    }

    fn extend_tail(&mut self, byte: u8) -> Result<(), WireError> {
        let len = usize::from(self.tail_len);
        let mut character = [0; 4];
        character[..len].copy_from_slice(&self.tail[..len]);
        character[len] = byte;
        if incomplete_end(&character[..=len])?.is_empty() {
            self.tail_len = 0;
        } else {
            self.tail[len] = byte;
            self.tail_len += 1;
        }
        Ok(())
    }
}

/// The incomplete character at the end of `bytes`: up to three bytes, mostly none.
fn incomplete_end(bytes: &[u8]) -> Result<&[u8], WireError> {
    match str::from_utf8(bytes) {
        Ok(_) => Ok(&[]),
        Err(error) if error.error_len().is_none() => Ok(&bytes[error.valid_up_to()..]),
        Err(_) => Err(WireError::InvalidUtf8),
    }
}
