//! Messages decoded together, which must equal messages decoded one by one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::arbitrary::{messages, stream};
use super::*;

/// Decodes chunks with up to `messages_max` messages together.
fn decode_together(limit: usize, chunks: &[&[u8]], messages_max: usize) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut outcome = Outcome::default();
    for chunk in chunks {
        let mut rest = *chunk;
        loop {
            match decoder.decode(&mut rest, messages_max) {
                Ok(Some(Event::Messages(frames))) => {
                    assert!((1..=messages_max).contains(&frames.len()));
                    outcome.events.extend(frames.iter().map(message));
                }
                Ok(Some(event)) => outcome.events.push(event),
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome
}

fn texts(count: usize) -> Vec<u8> {
    let frames = (0..count).map(|n| client_frame(TEXT, n.to_string().as_bytes(), KEY));
    frames.flatten().collect()
}

/// Decodes once; returns the number of messages and the bytes left.
fn first(bytes: &[u8], messages_max: usize) -> (Option<usize>, &[u8]) {
    let mut rest = bytes;
    let event = Decoder::new(1000).decode(&mut rest, messages_max);
    let count = match event {
        Ok(Some(Event::Messages(frames))) => Some(frames.len()),
        Ok(_) | Err(_) => None,
    };
    (count, rest)
}

#[test]
fn as_many_are_taken_as_there_are_and_may_be() {
    for (there, max, taken) in [
        (1, 16, 1),
        (2, 16, 2),
        (16, 16, 16),
        (17, 16, 16),
        (9, 2, 2),
        (9, 1, 1),
    ] {
        let bytes = texts(there);
        let left = texts(taken).len();
        let expected = (Some(taken), &bytes[left..]);
        assert_eq!(
            first(&bytes, max),
            expected,
            "{there} of which {max} may be taken"
        );
    }
}

#[test]
fn only_the_first_ones_that_are_whole_and_common_are_taken() {
    let [mut cut, mut ping, mut long, mut bad] = [(); 4].map(|()| texts(3));
    cut.pop();
    ping.extend(client_frame(PING, b"", KEY));
    long.extend(client_frame(TEXT, &[b'x'; 1001], KEY));
    bad.extend(client_frame(TEXT, b"\xFF", KEY));
    for (bytes, taken) in [(cut, 2), (ping, 3), (long, 3), (bad, 3)] {
        assert_eq!(first(&bytes, 16).0, Some(taken));
    }
    // Within another message, their bytes are its payload, or an error.
    let mut decoder = Decoder::new(1000);
    let mut begun = &client_frame(TEXT & !FIN, b"a", KEY)[..];
    assert_eq!(decoder.decode(&mut begun, 16), Ok(None));
    let wrong = decoder.decode(&mut &texts(3)[..], 16);
    assert_eq!(wrong, Err(WireError::ExpectedContinuation));
}

#[test]
fn a_text_that_is_not_utf8_before_others_is_judged() {
    let mut bytes = client_frame(TEXT, b"\xFF", KEY);
    bytes.extend(texts(2));
    let judged = Decoder::new(1000).decode(&mut &bytes[..], 16);
    assert_eq!(judged, Err(WireError::InvalidUtf8));
}

#[test]
fn long_messages_are_joined_as_far_as_there_is_room() {
    let joined = |lens: &[usize]| {
        let frames = lens.iter().map(|len| vec![b'x'; *len]);
        let bytes: Vec<_> = frames
            .flat_map(|payload| client_frame(BINARY, &payload, KEY))
            .collect();
        match Decoder::new(10_000).decode(&mut &bytes[..], 16) {
            Ok(Some(Event::Messages(frames))) => (frames.len(), frames.payload_bytes()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(joined(&[2044, 2044]), (2, 4088), "4,096 bytes of frames");
    assert_eq!(joined(&[2044, 2045]), (1, 2044));
    assert_eq!(joined(&[4093, 1]), (1, 4093));
    assert_eq!(joined(&[1000; 9]), (4, 4000));
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn together_or_one_by_one_it_is_the_same(
        sent in messages(5000),
        wrong in vec((any::<Index>(), any::<u8>()), 0..3),
        cuts in vec(any::<Index>(), 0..3),
        messages_max in 1_usize..20,
    ) {
        let mut bytes = stream(&sent).bytes;
        for (at, byte) in wrong {
            *at.get_mut(&mut bytes) = byte;
        }
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        let chunks: Vec<_> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let one_by_one = decode_chunks(4000, chunks.iter().copied());
        let together = decode_together(4000, &chunks, messages_max);
        prop_assert_eq!(together, one_by_one);
    }
}
