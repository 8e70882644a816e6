//! Decodes a server's stream from chunks of any size; counts messages, and keeps them only for
//! checks.

use thiserror::Error;

/// The longest message that is kept for a check.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The longest payload of a control frame (RFC 6455 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// The longest header of a server's frame.
const HEADER_BYTES_MAX: usize = 10;

/// An event in the server's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A whole message; empty unless messages are kept.
    Message(&'a [u8]),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// A close frame.
    Close(Option<u16>),
}

/// A frame that a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Violation {
    #[error("it masked a frame")]
    Masked,
    #[error("it set bits that no extension was agreed on for")]
    ReservedBits,
    #[error("it used an opcode that does not exist")]
    ReservedOpcode,
    #[error("it sent a control frame that is too long or in fragments")]
    Control,
    #[error("it sent a message of more than 64 MiB")]
    TooLong,
}

/// Whether messages are kept or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Messages,
    Nothing,
}

/// The position in the stream of one connection.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The first bytes of an incomplete header.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The kept parts of an incomplete message.
    message: Vec<u8>,
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    is_last: bool,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

impl Incoming {
    /// Decodes a chunk, and passes each event in it to `tell`.
    ///
    /// # Errors
    ///
    /// The first [`Violation`]; the bytes behind it are not decoded.
    pub(super) fn take(
        &mut self,
        mut input: &[u8],
        keep: Keep,
        mut tell: impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.begin(&mut input)? {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            if frame.left > input.len() as u64 {
                self.keep(frame.kind, input, keep)?;
                let left = frame.left - input.len() as u64;
                self.frame = Some(Frame { left, ..frame });
                return Ok(());
            }
            let len = usize::try_from(frame.left).expect("no more than the input");
            let (payload, rest) = input.split_at(len);
            input = rest;
            self.frame = None;
            self.end(frame, payload, keep, &mut tell)?;
        }
    }

    /// The header of the next frame, if it is complete.
    fn begin(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        if self.header_bytes == 0
            && let Some((frame, size)) = parse(input)?
        {
            *input = &input[size..];
            return Ok(Some(frame));
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.header[self.header_bytes] = byte;
            self.header_bytes += 1;
            if let Some((frame, _size)) = parse(&self.header[..self.header_bytes])? {
                self.header_bytes = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Keeps a part of a payload, if it is needed.
    fn keep(&mut self, kind: Kind, part: &[u8], keep: Keep) -> Result<(), Violation> {
        match (kind, keep) {
            (Kind::Data, Keep::Nothing) => {}
            (Kind::Data, Keep::Messages) => {
                if (self.message.len() + part.len()) as u64 > KEPT_BYTES_MAX {
                    return Err(Violation::TooLong);
                }
                self.message.extend_from_slice(part);
            }
            (Kind::Close | Kind::Ping | Kind::Pong, _) => self.control.extend_from_slice(part),
        }
        Ok(())
    }

    /// Ends a frame with the last part of its payload.
    fn end(
        &mut self,
        frame: Frame,
        last: &[u8],
        keep: Keep,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let kept = match frame.kind {
            Kind::Data => &self.message,
            Kind::Close | Kind::Ping | Kind::Pong => &self.control,
        };
        let is_whole = kept.is_empty() && frame.is_last;
        if !is_whole {
            self.keep(frame.kind, last, keep)?;
        }
        let (message, control) = match is_whole {
            true => (last, last),
            false => (&self.message[..], &self.control[..]),
        };
        match frame.kind {
            Kind::Data if !frame.is_last => return Ok(()),
            Kind::Data => tell(Event::Message(message)),
            Kind::Ping => tell(Event::Ping(control)),
            Kind::Close => tell(Event::Close(
                control.first_chunk().copied().map(u16::from_be_bytes),
            )),
            Kind::Pong => {}
        }
        match frame.kind {
            Kind::Data => self.message.clear(),
            Kind::Close | Kind::Ping | Kind::Pong => self.control.clear(),
        }
        Ok(())
    }
}

/// Parses the frame that begins here, with the length of its header; `None` if the header is
/// incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Frame, usize)>, Violation> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err(Violation::Masked);
    }
    let (left, size) = match second {
        126 => match rest.first_chunk() {
            Some(&len) => (u64::from(u16::from_be_bytes(len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&len) => (u64::from_be_bytes(len), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let frame = Frame {
        kind: kind(first)?,
        is_last: first & 0x80 != 0,
        left,
    };
    let is_legal = frame.kind == Kind::Data || (frame.is_last && left <= CONTROL_BYTES_MAX);
    match is_legal {
        true => Ok(Some((frame, size))),
        false => Err(Violation::Control),
    }
}

fn kind(first: u8) -> Result<Kind, Violation> {
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    match first & 0x0f {
        0..=2 => Ok(Kind::Data),
        8 => Ok(Kind::Close),
        9 => Ok(Kind::Ping),
        10 => Ok(Kind::Pong),
        _ => Err(Violation::ReservedOpcode),
    }
}

#[cfg(test)]
mod tests {
    use busline::wire::Frame as Sent;

    use super::*;

    /// The events in a stream that arrives in chunks of this size.
    fn told(bytes: &[u8], chunk: usize, keep: Keep) -> Result<Vec<String>, Violation> {
        let mut incoming = Incoming::default();
        let mut told = Vec::new();
        for chunk in bytes.chunks(chunk) {
            incoming.take(chunk, keep, |event| told.push(format!("{event:?}")))?;
        }
        Ok(told)
    }

    fn stream() -> (Vec<u8>, Vec<String>) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(size);
            bytes.extend(Sent::text(&text).as_bytes());
            expected.push(format!("{:?}", Event::Message(text.as_bytes())));
        }
        // A message in three fragments, with a ping and a pong in between.
        bytes.extend(b"\x01\x02ab\x89\x02hi\x00\x00\x8a\x01p\x80\x01c");
        expected.push(format!("{:?}", Event::Ping(b"hi")));
        expected.push(format!("{:?}", Event::Message(b"abc")));
        bytes.extend(b"\x88\x02\x03\xe8\x88\x00");
        expected.push(format!("{:?}", Event::Close(Some(1000))));
        expected.push(format!("{:?}", Event::Close(None)));
        (bytes, expected)
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let (bytes, expected) = stream();
        for chunk in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(told(&bytes, chunk, Keep::Messages).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn what_is_not_kept_is_counted_all_the_same() {
        let (bytes, expected) = stream();
        for chunk in [1, 5, usize::MAX] {
            let told = told(&bytes, chunk, Keep::Nothing).expect("it is legal");
            assert_eq!(told.len(), expected.len());
        }
    }

    #[test]
    fn what_no_server_sends_is_named() {
        for (bytes, violation) in [
            (&b"\x81\x80\0\0\0\0"[..], Violation::Masked),
            (b"\xc1\x00", Violation::ReservedBits),
            (b"\x83\x00", Violation::ReservedOpcode),
            (b"\x09\x00", Violation::Control),
            (b"\x89\x7e\x00\x7e", Violation::Control),
        ] {
            for chunk in [1, 2, 100] {
                assert_eq!(told(bytes, chunk, Keep::Nothing), Err(violation));
            }
        }
    }
}
