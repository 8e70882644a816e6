//! What a server may send, by RFC 6455, written apart from the product.

use crate::past::{Fact, Placed};
use crate::speech::{self, Notice, Said, Speech};
use crate::wild::is_legal_code;

/// Reads a server's bytes: the head of its response, then frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// How many of these were read.
    read: usize,
    state: State,
    /// What was agreed on.
    speech: Speech,
    /// The message of which fragments have come.
    message: Option<Parts>,
}

/// The beginning of a message.
#[derive(Clone, Debug)]
struct Parts {
    /// The first byte of its first frame.
    first: u8,
    bytes: Vec<u8>,
}

/// Of a compressed message: RFC 7692 6.
const RSV1: u8 = 0x40;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    Closed,
    #[default]
    Head,
    Open,
    /// Not upgraded: the rest is a body.
    Refused,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The status of the response, and after a 101 that of a refusal by name.
    Head(u16),
    Binary(Vec<u8>),
    Close(Option<u16>),
    /// Something about the history of the room, or the reply to a request.
    Fact(Fact),
    /// Something about the messages, in JSON.
    Notice(Notice),
    Ping(Vec<u8>),
    /// A text of a relay, with its sender and its place.
    Placed(Placed),
    Pong,
    Text(String),
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // What was read goes when that costs little.
        if self.read * 2 >= self.bytes.len() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend(bytes);
    }

    /// What was agreed on, once the head was read.
    pub(crate) fn speech(&self) -> Speech {
        self.speech
    }

    fn arrived(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// The next thing that is there as a whole.
    ///
    /// # Errors
    ///
    /// The rule that the server has broken.
    pub(crate) fn next(&mut self) -> Result<Option<Seen>, String> {
        loop {
            match self.state {
                State::Head => return self.head(),
                State::Refused => return Ok(None),
                State::Closed if self.arrived().is_empty() => return Ok(None),
                State::Closed => return Err("bytes after the close frame".to_owned()),
                State::Open => {}
            }
            let Some((first, payload)) = self.frame()? else {
                return Ok(None);
            };
            if let Some(seen) = self.take(first, payload)? {
                return Ok(Some(seen));
            }
        }
    }

    fn head(&mut self) -> Result<Option<Seen>, String> {
        let arrived = self.arrived();
        let Some(end) = arrived.windows(4).position(|part| part == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&arrived[..end + 4]).into_owned();
        self.read += end + 4;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| digits.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no response: {head}"))?;
        self.speech = Speech::agreed(&head);
        self.state = if status == 101 {
            State::Open
        } else {
            State::Refused
        };
        Ok(Some(Seen::Head(status)))
    }

    /// The first byte and the payload of the next frame, if it is there as a whole.
    fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let [first, second, rest @ ..] = self.arrived() else {
            return Ok(None);
        };
        if second & 0x80 != 0 {
            return Err("a masked frame".to_owned());
        }
        let (length, header) = match second & 0x7f {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 10),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        let is_short = match header {
            2 => true,
            4 => length >= 126,
            _ => length > 0xffff,
        };
        if !is_short {
            return Err(format!("a length of {length} in {} bytes", header - 2));
        }
        let end = header + usize::try_from(length).map_err(|error| error.to_string())?;
        if self.arrived().len() < end {
            return Ok(None);
        }
        let first = *first;
        let payload = self.arrived()[header..end].to_vec();
        self.read += end;
        Ok(Some((first, payload)))
    }

    fn take(&mut self, first: u8, payload: Vec<u8>) -> Result<Option<Seen>, String> {
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_compressed = first & 0x70 == RSV1 && self.speech.deflate && [1, 2].contains(&opcode);
        if first & 0x70 != 0 && !is_compressed {
            return Err(format!("reserved bits in {first:#04x}"));
        }
        if opcode >= 8 && (!is_final || payload.len() > 125) {
            return Err(format!(
                "a control frame of {} bytes, final: {is_final}",
                payload.len()
            ));
        }
        match (opcode, self.message.take()) {
            (0, Some(mut parts)) => {
                parts.bytes.extend(payload);
                self.data(is_final, parts)
            }
            (1 | 2, None) => {
                let bytes = payload;
                self.data(is_final, Parts { first, bytes })
            }
            (8, message) => {
                self.message = message;
                self.state = State::Closed;
                close(&payload).map(Some)
            }
            (9, message) => {
                self.message = message;
                Ok(Some(Seen::Ping(payload)))
            }
            (10, message) => {
                self.message = message;
                Ok(Some(Seen::Pong))
            }
            (opcode, message) => Err(format!(
                "opcode {opcode}, inside of a message: {}",
                message.is_some()
            )),
        }
    }

    fn data(&mut self, is_final: bool, parts: Parts) -> Result<Option<Seen>, String> {
        if !is_final {
            self.message = Some(parts);
            return Ok(None);
        }
        let Parts { first, bytes } = parts;
        let bytes = if first & RSV1 == 0 {
            bytes
        } else {
            speech::inflated(&bytes).ok_or("a compressed message that is none")?
        };
        if first & 0x0f == 2 {
            return Ok(Some(Seen::Binary(bytes)));
        }
        let text = String::from_utf8(bytes).map_err(|_| "a text that is no UTF-8".to_owned())?;
        if !self.speech.json {
            return Ok(Some(Seen::Text(text)));
        }
        match speech::said(&text) {
            Some(Said::Text(text)) => Ok(Some(Seen::Text(text))),
            Some(Said::Fact(fact)) => Ok(Some(Seen::Fact(fact))),
            Some(Said::Notice(notice)) => Ok(Some(Seen::Notice(notice))),
            Some(Said::Placed(placed)) => Ok(Some(Seen::Placed(placed))),
            Some(Said::Refused(status)) => Ok(Some(Seen::Head(status))),
            None => Err(format!("a text without an envelope: {text}")),
        }
    }
}

fn close(payload: &[u8]) -> Result<Seen, String> {
    match payload {
        [] => Ok(Seen::Close(None)),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            if !is_legal_code(code) || std::str::from_utf8(reason).is_err() {
                return Err(format!("a close frame with {code}"));
            }
            Ok(Seen::Close(Some(code)))
        }
        [_] => Err("a close frame of one byte".to_owned()),
    }
}

/// A client's frame with this first byte, masked.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let mask = MASK.iter().cycle();
    frame.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    frame
}
