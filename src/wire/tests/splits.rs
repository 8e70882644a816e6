//! Equal bytes, cut at every position.

use super::*;

/// Calls `check` with every way to cut `bytes` into chunks.
fn each_split(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    for cuts in 0_u32..1 << (bytes.len() - 1) {
        let mut chunks = Vec::new();
        let mut start = 0;
        for end in 1..bytes.len() {
            if cuts >> (end - 1) & 1 == 1 {
                chunks.push(&bytes[start..end]);
                start = end;
            }
        }
        chunks.push(&bytes[start..]);
        check(&chunks);
    }
}

fn assert_all_splits_agree(bytes: &[u8]) {
    let whole = decode_whole(300, bytes);
    each_split(bytes, |chunks| {
        let split = decode_chunks(300, chunks.iter().copied());
        assert_eq!(split, whole, "{chunks:x?}");
    });
}

#[test]
fn short_frames_survive_every_split() {
    assert_all_splits_agree(&client_frame(TEXT, "\u{20ac}g\u{fc}".as_bytes(), KEY));
    assert_all_splits_agree(&client_frame(BINARY, b"12345678", KEY));
    assert_all_splits_agree(&client_frame(CLOSE, b"\x03\xE8bye", KEY));
    let empty = [client_frame(TEXT, b"", KEY), client_frame(PING, b"p", KEY)];
    assert_all_splits_agree(&empty.concat());
}

#[test]
fn short_errors_survive_every_split() {
    assert_all_splits_agree(&client_frame(TEXT, b"a\xF4\x90\x80\x80b", KEY));
    assert_all_splits_agree(&client_frame(TEXT, b"abc\xE2\x82", KEY));
    assert_all_splits_agree(&client_frame(CLOSE, b"\x03\xE8\xFF", KEY));
    assert_all_splits_agree(&client_header(BINARY, 70_000, KEY));
    assert_all_splits_agree(&[&client_frame(BINARY, b"xy", KEY)[..], &[0xC1, 0x00]].concat());
}

/// Three chunks, which meet every pair of states; every split would be too many.
#[test]
fn longer_streams_survive_every_pair_of_cuts() {
    let stream = [
        client_frame(TEXT & !FIN, "caf\u{e9} \u{1f98b}".as_bytes(), KEY),
        client_frame(PING, b"ping", [1, 2, 3, 4]),
        client_frame(
            CONTINUATION,
            &"\u{1f98b}".as_bytes()[..2],
            [0xFF, 0, 0xFF, 1],
        ),
        client_frame(CONTINUATION, b"", KEY),
        client_frame(PONG, b"", KEY),
        client_frame(FIN, &"\u{1f98b}".as_bytes()[2..], [9, 8, 7, 6]),
        client_frame(BINARY, &[0xFF; 130], KEY),
        client_frame(CLOSE, b"\x03\xE9", KEY),
    ]
    .concat();
    let whole = decode_whole(300, &stream);
    assert_eq!((whole.events.len(), whole.error), (5, None));
    assert_eq!(decode_bytewise(300, &stream), whole);
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(decode_chunks(300, chunks), whole, "at {first} and {second}");
        }
    }
}
