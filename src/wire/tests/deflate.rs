//! Compressed messages, both ways: RFC 7692.

use std::num::NonZeroUsize;

use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::wire::{CloseCode, Deflater, Frame, Frames, Inflation, Payload, WindowBits};

const RSV1: u8 = 0x40;

fn inflating(limit: usize) -> Decoder {
    Decoder::new(limit).inflating(Inflation::Agreed)
}

fn decode<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = inflating(limit);
    let mut outcome = Outcome::default();
    for chunk in chunks {
        decode_chunk(&mut decoder, chunk, &mut outcome);
    }
    outcome
}

/// Compresses a message as a client does: RFC 7692 7.2.1.
fn deflated(payload: &[u8], level: Compression) -> Vec<u8> {
    let mut compress = Compress::new(level, false);
    let mut bytes = Vec::with_capacity(payload.len() * 2 + 64);
    compress
        .compress_vec(payload, &mut bytes, FlushCompress::Sync)
        .expect("memory suffices");
    assert_eq!(compress.total_in(), payload.len() as u64);
    assert!(bytes.ends_with(&[0, 0, 0xFF, 0xFF]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// Compresses a frame for a client; `None` if that would not be shorter.
fn compressed(deflater: &mut Deflater, frame: &Frame, window: WindowBits) -> Option<Vec<u8>> {
    let frames = deflater.frames(frame.frames(), window, NonZeroUsize::MIN)?;
    Some(frames.as_bytes().to_vec())
}

fn message(payload: Payload<'_>) -> Outcome {
    let frame = match payload {
        Payload::Text(text) => Frame::text(text),
        Payload::Binary(bytes) => Frame::binary(bytes),
    };
    Outcome {
        events: vec![super::message(frame)],
        error: None,
    }
}

fn text(text: &str) -> Outcome {
    message(Payload::Text(text))
}

#[test]
fn reads_the_examples_of_rfc_7692() {
    // 7.2.3.1: one compressed block; also in two fragments.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let whole = client_frame(TEXT | RSV1, &hello, KEY);
    assert_eq!(decode(100, [&whole[..]]), text("Hello"));
    let parts = [
        client_frame((TEXT | RSV1) & !FIN, &hello[..3], KEY),
        client_frame(FIN, &hello[3..], KEY),
    ];
    assert_eq!(decode(100, parts.iter().map(Vec::as_slice)), text("Hello"));
    // 7.2.3.3: a block without compression; 7.2.3.4: a final block; 7.2.3.5: two blocks.
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    for payload in [&stored[..], &last, &two] {
        let frame = client_frame(TEXT | RSV1, payload, KEY);
        assert_eq!(decode(100, [&frame[..]]), text("Hello"), "{payload:x?}");
    }
    // 7.2.3.6: an empty message.
    assert_eq!(
        decode(0, [&client_frame(TEXT | RSV1, &[0], KEY)[..]]),
        text("")
    );
}

#[test]
fn a_compressed_message_is_an_error_unless_agreed_on() {
    let frame = client_frame(TEXT | RSV1, &[0], KEY);
    let error = decode_whole(100, &frame).error;
    assert_eq!(error, Some(WireError::ReservedBits));
}

#[test]
fn only_the_first_frame_of_a_message_is_marked() {
    let begun = client_frame(TEXT & !FIN, b"a", KEY);
    let goes_on = client_frame(FIN | RSV1, &[0], KEY);
    let error = |frames: &[&[u8]]| decode(100, frames.iter().copied()).error;
    assert_eq!(error(&[&begun, &goes_on]), Some(WireError::ReservedBits));
    for first in [PING, PONG, CLOSE] {
        let control = client_frame(first | RSV1, b"", KEY);
        assert_eq!(error(&[&control]), Some(WireError::ReservedBits));
    }
    for reserved in [0x20, 0x10, 0x60, 0x50, 0x70] {
        let frame = client_frame(TEXT | reserved, &[0], KEY);
        assert_eq!(error(&[&frame]), Some(WireError::ReservedBits));
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit_and_one_byte_less_is_not() {
    let payload = vec![0; 100_000];
    let bomb = client_frame(BINARY | RSV1, &deflated(&payload, Compression::best()), KEY);
    assert!(bomb.len() < 300, "{}", bomb.len());
    assert_eq!(
        decode(100_000, [&bomb[..]]),
        message(Payload::Binary(&payload))
    );
    let error = decode(99_999, [&bomb[..]]).error;
    let limit = 99_999;
    assert_eq!(error, Some(WireError::InflatesTooBig { limit }));
    assert_eq!(error.map(|e| e.close_code()), Some(CloseCode::TOO_BIG));
}

#[test]
fn a_message_that_cannot_be_compressed_fits_the_limit_in_its_longest_form() {
    // A mix that neither stored blocks nor codes make shorter; `none` stores, `fast` codes.
    let mut state = 1_u32;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(70_000)
    .collect();
    for level in [Compression::none(), Compression::fast()] {
        let bytes = deflated(&payload, level);
        assert!(bytes.len() > payload.len());
        let frame = client_frame(BINARY | RSV1, &bytes, KEY);
        let expected = message(Payload::Binary(&payload));
        assert_eq!(decode(payload.len(), [&frame[..]]), expected);
    }
    // A longer message is refused when its header comes.
    let header = client_header(BINARY | RSV1, 1_000 + 125 + 65, KEY);
    let error = decode(1_000, [&header[..]]).error;
    assert!(matches!(error, Some(WireError::TooBig { .. })), "{error:?}");
}

#[test]
fn what_no_compressor_wrote_is_1007() {
    for payload in [&[0x07][..], &[0xff, 0xff, 0xff], b"Hello"] {
        let error = decode(100, [&client_frame(BINARY | RSV1, payload, KEY)[..]]).error;
        let code = error.map(|error| error.close_code());
        assert_eq!(
            code,
            Some(CloseCode::INVALID_PAYLOAD),
            "{payload:x?} {error:?}"
        );
    }
    let bytes = deflated(b"\xc3\x28", Compression::fast());
    let error = decode(100, [&client_frame(TEXT | RSV1, &bytes, KEY)[..]]).error;
    assert_eq!(error, Some(WireError::InvalidUtf8));
}

#[test]
fn a_message_is_sent_compressed_only_if_that_makes_it_shorter() {
    let mut deflater = Deflater::default();
    let long = Frame::text("the same again ".repeat(100));
    let frame = compressed(&mut deflater, &long, WindowBits::MAX).expect("it repeats");
    assert_eq!(frame[0], TEXT | RSV1);
    assert!(frame.len() < 100, "{}", frame.len());
    assert_eq!(
        compressed(&mut deflater, &Frame::text("short"), WindowBits::MAX),
        None
    );
    assert_eq!(
        compressed(&mut deflater, &Frame::text(""), WindowBits::MAX),
        None
    );
}

#[test]
fn of_several_messages_those_are_compressed_that_are_long_enough_and_get_shorter() {
    let long = "the same again ".repeat(10);
    let each = [
        Frame::text("aaaaaaaaaaaaaaaaaaaa"),
        Frame::text(&long),
        Frame::binary("xyz"),
    ];
    let each: Vec<Frames> = each.map(Frames::from).into();
    let frames = Frames::join(each.iter()).expect("three");
    let mut deflater = Deflater::default();
    let bytes_min = NonZeroUsize::new(21).expect("not zero");
    let deflated = deflater.frames(&frames, WindowBits::MAX, bytes_min);
    let deflated: Vec<_> = deflated.expect("one gets shorter").iter().collect();
    assert_eq!(deflated[0].as_bytes(), each[0].as_bytes());
    assert_eq!(deflated[1].as_bytes()[0], TEXT | RSV1);
    assert_eq!(deflated[2].as_bytes(), each[2].as_bytes());
    let short = Frames::join(each[..1].iter()).expect("one");
    assert_eq!(deflater.frames(&short, WindowBits::MAX, bytes_min), None);
}

#[test]
fn no_distance_exceeds_the_window_that_the_client_asked_for() {
    // 600 bytes twice: with a window of 512 bytes, the second copy cannot refer to the first.
    let mut state = 7_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28) as u8
    })
    .take(600)
    .collect();
    let frame = Frame::binary([&noise[..], &noise].concat());
    let mut deflater = Deflater::default();
    let mut len = |window| {
        compressed(&mut deflater, &frame, window)
            .expect("16 letters")
            .len()
    };
    let (small, large) = (len(WindowBits::MIN), len(WindowBits::MAX));
    assert!(small > large + 200, "{small} {large}");
}

/// Noise, few letters, repetitions near and far, runs: inputs that compressors encode differently.
fn payload(kind: u32, len: usize, mut random: impl FnMut() -> u32) -> Vec<u8> {
    let mut payload = Vec::with_capacity(len);
    while payload.len() < len {
        let drawn = random();
        match kind % 4 {
            0 => payload.push(drawn as u8),
            1 => payload.push(b'a' + (drawn % 16) as u8),
            2 if payload.len() > 600 && drawn.is_multiple_of(3) => {
                let from = random() as usize % payload.len();
                let to = payload.len().min(from + 3 + random() as usize % 40);
                payload.extend_from_within(from..to);
            }
            2 => payload.push(drawn as u8),
            _ => payload.resize(payload.len() + (drawn >> 8) as usize % 300, drawn as u8),
        }
    }
    payload.truncate(len);
    payload
}

#[test]
fn large_messages_of_every_kind_are_compressed_and_restored() {
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    };
    for bits in [9, 15] {
        let window = WindowBits::new(bits).expect("in range");
        let mut deflater = Deflater::default();
        let mut shorter = 0;
        for kind in 0..60 {
            let len = random() as usize % 100_000;
            let frame = Frame::binary(payload(kind, len, &mut random));
            let Some(bytes) = compressed(&mut deflater, &frame, window) else {
                continue;
            };
            shorter += 1;
            let header = match bytes[1] {
                127 => 10,
                126 => 4,
                _ => 2,
            };
            let masked = client_frame(bytes[0], &bytes[header..], KEY);
            let expected = super::message(frame);
            assert_eq!(decode(len, [&masked[..]]).events, [expected]);
        }
        assert!(shorter > 30, "{shorter}");
    }
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    /// A client may compress, cut and split a message in any way.
    #[test]
    fn what_a_client_compresses_is_read(
        payload in vec(prop_oneof![Just(b'x'), any::<u8>()], 0..2_000),
        level in 0..=9_u32,
        cuts in vec(any::<Index>(), 0..4),
        chunk in 1..50_usize,
    ) {
        let bytes = deflated(&payload, Compression::new(level));
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        let (mut stream, mut first, mut start) = (Vec::new(), BINARY | RSV1, 0);
        for end in ends {
            stream.extend(client_frame(first & !FIN, &bytes[start..end], KEY));
            (first, start) = (FIN, end);
        }
        stream.extend(client_frame(first, &bytes[start..], KEY));
        let outcome = decode(payload.len(), stream.chunks(chunk));
        prop_assert_eq!(outcome, message(Payload::Binary(&payload)));
    }

    /// A client restores each compressed message with its own window, from that message alone.
    #[test]
    fn what_we_compress_is_the_message(
        payloads in vec(vec(prop_oneof![Just(b'x'), Just(b'y'), any::<u8>()], 0..3_000), 1..4),
        bits in 9..=15_u8,
    ) {
        let window = WindowBits::new(bits).expect("in range");
        let mut deflater = Deflater::default();
        for payload in payloads {
            let frame = Frame::binary(&payload);
            let Some(bytes) = compressed(&mut deflater, &frame, window) else { continue };
            prop_assert!(bytes.len() < frame.as_bytes().len());
            let header = if bytes[1] < 126 { 2 } else { 4 };
            let masked = client_frame(bytes[0], &bytes[header..], KEY);
            let outcome = decode(payload.len(), [&masked[..]]);
            prop_assert_eq!(outcome, message(Payload::Binary(&payload)));
        }
    }

    /// Any bytes have one verdict, wherever they are cut, and use no more memory than the limit
    /// allows.
    #[test]
    fn any_bytes_have_one_verdict(
        payload in vec(any::<u8>(), 0..200),
        limit in 0..300_usize,
        chunk in 1..20_usize,
    ) {
        let frame = client_frame(BINARY | RSV1, &payload, KEY);
        let whole = decode(limit, [&frame[..]]);
        for event in &whole.events {
            if let Event::Messages(frames) = event {
                prop_assert!(frames.payload_bytes() <= limit);
            }
        }
        prop_assert_eq!(decode(limit, frame.chunks(chunk)), whole);
    }
}
