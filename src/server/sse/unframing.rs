//! Takes the events out of a session's frames, byte by byte as they come; pure.

use std::time::Duration;

use crate::wire::{CloseCode, ControlKind, OpCode};

/// The comment that keeps a connection alive through proxies, in the place of a ping.
const COMMENT: &[u8] = b":\n\n";

/// The line that tells a client to come back after this time.
pub(super) fn retry(after: Duration) -> String {
    format!("retry: {}\n\n", after.as_millis())
}

/// Takes frames of a server apart: unmasked, and none divided into fragments.
#[derive(Debug)]
pub(super) struct Unframing {
    step: Step,
    /// The time after which clients of a server that goes away come back.
    retry: Duration,
}

/// The part of a frame that comes next.
#[derive(Clone, Copy, Debug)]
enum Step {
    First,
    Length {
        frame: Kind,
    },
    /// The rest of a long length.
    LongLength {
        frame: Kind,
        left: u8,
        length: u64,
    },
    Payload {
        frame: Kind,
        left: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A close frame, with the bytes of its code so far.
    Close {
        code: u16,
        bytes: u8,
    },
    Event,
    Ping,
    /// A pong, for which an event stream has no use.
    Pong,
}

/// The control frames among bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) has_ping: bool,
    pub(super) has_close: bool,
}

impl Unframing {
    pub(super) fn new(retry: Duration) -> Self {
        Self {
            step: Step::First,
            retry,
        }
    }

    /// Adds the events in these bytes to `text`, and what stands for control frames.
    pub(super) fn take(&mut self, mut bytes: &[u8], text: &mut Vec<u8>) -> Control {
        let mut control = Control::default();
        while let Some(&first) = bytes.first() {
            let used = match self.step {
                Step::Payload { frame, left } => {
                    let part = usize::try_from(left).map_or(bytes.len(), |n| n.min(bytes.len()));
                    let frame = frame.with(&bytes[..part]);
                    if frame == Kind::Event {
                        text.extend_from_slice(&bytes[..part]);
                    }
                    let left = left - part as u64;
                    self.step = Step::Payload { frame, left };
                    part
                }
                Step::First | Step::Length { .. } | Step::LongLength { .. } => {
                    self.step = self.step.after(first);
                    1
                }
            };
            bytes = &bytes[used..];
            if let Step::Payload { frame, left: 0 } = self.step {
                self.finish(frame, text, &mut control);
                self.step = Step::First;
            }
        }
        control
    }

    /// Notes a frame that is whole.
    fn finish(&self, frame: Kind, text: &mut Vec<u8>, control: &mut Control) {
        match frame {
            Kind::Event | Kind::Pong => {}
            Kind::Ping => {
                text.extend_from_slice(COMMENT);
                control.has_ping = true;
            }
            Kind::Close { code, .. } => {
                control.has_close = true;
                let goes_away = [CloseCode::GOING_AWAY, CloseCode::SERVICE_RESTART];
                if goes_away.iter().any(|away| away.get() == code) {
                    text.extend_from_slice(retry(self.retry).as_bytes());
                }
            }
        }
    }
}

impl Step {
    /// The step after one byte of a header.
    fn after(self, byte: u8) -> Self {
        match self {
            Self::First => Self::Length {
                frame: Kind::of(byte),
            },
            Self::Length { frame } => match byte {
                126 => Self::LongLength {
                    frame,
                    left: 2,
                    length: 0,
                },
                127 => Self::LongLength {
                    frame,
                    left: 8,
                    length: 0,
                },
                short => Self::Payload {
                    frame,
                    left: u64::from(short),
                },
            },
            Self::LongLength {
                frame,
                left,
                length,
            } => {
                let length = length << 8 | u64::from(byte);
                match left {
                    1 => Self::Payload {
                        frame,
                        left: length,
                    },
                    _ => Self::LongLength {
                        frame,
                        left: left - 1,
                        length,
                    },
                }
            }
            Self::Payload { .. } => self,
        }
    }
}

impl Kind {
    fn of(first: u8) -> Self {
        match OpCode::from_bits(first) {
            Some(OpCode::Control(ControlKind::Close)) => Self::Close { code: 0, bytes: 0 },
            Some(OpCode::Control(ControlKind::Ping)) => Self::Ping,
            Some(OpCode::Control(ControlKind::Pong)) => Self::Pong,
            Some(OpCode::Continuation | OpCode::Data(_)) | None => Self::Event,
        }
    }

    /// The frame with more of its payload.
    fn with(self, payload: &[u8]) -> Self {
        let Self::Close { code, bytes } = self else {
            return self;
        };
        let (mut code, mut bytes) = (code, bytes);
        for byte in payload.iter().take(usize::from(2 - bytes)) {
            code = code << 8 | u16::from(*byte);
            bytes += 1;
        }
        Self::Close { code, bytes }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wire::{CloseFrame, ControlPayload, Frame, append_control};

    fn control(kind: ControlKind, payload: &ControlPayload) -> Vec<u8> {
        let mut bytes = Vec::new();
        append_control(&mut bytes, kind, payload);
        bytes
    }

    fn close(code: u16, reason: &str) -> Vec<u8> {
        let frame = CloseFrame::new(CloseCode::new(code), reason);
        control(ControlKind::Close, &frame.encode())
    }

    /// The text of these bytes in two parts, and the control frames in each.
    fn taken(bytes: &[u8], at: usize) -> (String, [Control; 2]) {
        let mut unframing = Unframing::new(Duration::from_millis(1_234));
        let mut text = Vec::new();
        let (first, second) = bytes.split_at(at);
        let controls = [first, second].map(|part| unframing.take(part, &mut text));
        (String::from_utf8(text).expect("events are text"), controls)
    }

    #[test]
    fn events_come_out_of_their_frames_wherever_the_bytes_are_divided() {
        let events = ["", "data: a\n\n", &"x".repeat(125), &"y".repeat(126)];
        let long = "z".repeat(65_536);
        let mut bytes = Vec::new();
        let mut expected = String::new();
        for event in events.into_iter().chain([&*long, "data: end\n\n"]) {
            bytes.extend_from_slice(Frame::text(event).as_bytes());
            expected.push_str(event);
            bytes.extend(control(ControlKind::Ping, &ControlPayload::EMPTY));
            expected.push_str(":\n\n");
            let pong = ControlPayload::try_from(&b"pong"[..]).expect("it is short");
            bytes.extend(control(ControlKind::Pong, &pong));
        }
        bytes.extend(close(1001, "the server is going away"));
        expected.push_str("retry: 1234\n\n");
        // Each division in the headers, and some in the long payload.
        let edge = bytes.len() - 200;
        let all = (0..1_000).chain((1_000..edge).step_by(997));
        for at in all.chain(edge..=bytes.len()) {
            let (text, controls) = taken(&bytes, at);
            assert!(text == expected, "divided at {at}");
            let has_close = controls.map(|control| control.has_close);
            assert_eq!(has_close, [at == bytes.len(), at < bytes.len()], "{at}");
        }
    }

    #[test]
    fn a_ping_is_told_once_it_is_whole() {
        let ping = control(ControlKind::Ping, &ControlPayload::EMPTY);
        let (text, controls) = taken(&ping, 1);
        assert_eq!(text, ":\n\n");
        assert_eq!(controls.map(|control| control.has_ping), [false, true]);
    }

    #[test]
    fn only_a_server_that_goes_away_says_when_to_come_back() {
        for (code, is_told) in [
            (1000, false),
            (1001, true),
            (1011, false),
            (1012, true),
            (1013, false),
            (4401, false),
        ] {
            for reason in ["", "because"] {
                let (text, controls) = taken(&close(code, reason), 0);
                assert_eq!(!text.is_empty(), is_told, "{code}");
                assert!(controls[1].has_close, "{code}");
            }
        }
        let (text, controls) = taken(&control(ControlKind::Close, &ControlPayload::EMPTY), 1);
        assert_eq!((text.as_str(), controls[1].has_close), ("", true));
    }
}
