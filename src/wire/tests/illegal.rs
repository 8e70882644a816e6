//! Every illegal frame, its error and its close code.

use super::*;
use crate::wire::{CloseCode, EMPTY_FRAGMENTS_MAX};

const LIMIT: usize = 1000;

/// The bytes of a case, the error they end with, and its close code.
type Case = (&'static str, Vec<u8>, WireError, u16);

fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

fn header_cases() -> Vec<Case> {
    let masked = |first: u8, len: &[u8]| [&[first], len, &KEY[..]].concat();
    let long = |len: u64| [&[0xFF], &len.to_be_bytes()[..]].concat();
    vec![
        (
            "unmasked",
            vec![TEXT, 0x01, b'a'],
            WireError::Unmasked,
            1002,
        ),
        (
            "unmasked empty",
            vec![PING, 0x00],
            WireError::Unmasked,
            1002,
        ),
        (
            "rsv1",
            masked(TEXT | 0x40, &[0x80]),
            WireError::ReservedBits,
            1002,
        ),
        (
            "rsv2",
            masked(TEXT | 0x20, &[0x80]),
            WireError::ReservedBits,
            1002,
        ),
        (
            "rsv3",
            masked(TEXT | 0x10, &[0x80]),
            WireError::ReservedBits,
            1002,
        ),
        (
            "rsv of a ping",
            masked(PING | 0x40, &[0x80]),
            WireError::ReservedBits,
            1002,
        ),
        (
            "ping of 126",
            masked(PING, &[0xFE, 0, 126]),
            WireError::ControlTooLong,
            1002,
        ),
        (
            "close of 126",
            masked(CLOSE, &[0xFE, 0, 126]),
            WireError::ControlTooLong,
            1002,
        ),
        (
            "pong of 2^16",
            masked(PONG, &long(65_536)),
            WireError::ControlTooLong,
            1002,
        ),
        (
            "ping in parts",
            masked(0x09, &[0x80]),
            WireError::FragmentedControl,
            1002,
        ),
        (
            "close in parts",
            masked(0x08, &[0x80]),
            WireError::FragmentedControl,
            1002,
        ),
        (
            "pong in parts",
            masked(0x0A, &[0x80]),
            WireError::FragmentedControl,
            1002,
        ),
        (
            "125 in 16 bits",
            masked(TEXT, &[0xFE, 0, 125]),
            WireError::NonMinimalLength,
            1002,
        ),
        (
            "0 in 16 bits",
            masked(TEXT, &[0xFE, 0, 0]),
            WireError::NonMinimalLength,
            1002,
        ),
        (
            "65535 in 64 bits",
            masked(TEXT, &long(65_535)),
            WireError::NonMinimalLength,
            1002,
        ),
        (
            "top bit",
            masked(BINARY, &long(1 << 63)),
            WireError::LengthTopBit,
            1002,
        ),
        (
            "all bits",
            masked(BINARY, &long(u64::MAX)),
            WireError::LengthTopBit,
            1002,
        ),
    ]
}

fn sequence_cases() -> Vec<Case> {
    let part = |first, payload: &[u8]| client_frame(first, payload, KEY);
    let first_part = part(TEXT & !FIN, b"a");
    vec![
        (
            "continuation of nothing",
            part(CONTINUATION, b"a"),
            WireError::UnexpectedContinuation,
            1002,
        ),
        (
            "last part of nothing",
            part(FIN, b"a"),
            WireError::UnexpectedContinuation,
            1002,
        ),
        (
            "continuation after the last part",
            join(&[first_part.clone(), part(FIN, b"b"), part(FIN, b"c")]),
            WireError::UnexpectedContinuation,
            1002,
        ),
        (
            "message within a message",
            join(&[first_part.clone(), part(TEXT, b"b")]),
            WireError::ExpectedContinuation,
            1002,
        ),
        (
            "message within a message, after a control frame",
            join(&[first_part.clone(), part(PING, b""), part(TEXT, b"b")]),
            WireError::ExpectedContinuation,
            1002,
        ),
        (
            "parts within a message",
            join(&[
                first_part.clone(),
                part(PING, b""),
                part(BINARY & !FIN, b"b"),
            ]),
            WireError::ExpectedContinuation,
            1002,
        ),
        (
            "endless empty parts",
            join(&[
                first_part,
                part(CONTINUATION, b"").repeat(usize::from(EMPTY_FRAGMENTS_MAX) + 1),
            ]),
            WireError::TooManyFragments,
            1008,
        ),
    ]
}

fn close_cases() -> Vec<Case> {
    let mut cases = vec![(
        "half a code",
        client_frame(CLOSE, &[3], KEY),
        WireError::CloseTooShort,
        1002,
    )];
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16,
    ] {
        cases.push((
            "a code not to be sent",
            client_frame(CLOSE, &code.to_be_bytes(), KEY),
            WireError::BadCloseCode(CloseCode::new(code)),
            1002,
        ));
    }
    for reason in [&b"\xFF"[..], b"caf\xC3", b"\xED\xA0\x80"] {
        cases.push((
            "a reason that is no text",
            client_frame(CLOSE, &[&[0x03, 0xE8], reason].concat(), KEY),
            WireError::InvalidUtf8,
            1007,
        ));
    }
    cases
}

fn content_cases() -> Vec<Case> {
    let part = |first, payload: &[u8]| client_frame(first, payload, KEY);
    let too_big = |announced| WireError::TooBig {
        announced,
        limit: LIMIT,
    };
    vec![
        (
            "no text",
            part(TEXT, b"a\xFFb"),
            WireError::InvalidUtf8,
            1007,
        ),
        (
            "half a character",
            part(TEXT, b"caf\xC3"),
            WireError::InvalidUtf8,
            1007,
        ),
        (
            "half a character in parts",
            join(&[part(TEXT & !FIN, b"caf\xC3"), part(FIN, b"")]),
            WireError::InvalidUtf8,
            1007,
        ),
        (
            "a character broken by a part",
            join(&[part(TEXT & !FIN, b"caf\xC3"), part(FIN, b"e")]),
            WireError::InvalidUtf8,
            1007,
        ),
        (
            "too big",
            client_header(BINARY, 1001, KEY),
            too_big(1001),
            1009,
        ),
        (
            "too big to wait for",
            client_header(TEXT, 1 << 40, KEY),
            too_big(1 << 40),
            1009,
        ),
        (
            "the biggest",
            client_header(TEXT, (1 << 63) - 1, KEY),
            too_big((1 << 63) - 1),
            1009,
        ),
        (
            "too big in sum",
            join(&[
                part(TEXT & !FIN, &[b'a'; 600]),
                client_header(FIN, 401, KEY),
            ]),
            too_big(1001),
            1009,
        ),
    ]
}

#[test]
fn each_illegal_frame_has_its_error() {
    let mut cases = [
        header_cases(),
        sequence_cases(),
        close_cases(),
        content_cases(),
    ]
    .concat();
    for bits in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let bytes = client_frame(FIN | bits, b"", KEY);
        cases.push((
            "reserved opcode",
            bytes,
            WireError::ReservedOpcode(bits),
            1002,
        ));
    }
    for (name, bytes, error, code) in cases {
        for outcome in [decode_whole(LIMIT, &bytes), decode_bytewise(LIMIT, &bytes)] {
            assert_eq!(outcome.error, Some(error), "{name}");
            assert_eq!(error.close_code(), CloseCode::new(code), "{name}");
        }
    }
}

#[test]
fn nothing_follows_an_error() {
    let mut bytes = vec![TEXT, 0x00];
    bytes.extend(client_frame(TEXT, b"after", KEY));
    let outcome = decode_chunks(LIMIT, [&bytes[..], &bytes[..], b""]);
    assert_eq!(outcome.events, []);
    assert_eq!(outcome.error, Some(WireError::Unmasked));
}

#[test]
fn nothing_follows_a_close() {
    let close = client_frame(CLOSE, b"", KEY);
    let after = [client_frame(TEXT, b"after", KEY), vec![0xFF; 20]].concat();
    for chunks in [vec![[&close[..], &after].concat()], vec![close, after]] {
        let outcome = decode_chunks(LIMIT, chunks.iter().map(Vec::as_slice));
        assert_eq!(outcome.events, [Event::Close(None)]);
        assert_eq!(outcome.error, None);
    }
}

#[test]
fn errors_read_as_parts_of_a_sentence() {
    let cases = [
        header_cases(),
        sequence_cases(),
        close_cases(),
        content_cases(),
    ]
    .concat();
    for (name, _, error, _) in cases {
        let text = error.to_string();
        assert_eq!(text, text.to_lowercase(), "{name}");
        assert!(!text.ends_with('.') && text.is_ascii(), "{name}: {text}");
    }
}
