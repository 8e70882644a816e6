//! The mask over a client's payload (RFC 6455 5.3).

use crate::planted::{self, Bug};

/// A frame's masking key, rotated so that its lowest byte masks the next byte of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask(u32);

/// The bits of a word that are clear in ASCII text.
const NOT_ASCII: u64 = u64::from_ne_bytes([0x80; 8]);

impl Mask {
    /// Makes a mask of the key in a header, for the payload's first byte.
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(key))
    }

    /// Writes a whole payload unmasked to `room`, which must have its length; returns whether all
    /// of it is ASCII. Works in words as far as they go.
    #[inline(always)]
    pub(super) fn copy(self, payload: &[u8], room: &mut [u8]) -> bool {
        // Bytes of other messages would be left over; and the check spares bounds checks below.
        assert_eq!(payload.len(), room.len(), "there is as much room");
        let key = u64::from(self.0) << 32 | u64::from(self.0);
        let ((words, rest), (room, room_rest)) = (payload.as_chunks(), room.as_chunks_mut());
        let mut bits = 0;
        for (word, room) in words.iter().zip(room) {
            let plain = u64::from_le_bytes(*word) ^ key;
            bits |= plain;
            *room = plain.to_le_bytes();
        }
        for ((byte, room), key) in rest.iter().zip(room_rest).zip(key.to_le_bytes()) {
            *room = byte ^ key;
            bits |= u64::from(*room);
        }
        bits & NOT_ASCII == 0
    }

    /// Unmasks the next bytes of the payload; works in words as far as they go.
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        let key = u64::from(self.0) << 32 | u64::from(self.0);
        let (words, rest) = payload.as_chunks_mut();
        for word in words {
            *word = (u64::from_le_bytes(*word) ^ key).to_le_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(key.to_le_bytes()) {
            *byte ^= key;
        }
        // A word is two turns of the key, so that only the rest moves the phase.
        if !planted::is(Bug::MaskRestarted) {
            let bytes = rest.len() as u32 % 4;
            self.0 = self.0.rotate_right(8 * bytes);
        }
    }
}
