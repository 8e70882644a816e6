//! The decoder against tungstenite, on streams that are legal but for a few bytes.
//!
//! Both decoders must read equal messages up to the first error, and find an error in the same
//! streams. Tungstenite 0.30 deviates from RFC 6455, or from a point left open there, as follows:
//!
//! - Most errors come when the frame is complete. So where the decoder has failed, the stream is
//!   lengthened until that frame is complete for tungstenite, too.
//! - Lengths that are not minimal (5.2) are accepted; the length of a control frame is such if it
//!   has more than one byte but is not too long. Such streams are compared up to that length.
//! - A bad code in a close frame is read as 1002 (7.4). So is 1014, which IANA registered later.
//!   Such closes are compared without their codes.
//! - Empty fragments are not bounded; these streams are too short to meet the bound.

use std::io::{self, Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use super::arbitrary::{messages, stream};
use super::*;
use crate::wire::Payload;

/// At least 125, because tungstenite's limit also applies to control frames.
const LIMIT: usize = 310;

/// The way a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Error,
    /// The stream ends within a message, or between two messages.
    Open,
}

/// The events that both decoders can report.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The code and the reason, if both decoders agree on them.
    Close(Option<(u16, String)>),
}

struct Reader(Cursor<Vec<u8>>);

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Reader {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(bytes: Vec<u8>) -> (Vec<Said>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let reader = Reader(Cursor::new(bytes));
    let mut socket = WebSocket::from_raw_socket(reader, Role::Server, Some(config));
    let mut said = Vec::new();
    loop {
        said.push(match socket.read() {
            Ok(Message::Text(text)) => Said::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Said::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Said::Pong(bytes.to_vec()),
            Ok(Message::Close(frame)) => {
                let body = frame.map(|f| (f.code.into(), f.reason.to_string()));
                said.push(Said::Close(body));
                return (said, End::Close);
            }
            Ok(Message::Frame(_)) => unreachable!("reading yields none"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (said, End::Open);
            }
            Err(_) => return (said, End::Error),
        });
    }
}

fn ours(outcome: &Outcome) -> (Vec<Said>, End) {
    let said: Vec<_> = outcome.events.iter().map(say).collect();
    let end = match (said.last(), outcome.error) {
        (_, Some(_)) => End::Error,
        (Some(Said::Close(_)), None) => End::Close,
        (_, None) => End::Open,
    };
    (said, end)
}

fn say(event: &Event) -> Said {
    match event {
        Event::Messages(frames) => {
            let frame = frames.iter().next().expect("one at least");
            match frame.payload() {
                Payload::Text(text) => Said::Text(text.to_string()),
                Payload::Binary(bytes) => Said::Binary(bytes.to_vec()),
            }
        }
        Event::Ping(payload) => Said::Ping(payload.as_slice().to_vec()),
        Event::Pong(payload) => Said::Pong(payload.as_slice().to_vec()),
        Event::Close(frame) => Said::Close(frame.as_ref().map(|frame| match frame.code().get() {
            1014 => (1002, "Protocol violation".to_owned()),
            code => (code, frame.reason().to_string()),
        })),
    }
}

fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let outcome = decode_whole(LIMIT, bytes);
    let (our_said, our_end) = ours(&outcome);
    let mut input = bytes.to_vec();
    if our_end == End::Error {
        // The rest of a header, and of a payload within both limits.
        input.extend([0; 14 + LIMIT]);
    }
    let (mut their_said, their_end) = theirs(input);
    match outcome.error {
        Some(WireError::NonMinimalLength | WireError::ControlTooLong) => {
            their_said.truncate(our_said.len());
        }
        Some(WireError::BadCloseCode(_)) if their_end == End::Close => {
            their_said.pop();
        }
        Some(_) | None => prop_assert_eq!(our_end, their_end, "{:?}", outcome.error),
    }
    prop_assert_eq!(our_said, their_said);
    Ok(())
}

/// Makes a frame that fits no particular state.
fn stray_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => prop::sample::select(vec![0x01, 0x02, 0x00, FIN, TEXT, BINARY, CLOSE, PING, PONG]),
        1 => any::<u8>(),
    ];
    let close = prop_oneof![0_u16..6000, 990_u16..1020].prop_map(|code| {
        let body = [&code.to_be_bytes()[..], b"bye"].concat();
        client_frame(CLOSE, &body, KEY)
    });
    let any_frame = (first, vec(any::<u8>(), 0..200), any::<[u8; 4]>())
        .prop_map(|(first, payload, key)| client_frame(first, &payload, key));
    prop_oneof![3 => any_frame, 1 => close]
}

proptest! {
    #![proptest_config(crate::cases::cases())]

    #[test]
    fn changed_bytes_are_judged_alike(
        sent in messages(LIMIT + 2),
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        end in any::<Index>(),
    ) {
        let mut bytes = stream(&sent).bytes;
        for (at, bits) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        compare(&bytes)?;
        compare(&bytes[..end.index(bytes.len())])?;
    }

    #[test]
    fn stray_frames_are_judged_alike(
        before in messages(LIMIT),
        strays in vec(stray_frame(), 1..4),
        after in messages(LIMIT),
    ) {
        let bytes = [stream(&before).bytes, strays.concat(), stream(&after).bytes];
        compare(&bytes.concat())?;
    }

    #[test]
    fn headers_are_judged_alike(
        before in messages(LIMIT),
        header in vec(any::<u8>(), 2..14),
        first in prop::sample::select(vec![0x01, 0x02, 0x00, FIN, TEXT, BINARY, PING, CLOSE]),
        len in 0xFA_u8..=0xFF,
    ) {
        let mut bytes = stream(&before).bytes;
        bytes.extend([first, len]);
        bytes.extend(header);
        compare(&bytes)?;
    }
}
