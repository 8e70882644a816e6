//! Messages and notices as server-sent events, as HTML defines their text; pure.
//!
//! ```text
//!   id: 00abcdef01234567:7          event: lagged
//!   data: first line                data: {"lagged":3}
//!   data: second line
//! ```
//!
//! Each event is the payload of one text frame, so that the session's buffers and counts hold for
//! events as they do for messages of a WebSocket.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smallvec::SmallVec;

use crate::bus::Position;
use crate::wire::{Frame, Frames, Payload};

/// The event with which a message comes that is no text, in base64.
const BINARY: &str = "binary";

/// Messages as events, one for each.
pub(super) fn encode(frames: &Frames) -> Frames {
    encode_each(frames, |_index| None)
}

/// Messages as events, each with its position as its id; `first` is the position of the first.
pub(super) fn encode_at(frames: &Frames, first: Position) -> Frames {
    encode_each(frames, |index| {
        let offset = first.offset + index as u64;
        Some(Position { offset, ..first })
    })
}

fn encode_each(frames: &Frames, id: impl Fn(usize) -> Option<Position>) -> Frames {
    let each = frames.iter().enumerate();
    let events: SmallVec<[Frames; 4]> = each
        .map(|(index, frame)| message(&frame, id(index)).into())
        .collect();
    Frames::join(events.iter()).expect("there is one at least")
}

/// One message as an event.
fn message(frame: &Frame, id: Option<Position>) -> Frame {
    let mut text = String::with_capacity(frame.payload_bytes().len() + 48);
    match frame.payload() {
        Payload::Text(data) => write(&mut text, id, None, data),
        Payload::Binary(bytes) => write(&mut text, id, Some(BINARY), &BASE64.encode(bytes)),
    }
    Frame::text(text)
}

/// A notice of this kind as an event. Its id is the position from which a client goes on that has
/// received all events up to this one.
pub(super) fn notice(kind: &str, data: &str, id: Option<Position>) -> Frame {
    let mut text = String::new();
    write(&mut text, id, Some(kind), data);
    Frame::text(text)
}

/// Notices of joins and leaves as events, each of the kind that its JSON names first.
pub(super) fn of_presence(frames: &Frames) -> Frames {
    let events: SmallVec<[Frames; 4]> = frames
        .iter()
        .map(|frame| match frame.payload() {
            Payload::Text(json) if json.starts_with("{\"left\"") => notice("left", json, None),
            Payload::Text(json) => notice("joined", json, None),
            Payload::Binary(_) => unreachable!("a notice is a text"),
        })
        .map(Frames::from)
        .collect();
    Frames::join(events.iter()).expect("there is one at least")
}

/// Writes one event. The id is ahead of the data, so that a reader of the raw text sees it first; a
/// client takes it over with the whole event only.
fn write(text: &mut String, id: Option<Position>, kind: Option<&str>, data: &str) {
    if let Some(id) = id {
        writeln!(text, "id: {id}").expect(TAKES_ALL);
    }
    if let Some(kind) = kind {
        writeln!(text, "event: {kind}").expect(TAKES_ALL);
    }
    for line in lines(data) {
        writeln!(text, "data: {line}").expect(TAKES_ALL);
    }
    text.push('\n');
}

const TAKES_ALL: &str = "a string takes everything";

/// The lines of a text, one at least: each of the three line ends of HTML ends a line, and a client
/// reads each as `\n`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let Some(end) = text.as_bytes().iter().position(is_end) else {
            rest = None;
            return Some(text);
        };
        let (line, behind) = text.split_at(end);
        let end_len = if behind.starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&behind[end_len..]);
        Some(line)
    })
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
