//! Tests of the codec as a whole; the helpers write a client's frames byte by byte.

use crate::wire::{Decoder, Event, Frame, WireError};

mod arbitrary;
mod deflate;
mod differential;
mod encoding;
mod illegal;
mod limits;
mod splits;
mod together;
mod utf8;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// The bit of a message's last frame; without it the message goes on.
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x00;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Encodes a client's frame, with the length in its shortest form.
fn client_frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut frame = client_header(first, payload.len(), key);
    let masked = payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k);
    frame.extend(masked);
    frame
}

/// Encodes the header of such a frame alone.
fn client_header(first: u8, len: usize, key: [u8; 4]) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=65_535 => {
            header.push(0x80 | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header.extend(key);
    header
}

/// Makes the event of a single message.
fn message(frame: Frame) -> Event {
    Event::Messages(frame.into())
}

/// The events and the error that a decoder made of some bytes.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    error: Option<WireError>,
}

/// Feeds a new decoder chunk by chunk, and checks what `decode` promises about its input.
fn decode_chunks<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut outcome = Outcome::default();
    for chunk in chunks {
        decode_chunk(&mut decoder, chunk, &mut outcome);
    }
    outcome
}

fn decode_chunk(decoder: &mut Decoder, mut chunk: &[u8], outcome: &mut Outcome) {
    let ended = outcome.error.is_some() || matches!(outcome.events.last(), Some(Event::Close(_)));
    loop {
        match decoder.decode(&mut chunk, 1) {
            Ok(Some(event)) => {
                assert!(!ended, "{event:?} after the end");
                outcome.events.push(event);
            }
            Ok(None) => {
                assert!(chunk.is_empty(), "{} bytes left", chunk.len());
                return;
            }
            Err(error) => {
                assert!(!ended, "{error} after the end");
                assert!(chunk.is_empty(), "{} bytes left", chunk.len());
                assert_eq!(decoder.heap_bytes(), 0, "memory after {error}");
                outcome.error = Some(error);
                return;
            }
        }
    }
}

fn decode_whole(limit: usize, bytes: &[u8]) -> Outcome {
    decode_chunks(limit, [bytes])
}

/// Cuts `bytes` into single bytes.
fn decode_bytewise(limit: usize, bytes: &[u8]) -> Outcome {
    decode_chunks(limit, bytes.chunks(1))
}
