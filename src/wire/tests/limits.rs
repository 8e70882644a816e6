//! Lengths at their limits, and the memory they cost.

use super::*;
use crate::wire::{ControlPayload, EMPTY_FRAGMENTS_MAX, Frame};

#[test]
fn every_form_of_length_is_read() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let bytes = client_frame(BINARY, &payload, KEY);
        for cut in [1, 3, 1021, bytes.len()] {
            let outcome = decode_chunks(len, bytes.chunks(cut));
            assert_eq!(outcome.events, [message(Frame::binary(&payload))]);
        }
    }
}

#[test]
fn the_limit_is_the_longest_message() {
    for limit in [0, 1, 125, 126, 65_535, 65_536] {
        let accepted = |len: usize| {
            let whole = decode_whole(limit, &client_frame(TEXT, &vec![b'x'; len], KEY));
            let halves = [
                client_frame(TEXT & !FIN, &vec![b'x'; len / 2], KEY),
                client_frame(FIN, &vec![b'x'; len - len / 2], KEY),
            ];
            let halves = decode_whole(limit, &halves.concat());
            assert_eq!(whole, halves, "{len} of {limit}");
            whole.error.is_none()
        };
        assert!(limit == 0 || accepted(limit - 1));
        assert!(accepted(limit));
        assert!(!accepted(limit + 1));
    }
}

#[test]
fn control_frames_do_not_count_as_message_bytes() {
    let frames = [
        client_frame(BINARY & !FIN, b"ab", KEY),
        client_frame(PING, &[b'p'; 125], KEY),
        client_frame(FIN, b"c", KEY),
    ];
    let ping = ControlPayload::try_from(&[b'p'; 125][..]).expect("125 fit");
    let events = [Event::Ping(ping.into()), message(Frame::binary("abc"))];
    assert_eq!(decode_whole(3, &frames.concat()).events, events);
}

#[test]
fn so_many_empty_fragments_are_allowed() {
    let mut bytes = client_frame(TEXT & !FIN, b"", KEY);
    let more = usize::from(EMPTY_FRAGMENTS_MAX) - 1;
    bytes.extend(client_frame(CONTINUATION, b"", KEY).repeat(more));
    bytes.extend(client_frame(FIN, b"x", KEY));
    let again = [&bytes[..], &bytes].concat();
    let message = message(Frame::text("x"));
    assert_eq!(decode_whole(1, &again).events, [message.clone(), message]);
}

/// As in Autobahn 9.3.1: fragments with bytes are bounded by the message's limit alone.
#[test]
fn a_message_may_have_any_number_of_fragments_with_bytes() {
    let mut bytes = client_frame(BINARY & !FIN, b"x", KEY);
    bytes.extend(client_frame(CONTINUATION, b"x", KEY).repeat(20_000));
    bytes.extend(client_frame(FIN, b"x", KEY));
    let message = message(Frame::binary("x".repeat(20_002)));
    assert_eq!(decode_whole(20_002, &bytes).events, [message]);
}

#[test]
fn an_announced_length_allocates_nothing() {
    let limit = 64 << 20;
    let mut decoder = Decoder::new(limit);
    let mut bytes = client_header(BINARY, limit, KEY);
    assert_eq!(decoder.decode(&mut &bytes[..], 1), Ok(None));
    assert_eq!(decoder.heap_bytes(), 0);
    bytes = vec![0; 10];
    assert_eq!(decoder.decode(&mut &bytes[..], 1), Ok(None));
    assert!(
        (10..54).contains(&decoder.heap_bytes()),
        "{}",
        decoder.heap_bytes()
    );
}

#[test]
fn memory_follows_the_bytes_and_ends_at_the_limit() {
    let len = 100_000;
    for first in [BINARY, BINARY & !FIN] {
        let bytes = client_frame(first, &vec![1; len], KEY);
        let header = bytes.len() - len;
        let mut decoder = Decoder::new(len);
        let mut arrived = 0;
        for chunk in bytes[..bytes.len() - 1].chunks(777) {
            assert_eq!(decoder.decode(&mut &chunk[..], 1), Ok(None));
            arrived += chunk.len();
            let held = arrived.saturating_sub(header);
            let heap = decoder.heap_bytes();
            assert!((held..=2 * held).contains(&heap), "{heap} for {held}");
            assert!(heap <= len, "{heap}");
        }
    }
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
    let mut decoder = Decoder::new(1000);
    assert_eq!(decoder.heap_bytes(), 0);
    let frames = [
        client_frame(TEXT, b"whole", KEY),
        client_frame(PING, b"ping", KEY),
        client_frame(TEXT & !FIN, b"part", KEY),
        client_frame(PONG, b"pong", KEY),
        client_frame(FIN, b"rest", KEY),
        client_frame(PING, b"ping", KEY),
    ];
    let idle_after = [true, true, false, false, true, true];
    for (frame, idle) in frames.iter().zip(idle_after) {
        for byte in frame.chunks(1) {
            decoder
                .decode(&mut &byte[..], 1)
                .expect("the frames are legal");
        }
        assert_eq!(decoder.heap_bytes() == 0, idle);
    }
}

#[test]
fn a_partial_control_frame_counts_as_memory() {
    let mut decoder = Decoder::new(0);
    let ping = client_frame(PING, b"ping", KEY);
    assert_eq!(decoder.decode(&mut &ping[..6], 1), Ok(None));
    assert_eq!(decoder.heap_bytes(), 0);
    assert_eq!(decoder.decode(&mut &ping[6..9], 1), Ok(None));
    assert_eq!(decoder.heap_bytes(), size_of::<ControlPayload>());
    assert!(
        decoder
            .decode(&mut &ping[9..], 1)
            .is_ok_and(|event| event.is_some())
    );
    assert_eq!(decoder.heap_bytes(), 0);
}

#[test]
fn the_example_of_the_rfc_is_read() {
    let hello = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let events = [message(Frame::text("Hello"))];
    assert_eq!(decode_whole(5, &hello).events, events);
}
