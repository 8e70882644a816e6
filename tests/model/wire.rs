//! The decoder: one verdict, wherever the bytes are cut.

use busline::wire::{Decoder, Event, Inflation, WireError};

use super::bytes::Bytes;

/// The body of the fuzz target: a byte of limit, a byte of cuts, then what a client sends.
pub(crate) fn fuzz(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (Some(limit), Some(cut)) = (bytes.next(), bytes.next()) else {
        return;
    };
    let inflation = if limit & 1 == 0 {
        Inflation::None
    } else {
        Inflation::Agreed
    };
    let limit = usize::from(limit) * 16;
    let decode = |chunk, together| {
        let decoder = Decoder::new(limit).inflating(inflation);
        decode(decoder, bytes.0, (chunk, together), limit)
    };
    let whole = decode(usize::MAX, 16);
    let cut = decode(usize::from(cut % 16) + 1, 1);
    assert_eq!(whole, cut, "the verdict depends on how the bytes are cut");
}

/// All events, and the error that ended them.
fn decode(
    mut decoder: Decoder,
    input: &[u8],
    (chunk, together): (usize, usize),
    limit: usize,
) -> (Vec<Event>, Option<WireError>) {
    let mut events = Vec::new();
    // A message that has doubled its buffer, and a control frame between its fragments.
    // Compressed it may be an eighth longer.
    let memory = 2 * (limit + limit / 8 + 80) + 256;
    for mut chunk in input.chunks(chunk.min(input.len()).max(1)) {
        while !chunk.is_empty() {
            match decoder.decode(&mut chunk, together) {
                Ok(Some(Event::Messages(frames))) => {
                    events.extend(frames.iter().map(|frame| Event::Messages(frame.into())));
                }
                Ok(Some(event)) => events.push(event),
                Ok(None) => assert!(chunk.is_empty(), "the decoder left bytes it did not want"),
                Err(error) => return (events, Some(error)),
            }
            assert!(
                decoder.heap_bytes() <= memory,
                "more memory than the limit allows"
            );
        }
    }
    for event in &events {
        if let Event::Messages(frames) = event {
            let bytes = frames.payload_bytes();
            assert!(bytes <= limit, "a message above the limit");
        }
    }
    (events, None)
}
