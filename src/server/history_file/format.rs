//! The layout of a history file: its marks, its numbers and its checksums.
//!
//! ```text
//!   magic (8)  version (4)  written at (12)  checksum (4)
//!   mark (1)  length (8)  content  checksum (4)               as often as there are records
//! ```
//!
//! Numbers are little-endian. A record is a history, a batch of the history before it, or the end,
//! which has the number of histories and the checksum of all bytes before it. Histories stand in
//! the order of their last use, the newest first, so that the oldest are left out by a bound.

use flate2::Crc;

/// The first bytes of a history file.
pub(super) const MAGIC: [u8; 8] = *b"busl-his";

/// The version of the layout; it changes with every change of the layout.
pub(super) const VERSION: u32 = 3;

/// The layout before, which is still read: a server that is replaced by a newer one wrote it. Its
/// batches have no tags.
pub(super) const VERSION_WITHOUT_TAGS: u32 = 2;

/// The length of a mark and the length behind it.
pub(super) const RECORD_HEAD: usize = 9;

/// The length of a checksum.
pub(super) const SUM: usize = 4;

/// The length of a date and time: seconds and nanoseconds.
pub(super) const TIME: usize = 12;

/// The length of the head of the file.
pub(super) const HEAD: usize = MAGIC.len() + 4 + TIME + SUM;

/// The length of the last record.
pub(super) const END: usize = RECORD_HEAD + 8 + SUM + SUM;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    History,
    Batch,
    End,
}

impl Mark {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::History => b'h',
            Self::Batch => b'b',
            Self::End => b'e',
        }
    }
}

/// The checksum of these bytes (CRC-32): it notices each change of up to 32 bits in a row.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}
