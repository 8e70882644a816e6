//! The payload of a compressed message (RFC 7692 7.2).

use std::num::NonZeroUsize;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::planted::{self, Bug};
use crate::wire::error::WireError;
use crate::wire::extension::WindowBits;
use crate::wire::frame::FrameBuffer;
use crate::wire::frames::Frames;
use crate::wire::opcode::{DataKind, RSV1, header_len, write_header};

/// The end of a flushed block, which the wire format leaves out (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The compression level: the fastest of zlib-rs 0.6.8 but 1, which makes messages a quarter longer
/// in equal time, and panics when its output is short of room.
const LEVEL: u32 = 2;

/// The number of bytes inflated at once.
const STEP_BYTES: usize = 8 * 1024;

/// The most compressed bytes of a message of up to `message_bytes_max` bytes: the output for bytes
/// that cannot be compressed, in the longest form (fixed codes).
pub(super) fn deflated_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max
        .saturating_add(message_bytes_max / 8)
        .saturating_add(64)
}

/// Restores a message's payload, at most `message_bytes_max` bytes of it.
///
/// # Errors
///
/// [`WireError::BadDeflate`] for bytes that no compressor wrote, [`WireError::InflatesTooBig`] as
/// soon as the output is a byte too long.
pub(super) fn inflate(deflated: &[u8], message_bytes_max: usize) -> Result<FrameBuffer, WireError> {
    let mut inflated = FrameBuffer::default();
    let mut inflater = Decompress::new(false);
    let mut step = [0; STEP_BYTES];
    for input in [deflated, &TAIL] {
        let mut rest = input;
        loop {
            let (read, written) = (inflater.total_in(), inflater.total_out());
            let status = inflater
                .decompress(rest, &mut step, FlushDecompress::Sync)
                .map_err(|_bad| WireError::BadDeflate)?;
            let read = usize::try_from(inflater.total_in() - read).unwrap_or(rest.len());
            let written = usize::try_from(inflater.total_out() - written).unwrap_or(STEP_BYTES);
            rest = &rest[read..];
            if written > message_bytes_max - inflated.payload_len() {
                let limit = message_bytes_max;
                return Err(WireError::InflatesTooBig { limit });
            }
            inflated.append(&step[..written], message_bytes_max);
            match status {
                // After a final block, a new stream begins (RFC 7692 7.2.3.4).
                Status::StreamEnd => inflater.reset(false),
                Status::Ok | Status::BufError if read == 0 && written == 0 => break,
                Status::Ok | Status::BufError => {}
            }
            if rest.is_empty() && written < STEP_BYTES {
                break;
            }
        }
        if !rest.is_empty() {
            return Err(WireError::BadDeflate);
        }
    }
    Ok(inflated)
}

/// Appends a frame, with `bits` set in its first byte.
fn append_frame(encoded: &mut Vec<u8>, kind: DataKind, payload: &[u8], bits: u8) {
    let start = encoded.len();
    let first = start + header_len(payload.len());
    encoded.resize(first, 0);
    write_header(&mut encoded[start..first], kind, payload.len());
    encoded[start] |= planted::none(Bug::CompressedUnmarked, bits);
    encoded.extend_from_slice(payload);
}

/// Compresses messages independently; keeps its memory, about 200 KiB for each window size in use.
#[derive(Debug, Default)]
pub struct Deflater {
    by_window: [Option<Compress>; WindowBits::COUNT],
}

impl Deflater {
    /// Compresses the payloads of at least `bytes_min` bytes that get shorter by it, and returns
    /// all messages; `None` if no payload gets shorter.
    pub fn frames(
        &mut self,
        frames: &Frames,
        window: WindowBits,
        bytes_min: NonZeroUsize,
    ) -> Option<Frames> {
        let mut encoded = Vec::with_capacity(frames.as_bytes().len());
        let mut is_shorter = false;
        for part in frames.parts() {
            let is_long = part.payload.len() >= bytes_min.get();
            let deflated = is_long
                .then(|| self.deflate(part.payload, window))
                .flatten();
            is_shorter |= deflated.is_some();
            let marked = deflated.as_ref().map_or(0, |_deflated| RSV1);
            let payload = deflated.as_deref().unwrap_or(part.payload);
            append_frame(&mut encoded, part.kind, payload, marked);
        }
        is_shorter.then(|| Frames::encoded(&encoded, frames.len()))
    }

    /// Compresses a payload; `None` if that does not make it shorter.
    fn deflate(&mut self, payload: &[u8], window: WindowBits) -> Option<Vec<u8>> {
        let compress = self.by_window[window.index()].get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, window.get())
        });
        compress.reset();
        let mut deflated = Vec::with_capacity(deflated_bytes_max(payload.len()));
        let status = compress.compress_vec(payload, &mut deflated, FlushCompress::Sync);
        let all_read = compress.total_in() == payload.len() as u64;
        let is_whole = status.is_ok() && all_read && deflated.ends_with(&TAIL);
        debug_assert!(is_whole, "there is room for the longest form");
        deflated.truncate(deflated.len().saturating_sub(TAIL.len()));
        (is_whole && deflated.len() < payload.len()).then_some(deflated)
    }
}
