//! The mask over a client's payload (RFC 6455 5.3).

use crate::planted::{self, Bug};

/// A frame's masking key, turned so that it starts with the next byte's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    /// The key as the header has it, for the payload's first byte.
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Unmasks the next bytes of the payload, in whole words as far as they go.
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let key = [a, b, c, d, a, b, c, d];
        let word_key = u64::from_ne_bytes(key);
        let (words, rest) = payload.as_chunks_mut();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ word_key).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(key) {
            *byte ^= key;
        }
        // A word is two turns of the key, so only the rest moves its phase.
        if !planted::is(Bug::MaskRestarted) {
            self.0.rotate_left(rest.len() % 4);
        }
    }
}
