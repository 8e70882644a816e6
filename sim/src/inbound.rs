//! What a client has sent, by RFC 6455, as far as a server reads it: apart from the product.

use crate::speech::{self, Speech};

/// A message that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Where its last frame ends.
    pub(crate) end: usize,
    /// Of its payload, once that is inflated.
    pub(crate) bytes: usize,
    /// Of these, what is in the envelope, where there is to be one; `None` if there is none.
    pub(crate) said: Option<usize>,
    /// Its payload, of a text.
    pub(crate) text: Option<String>,
}

impl Whole {
    /// A message of this opcode; `None` if it is against the rules.
    fn new(end: usize, (kind, payload): (u8, Vec<u8>), speech: Speech) -> Option<Self> {
        let bytes = payload.len();
        let text = match kind {
            1 => Some(String::from_utf8(payload).ok()?),
            _ => None,
        };
        let said = match &text {
            Some(text) if speech.json => speech::opened(text).map(|text| text.len()),
            Some(_) | None => Some(bytes),
        };
        Some(Self {
            end,
            bytes,
            said,
            text,
        })
    }
}

/// The messages in these bytes that follow a request, up to a close frame, a rule that is broken,
/// or a message of more than `most` bytes.
pub(crate) fn inbound(bytes: &[u8], most: usize, speech: Speech) -> Vec<Whole> {
    let mut found = Vec::new();
    let mut rest = bytes;
    let mut message: Option<(u8, Vec<u8>)> = None;
    let mut is_compressed = false;
    while let Some((frame, after)) = Frame::read(rest) {
        rest = after;
        let under_way = message.as_ref().map_or(0, |(_, whole)| whole.len());
        is_compressed = match frame.opcode {
            1 | 2 => frame.is_compressed,
            _ => is_compressed,
        };
        let is_legal = !frame.is_compressed || (speech.deflate && [1, 2].contains(&frame.opcode));
        let is_over = frame.opcode < 8 && !is_compressed && under_way + frame.length() > most;
        if is_over || !is_legal {
            break;
        }
        match (frame.opcode, message.take()) {
            (0, Some((kind, mut whole))) => {
                frame.unmask(&mut whole);
                message = Some((kind, whole));
            }
            (1 | 2, None) => {
                let mut whole = Vec::with_capacity(frame.length());
                frame.unmask(&mut whole);
                message = Some((frame.opcode, whole));
            }
            (9 | 10, under_way) if frame.is_final && frame.length() <= 125 => {
                message = under_way;
                continue;
            }
            // A close frame, or against the rules.
            _ => break,
        }
        let Some((kind, mut whole)) = message.take_if(|_| frame.is_final) else {
            continue;
        };
        if is_compressed {
            match speech::inflated(&whole) {
                Some(inflated) if inflated.len() <= most => whole = inflated,
                Some(_) | None => break,
            }
        }
        match Whole::new(bytes.len() - rest.len(), (kind, whole), speech) {
            Some(whole) => found.push(whole),
            None => break,
        }
    }
    found
}

/// Where the last ping ends in these bytes that follow a request, up to a close frame or to what is
/// no frame.
pub(crate) fn pings(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut last = None;
    while let Some((frame, after)) = Frame::read(rest) {
        rest = after;
        let is_control = !frame.is_compressed && frame.is_final && frame.length() <= 125;
        match frame.opcode {
            0..=2 => {}
            9 if is_control => last = Some(bytes.len() - rest.len()),
            10 if is_control => {}
            _ => break,
        }
    }
    last
}

/// Whether there is a close frame in these bytes that follow a request.
pub(crate) fn has_close(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((frame, after)) = Frame::read(rest) {
        if frame.opcode == 8 {
            return true;
        }
        rest = after;
    }
    false
}

/// A message, or a control frame, from its first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) start: usize,
    /// Where its last frame ends; `None` if that is not there.
    pub(crate) end: Option<usize>,
}

/// The messages that begin in these bytes that follow a request, up to a close frame, or to what
/// is no frame; a control frame is one if it is not whole.
pub(crate) fn begun(bytes: &[u8]) -> Vec<Begun> {
    let mut found = Vec::new();
    let mut rest = bytes;
    let mut message = None;
    while let Some((frame, after)) = Frame::read(rest) {
        let start = bytes.len() - rest.len();
        let end = bytes.len() - after.len();
        rest = after;
        let start = match frame.opcode {
            0..=2 => *message.get_or_insert(start),
            9 | 10 => continue,
            _ => return found,
        };
        if frame.is_final {
            let end = Some(end);
            found.push(Begun { start, end });
            message = None;
        }
    }
    let start = message.or_else(|| (!rest.is_empty()).then(|| bytes.len() - rest.len()));
    found.extend(start.map(|start| Begun { start, end: None }));
    found
}

struct Frame<'a> {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    mask: [u8; 4],
    masked: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, if it is whole and masked, and what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*length), rest)
            }
            length => (u64::from(length), rest),
        };
        if second & 0x80 == 0 || first & 0x30 != 0 {
            return None;
        }
        let (mask, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(length).ok()?;
        let (masked, rest) = rest.split_at_checked(length)?;
        let frame = Self {
            is_final: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            opcode: first & 0x0f,
            mask: *mask,
            masked,
        };
        Some((frame, rest))
    }

    fn length(&self) -> usize {
        self.masked.len()
    }

    /// Appends the payload.
    fn unmask(&self, to: &mut Vec<u8>) {
        for part in self.masked.chunks(4) {
            to.extend(part.iter().zip(self.mask).map(|(byte, mask)| byte ^ mask));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::masked;

    fn count(frames: &[Vec<u8>]) -> (usize, usize) {
        let found = inbound(&frames.concat(), 10, Speech::default());
        (found.len(), found.iter().map(|whole| whole.bytes).sum())
    }

    #[test]
    fn whole_messages_are_counted_up_to_the_close_frame() {
        let text = masked(0x81, b"four");
        let part = masked(0x01, b"si");
        let (ping, rest) = (masked(0x89, b""), masked(0x80, b"xx"));
        let close = masked(0x88, &1000_u16.to_be_bytes());
        assert_eq!(count(&[text.clone(), part, ping, rest]), (2, 8));
        assert_eq!(count(&[text.clone(), close, text.clone()]), (1, 4));
        assert_eq!(count(&[text.clone(), text[..5].to_vec()]), (1, 4));
    }

    #[test]
    fn the_last_ping_is_the_last_before_the_close_frame() {
        let (text, ping) = (masked(0x81, b"four"), masked(0x89, b"?"));
        let close = masked(0x88, &1000_u16.to_be_bytes());
        let all = [
            ping.clone(),
            text.clone(),
            ping.clone(),
            close,
            ping.clone(),
        ]
        .concat();
        assert_eq!(pings(&all), Some(2 * ping.len() + text.len()));
        assert_eq!(pings(&ping[..3]), None);
        assert_eq!(pings(&[text, vec![0x81, 1, b'x'], ping].concat()), None);
    }

    #[test]
    fn a_message_begins_with_its_first_fragment_and_may_not_end() {
        let (whole, part) = (masked(0x81, b"four"), masked(0x01, b"si"));
        let (ping, rest) = (masked(0x89, b""), masked(0x80, b"xx"));
        let close = masked(0x88, b"");
        let begun = |frames: &[&[u8]]| {
            let found = begun(&frames.concat());
            let found = found.iter().map(|begun| (begun.start, begun.end));
            found.collect::<Vec<_>>()
        };
        assert_eq!(begun(&[]), []);
        assert_eq!(begun(&[&whole, &ping]), [(0, Some(10))]);
        let fragments: [&[u8]; 3] = [&part, &ping, &rest];
        assert_eq!(begun(&fragments), [(0, Some(22))]);
        assert_eq!(begun(&fragments[..2]), [(0, None)]);
        assert_eq!(begun(&[&part, &ping, &rest[..3]]), [(0, None)]);
        assert_eq!(begun(&[&whole, &ping[..1]]), [(0, Some(10)), (10, None)]);
        assert_eq!(begun(&[&whole, &close, &part]), [(0, Some(10))]);
        assert!(has_close(&[&whole[..], &close].concat()));
        assert!(!has_close(&[&whole[..], &close[..3]].concat()));
    }

    #[test]
    fn nothing_is_counted_after_a_broken_rule() {
        let good = || masked(0x82, b"0123456789");
        for bad in [
            masked(0x82, b"0123456789a"),
            masked(0x80, b"of nothing"),
            masked(0x81, b"\xff"),
            masked(0x83, b""),
            masked(0x09, b""),
            vec![0x81, 1, b'x'],
        ] {
            assert_eq!(count(&[good(), bad.clone(), good()]), (1, 10), "{bad:?}");
        }
    }
}
