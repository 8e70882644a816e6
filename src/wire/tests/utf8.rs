//! The incremental validator, compared with the standard library's validator of whole texts.

use std::str;

use proptest::prelude::*;

use super::*;
use crate::wire::utf8::Utf8Validator;

/// The length of the shortest start of `bytes` that no continuation makes valid.
fn first_error(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len())
        .find(|end| str::from_utf8(&bytes[..*end]).is_err_and(|error| error.error_len().is_some()))
}

/// The position where a validator fails that sees one byte at a time.
fn validator_error(bytes: &[u8]) -> Option<usize> {
    let mut validator = Utf8Validator::default();
    let fails = |byte: &[u8]| validator.push(byte).is_err();
    bytes.chunks(1).position(fails).map(|index| index + 1)
}

fn accepts<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut validator = Utf8Validator::default();
    // A letter can follow a text, but not the start of a character.
    chunks
        .into_iter()
        .all(|chunk| validator.push(chunk).is_ok())
        && validator.push(b"x").is_ok()
}

const SAMPLES: [&[u8]; 22] = [
    b"",
    b"plain",
    "\u{7f}\u{80}\u{7ff}\u{800}".as_bytes(),
    "\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
    "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes(),
    b"\x80",
    b"\xBF",
    b"\xC0\x80",
    b"\xC1\xBF",
    b"\xC2",
    b"\xC2\xC2",
    b"\xE0\x9F\xBF",
    b"\xE0\xA0",
    b"\xED\xA0\x80",
    b"\xEF\xBF",
    b"\xF0\x8F\xBF\xBF",
    b"\xF0\x90\x80",
    b"\xF4\x8F\xBF\xBF",
    b"\xF4\x90\x80\x80",
    b"\xF5",
    b"\xFF",
    b"ok\xF0\x9F\xA6\x8B\xF0\x9F\xA6x",
];

#[test]
fn every_split_agrees_with_the_standard_library() {
    for sample in SAMPLES {
        let valid = str::from_utf8(sample).is_ok();
        for first in 0..=sample.len() {
            for second in first..=sample.len() {
                let chunks = [&sample[..first], &sample[first..second], &sample[second..]];
                assert_eq!(accepts(chunks), valid, "{chunks:x?}");
            }
        }
        assert_eq!(validator_error(sample), first_error(sample), "{sample:x?}");
    }
}

/// As in Autobahn 6.4.1 to 6.4.4: the error is found before the frame is complete.
#[test]
fn a_text_fails_with_its_first_impossible_byte() {
    let text = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes();
    let text = [text, b"\xF4\x90\x80\x80edited"].concat();
    let bytes = client_frame(TEXT, &text, KEY);
    let header = bytes.len() - text.len();
    let bad = first_error(&text).expect("the text is invalid");
    let before = decode_bytewise(100, &bytes[..header + bad - 1]);
    assert_eq!(before, Outcome::default());
    let after = decode_bytewise(100, &bytes[..header + bad]);
    assert_eq!(after.error, Some(WireError::InvalidUtf8));
    assert_eq!(decode_whole(100, &bytes[..header + bad]), after);
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn any_bytes_agree_with_the_standard_library(
        text in any::<String>(),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
        size in 1_usize..9,
    ) {
        let mut bytes = text.into_bytes();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(accepts(bytes.chunks(size)), str::from_utf8(&bytes).is_ok());
        prop_assert_eq!(validator_error(&bytes), first_error(&bytes));
    }
}
