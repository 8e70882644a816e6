//! Messages that are decoded together are those that are decoded one by one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::arbitrary::{messages, stream};
use super::*;
use crate::wire::{Frame, Frames};

/// What a decoder makes of these chunks that takes up to so many messages together.
fn decode_together(limit: usize, chunks: &[&[u8]], messages_max: usize) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut outcome = Outcome::default();
    for chunk in chunks {
        let mut rest = *chunk;
        while let Some(frames) = decoder.decode_together(&mut rest, messages_max) {
            assert!((1..=messages_max).contains(&frames.messages()));
            outcome.events.extend(each(&frames).map(Event::Message));
            frames.leave();
        }
        match decoder.decode(&mut rest) {
            Ok(event) => outcome.events.extend(event),
            Err(error) => {
                outcome.error = Some(error);
                return outcome;
            }
        }
        // What is left is as a chunk of its own.
        if !rest.is_empty() {
            decode_rest(&mut decoder, rest, messages_max, &mut outcome);
        }
        if outcome.error.is_some() {
            return outcome;
        }
    }
    outcome
}

fn decode_rest(decoder: &mut Decoder, mut rest: &[u8], messages_max: usize, outcome: &mut Outcome) {
    loop {
        if let Some(frames) = decoder.decode_together(&mut rest, messages_max) {
            outcome.events.extend(each(&frames).map(Event::Message));
            continue;
        }
        match decoder.decode(&mut rest) {
            Ok(Some(event)) => outcome.events.push(event),
            Ok(None) => return,
            Err(error) => {
                outcome.error = Some(error);
                return;
            }
        }
    }
}

/// The messages, of which each is what all say of it.
fn each(frames: &Frames) -> impl Iterator<Item = Frame> {
    let each: Vec<_> = frames.each().collect();
    assert_eq!(frames.messages(), each.len());
    assert!(frames.lens().eq(each.iter().map(Frame::len)));
    assert_eq!(frames.payload_bytes(), frames.lens().sum::<usize>());
    let ends = each.iter().scan(0, |end, frame| {
        *end += frame.as_bytes().len();
        Some(*end)
    });
    assert!(frames.ends().eq(ends));
    let bytes: Vec<_> = each.iter().flat_map(Frame::as_bytes).copied().collect();
    assert_eq!(frames.as_bytes(), bytes);
    each.into_iter()
}

fn texts(count: usize) -> Vec<u8> {
    let frames = (0..count).map(|n| client_frame(TEXT, n.to_string().as_bytes(), KEY));
    frames.flatten().collect()
}

#[test]
fn as_many_are_taken_as_there_are_and_may_be() {
    let decoder = Decoder::new(1000);
    for (there, max, taken) in [
        (1, 16, None),
        (2, 16, Some(2)),
        (16, 16, Some(16)),
        (17, 16, Some(16)),
        (9, 2, Some(2)),
        (9, 1, None),
        (9, 0, None),
    ] {
        let bytes = texts(there);
        let mut rest = &bytes[..];
        let frames = decoder.decode_together(&mut rest, max);
        assert_eq!(frames.as_ref().map(|frames| frames.messages()), taken);
        let left = texts(taken.unwrap_or(0)).len();
        assert_eq!(rest, &bytes[left..], "{there} of which {max} may be taken");
    }
}

#[test]
fn only_the_first_ones_that_are_whole_and_common_are_taken() {
    let mut decoder = Decoder::new(1000);
    let [mut cut, mut ping, mut long, mut bad] = [(); 4].map(|()| texts(3));
    cut.pop();
    ping.splice(0..0, client_frame(PING, b"", KEY));
    long.extend(client_frame(TEXT, &[b'x'; 1001], KEY));
    bad.extend(client_frame(TEXT, b"\xFF", KEY));
    for (bytes, taken) in [
        (cut, Some(2)),
        (ping, None),
        (long, Some(3)),
        (bad, Some(3)),
    ] {
        let frames = decoder.decode_together(&mut &bytes[..], 16);
        assert_eq!(frames.map(|frames| frames.messages()), taken);
    }
    // In the midst of another one they are its bytes, or wrong.
    let mut first = &client_frame(TEXT & !FIN, b"a", KEY)[..];
    assert_eq!(decoder.decode(&mut first), Ok(None));
    assert!(decoder.decode_together(&mut &texts(3)[..], 16).is_none());
}

#[test]
fn one_that_is_not_utf8_before_others_is_left_to_be_judged() {
    let mut decoder = Decoder::new(1000);
    let mut bytes = client_frame(TEXT, b"\xFF", KEY);
    bytes.extend(texts(2));
    let mut rest = &bytes[..];
    assert!(decoder.decode_together(&mut rest, 16).is_none());
    assert_eq!(rest, bytes);
    assert_eq!(decoder.decode(&mut rest), Err(WireError::InvalidUtf8));
}

#[test]
fn what_is_long_is_taken_as_far_as_there_is_room() {
    let decoder = Decoder::new(10_000);
    let frames = |lens: &[usize]| {
        let frames = lens.iter().map(|len| vec![b'x'; *len]);
        let bytes: Vec<_> = frames
            .flat_map(|payload| client_frame(BINARY, &payload, KEY))
            .collect();
        let frames = decoder.decode_together(&mut &bytes[..], 16);
        frames.map(|frames| (frames.messages(), frames.payload_bytes()))
    };
    assert_eq!(
        frames(&[2044, 2044]),
        Some((2, 4088)),
        "4,096 bytes of frames"
    );
    assert_eq!(frames(&[2044, 2045]), Some((1, 2044)));
    assert_eq!(frames(&[4093, 1]), None);
    assert_eq!(frames(&[1000; 9]), Some((4, 4000)));
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn together_or_one_by_one_it_is_the_same(
        sent in messages(5000),
        wrong in vec((any::<Index>(), any::<u8>()), 0..3),
        cuts in vec(any::<Index>(), 0..3),
        messages_max in 0_usize..20,
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
