//! The messages of a client as one stream of equal frames, masked in advance and never stored.

use std::io::Write;

/// The masking key of every frame; a load generator needs no protection from cache poisoning.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Length of the mark of a numbered message: the client and the number, in hexadecimal.
pub(super) const MARK_BYTES: usize = 16;

/// Maximum number of bytes in one write, but at least one frame.
const STRETCH_BYTES: usize = 64 * 1024;

/// The longest header of a client's frame.
const HEADER_BYTES_MAX: usize = 14;

/// Whether messages carry a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// Each message begins with its client and its number.
    Numbered,
    /// All messages are equal.
    None,
}

/// Equal frames, as many as fit into one write.
#[derive(Debug)]
pub(super) struct Frames {
    marks: Marks,
    header_bytes: usize,
    frame_bytes: usize,
    stretch: Vec<u8>,
}

impl Frames {
    /// Frames of text messages of `size` bytes.
    ///
    /// # Panics
    ///
    /// When numbered messages are too short for their mark.
    pub(super) fn new(size: usize, marks: Marks) -> Self {
        assert!(marks == Marks::None || size >= MARK_BYTES, "no room");
        let payload: Vec<u8> = (0..size).map(filler).collect();
        let frame = masked(0x81, &payload);
        let count = (STRETCH_BYTES / frame.len()).max(1);
        Self {
            marks,
            header_bytes: frame.len() - size,
            frame_bytes: frame.len(),
            stretch: frame.repeat(count),
        }
    }

    /// The length of one frame in bytes.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.frame_bytes as u64
    }

    /// The bytes of a client's stream from `from` on, up to `to` or to the length of one write.
    pub(super) fn stretch(&mut self, client: usize, from: u64, to: u64) -> &[u8] {
        let skip = usize::try_from(from % self.frame_bytes()).expect("less than a frame");
        let left = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let len = left.min(self.stretch.len() - skip);
        match self.marks {
            Marks::Numbered if len > 0 => {
                self.number(client, from / self.frame_bytes(), skip + len);
            }
            Marks::Numbered | Marks::None => {}
        }
        &self.stretch[skip..skip + len]
    }

    /// Writes marks into the frames that begin in the first `bytes`, with numbers from `first` on.
    fn number(&mut self, client: usize, first: u64, bytes: usize) {
        let frames = self.stretch[..].chunks_exact_mut(self.frame_bytes);
        let count = bytes.div_ceil(self.frame_bytes);
        for (frame, number) in frames.take(count).zip(first..) {
            let mark = mark(client, number);
            let place = &mut frame[self.header_bytes..][..MARK_BYTES];
            for (index, (byte, mark)) in place.iter_mut().zip(mark).enumerate() {
                *byte = mark ^ KEY[index % 4];
            }
        }
    }
}

/// The byte of a message at an index behind its mark.
pub(super) fn filler(index: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[index % 26]
}

/// The mark of a client's message with this number; numbers wrap after 32 bits.
fn mark(client: usize, number: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    let (client, number) = (client & 0xffff_ffff, number & 0xffff_ffff);
    write!(&mut mark[..], "{client:08x}{number:08x}").expect("16 digits");
    mark
}

/// Parses the client and the number from a mark.
pub(super) fn read_mark(payload: &[u8]) -> Option<(usize, u32)> {
    let mark = std::str::from_utf8(payload.get(..MARK_BYTES)?).ok()?;
    let (client, number) = mark.split_at(MARK_BYTES / 2);
    let client = u32::from_str_radix(client, 16).ok()?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some((usize::try_from(client).ok()?, number))
}

/// One masked frame of a client, with this first byte.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    frame.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(0x80 | short),
        (_, Ok(medium)) => {
            frame.push(0x80 | 126);
            frame.extend(medium.to_be_bytes());
        }
        (_, Err(_too_long)) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    let payload = payload.iter().enumerate();
    frame.extend(payload.map(|(index, byte)| byte ^ KEY[index % 4]));
    frame
}

#[cfg(test)]
mod tests {
    use busline::wire::{Decoder, Event};

    use super::*;

    /// The messages that the server's decoder reads from these bytes.
    fn decoded(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut decoder = Decoder::new(1 << 20);
        let mut messages = Vec::new();
        while let Some(event) = decoder.decode(&mut bytes, usize::MAX).expect("it is legal") {
            let Event::Messages(frames) = event else {
                panic!("{event:?}");
            };
            messages.extend(frames.iter().map(|frame| frame.payload_bytes().to_vec()));
        }
        messages
    }

    /// The stream of a client, sent in writes of at most `write` bytes.
    fn stream(frames: &mut Frames, client: usize, messages: u64, write: usize) -> Vec<u8> {
        let end = messages * frames.frame_bytes();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < end {
            let stretch = frames.stretch(client, bytes.len() as u64, end);
            bytes.extend(&stretch[..write.min(stretch.len())]);
        }
        bytes
    }

    #[test]
    fn frames_of_every_length_are_legal() {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut frames = Frames::new(size, Marks::None);
            let messages = decoded(&stream(&mut frames, 0, 3, usize::MAX));
            assert_eq!(messages.len(), 3, "{size}");
            let filled: Vec<_> = (0..size).map(filler).collect();
            assert!(messages.iter().all(|message| *message == filled), "{size}");
        }
    }

    #[test]
    fn the_stream_is_the_same_however_it_is_cut() {
        for size in [16, 200] {
            let mut frames = Frames::new(size, Marks::Numbered);
            let whole = stream(&mut frames, 7, 2_000, usize::MAX);
            for (write, messages) in [(1, 5), (13, 20), (37, 50), (50_000, 2_000)] {
                let cut = stream(&mut frames, 7, messages, write);
                assert_eq!(cut, whole[..cut.len()], "{size} {write}");
            }
            for (number, message) in (0_u32..).zip(decoded(&whole)) {
                assert_eq!(read_mark(&message), Some((7, number)));
            }
        }
    }

    #[test]
    fn what_is_no_mark_is_not_read() {
        for payload in [&b""[..], b"0000000000000001", b"00000007 0000001", b"\xff0"] {
            let read = read_mark(payload);
            assert_eq!(read.is_some(), payload == b"0000000000000001");
        }
    }
}
