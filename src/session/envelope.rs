//! The envelopes of a client that speaks JSON: `{"text":"..."}` and `{"token":"..."}`.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use smallvec::SmallVec;

use super::request::Request;
use crate::bus::{Client, Tags};
use crate::client::identity::Token;
use crate::wire::{DataKind, Frame, Frames, Payload};

/// A text of a client that speaks JSON.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Text(String),
    Token(String),
}

/// Messages of a client, up to the first command for the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Messages for its service.
    pub(super) messages: Option<Frames>,
    /// The command that follows the messages.
    pub(super) command: Option<Command>,
    /// The frames after the command, not read yet.
    pub(super) rest: Option<Frames>,
}

/// A command of a client to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A request with a number for its reply.
    Request(Request),
    /// A fresh token.
    Token(Token),
    /// A text that is not of the subprotocol.
    Bad(BadEnvelope),
}

/// Why a text is not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEnvelope {
    /// A request without an `id` that a reply could show, or without anything to do.
    BadRequest,
    /// An object without members.
    Empty,
    /// An escape in a string is half of a surrogate pair, which no Unicode text can hold.
    HalfPair,
    /// The text is not JSON.
    NotJson,
    /// JSON, but not an object.
    NotObject,
    /// The value of the member is not a string.
    NotString,
    /// More than one member.
    Several,
    /// A member with an unknown name.
    UnknownMember,
}

impl BadEnvelope {
    /// The reason for the client, with what to do; fits into the reason of a close frame.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "this is no request: write {\"id\":1,\"text\":\"...\"} or {\"id\":1,\"history\":{}}"
            }
            Self::Empty => "the object is empty: write {\"text\":\"...\"}",
            Self::HalfPair => "an escape is half of a surrogate pair: write both halves or \\ufffd",
            Self::NotJson => "the text is not JSON: write {\"text\":\"...\"}",
            Self::NotObject => "the text is not a JSON object: write {\"text\":\"...\"}",
            Self::NotString => "the value is not a string: write {\"text\":\"...\"}",
            Self::Several => "the object has more than one member: write {\"text\":\"...\"}",
            Self::UnknownMember => {
                "the object has an unknown member: write {\"text\":\"...\"} or {\"token\":\"...\"}"
            }
        }
    }
}

/// Takes messages out of their envelopes, up to the first command for the session.
///
/// A request after messages is left for later: it is answered once its session is rid of them, so
/// that it does not overtake messages that the service does not take yet.
pub(super) fn open_all(frames: Frames) -> Decoded {
    let mut opened = SmallVec::<[Frames; 4]>::new();
    let mut command = None;
    let mut rest = Some(frames);
    while command.is_none()
        && let Some(first) = rest.as_ref().and_then(|rest| rest.iter().next())
    {
        match open(first) {
            Err(Command::Request(_)) if !opened.is_empty() => break,
            Ok(frame) => opened.push(frame.into()),
            Err(found) => command = Some(found),
        }
        drop(Frames::pop_front(&mut rest));
    }
    Decoded {
        messages: Frames::join(opened.iter()),
        command,
        rest,
    }
}

/// Takes one message out of its envelope; a binary message has none.
///
/// # Errors
///
/// When the text is a command for the session, or not an envelope.
fn open(frame: Frame) -> Result<Frame, Command> {
    match frame.kind() {
        DataKind::Binary => Ok(frame),
        DataKind::Text => match serde_json::from_slice(frame.payload_bytes()) {
            Ok(Said::Text(text)) => Ok(Frame::text(text)),
            Ok(Said::Token(token)) => Err(Command::Token(Token::new(&token))),
            Err(_) => Err(match Request::parse(frame.payload_bytes()) {
                Some(request) => Command::Request(request),
                None => Command::Bad(judge(frame.payload_bytes())),
            }),
        },
    }
}

/// Puts messages into envelopes: a text becomes `{"text":"..."}`, a binary message stays as it is.
pub(super) fn envelop(frames: &Frames) -> Frames {
    let enveloped: SmallVec<[Frames; 4]> = frames
        .iter()
        .map(|frame| match frame.payload() {
            Payload::Binary(_) => frame.into(),
            Payload::Text(text) => {
                let json = serde_json::json!({ "text": text });
                Frame::text(json.to_string()).into()
            }
        })
        .collect();
    Frames::join(enveloped.iter()).expect("there is one at least")
}

/// The facts about messages that their envelopes tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    /// The client that sent the messages.
    pub(super) from: Option<&'a Client>,
    /// The offset of the first of the messages.
    pub(super) offset: Option<u64>,
    /// The tags of each of the messages.
    pub(super) tags: Option<&'a Tags>,
}

impl About<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_none() && self.offset.is_none() && self.tags.is_none()
    }

    /// The facts as numbers, by which two encodings of the same messages are told apart: the client
    /// that sent the messages is shown by its number and its subject, which it keeps. Tags are the
    /// same wherever the messages are read.
    pub(super) fn shown(&self) -> [u64; 3] {
        let from = self.from.map(|sender| sender.id().number());
        let offset = self.offset.unwrap_or_default();
        [offset, from.unwrap_or_default(), u64::from(from.is_some())]
    }

    /// Writes the facts about the message with this index as members of an object, each after a
    /// comma.
    fn write(&self, index: usize, json: &mut String) {
        if let Some(first) = self.offset {
            let offset = first + index as u64;
            write!(json, ",\"offset\":{offset}").expect("a string takes everything");
        }
        if let Some(sender) = self.from {
            write!(json, ",\"from\":{}", from(sender)).expect("a string takes everything");
        }
        if let Some(tags) = self.tags {
            write!(json, ",\"tags\":{}", tags.as_json()).expect("a string takes everything");
        }
    }
}

/// A client as receivers of its messages see it.
pub(super) fn from(sender: &Client) -> serde_json::Value {
    serde_json::json!({ "client": sender.id().number(), "subject": sender.subject() })
}

/// Puts messages into envelopes with more than their texts; a binary message stays as it is.
pub(super) fn envelop_with(frames: &Frames, about: About<'_>) -> Frames {
    let enveloped: SmallVec<[Frames; 4]> = frames
        .iter()
        .enumerate()
        .map(|(index, frame)| match frame.payload() {
            Payload::Binary(_) => frame.into(),
            Payload::Text(text) => {
                let mut json = format!("{{\"text\":{}", serde_json::json!(text));
                about.write(index, &mut json);
                json.push('}');
                Frame::text(json).into()
            }
        })
        .collect();
    Frames::join(enveloped.iter()).expect("there is one at least")
}

/// The notice before a binary message.
pub(super) fn of_binary(about: About<'_>) -> Frame {
    let mut facts = String::new();
    about.write(0, &mut facts);
    let facts = facts.trim_start_matches(',');
    Frame::text(format!("{{\"binary\":{{{facts}}}}}"))
}

/// Finds out why a text is not an envelope.
#[cold]
fn judge(text: &[u8]) -> BadEnvelope {
    // `IgnoredAny` checks the grammar alone, so lone halves of a surrogate pair pass this test.
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return BadEnvelope::NotJson;
    }
    if has_half_pair(text) {
        return BadEnvelope::HalfPair;
    }
    match serde_json::from_slice(text) {
        Ok(Members {
            of_request: 1.., ..
        }) => BadEnvelope::BadRequest,
        Ok(Members { known, unknown, .. }) => match (known, unknown) {
            (_, 1..) => BadEnvelope::UnknownMember,
            (0, 0) => BadEnvelope::Empty,
            (1, 0) => BadEnvelope::NotString,
            (2.., 0) => BadEnvelope::Several,
        },
        Err(_) => BadEnvelope::NotObject,
    }
}

/// Whether a surrogate half without its other half is escaped in this JSON.
fn has_half_pair(json: &[u8]) -> bool {
    let mut rest = json;
    // Backslashes occur in strings only.
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at..];
        let (length, is_half) = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
            (Some(0xD800..=0xDFFF), _) => (6, true),
            (Some(_), _) => (6, false),
            (None, _) => (2, false),
        };
        if is_half {
            return true;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

/// The UTF-16 code unit that an escape at the front stands for; `None` for any other escape.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The number of members of an object.
#[derive(Default)]
struct Members {
    known: usize,
    unknown: usize,
    /// Members that only requests have.
    of_request: usize,
}

/// The name of a member.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    History,
    Id,
    Live,
    Presence,
    Request,
    Text,
    Token,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            match name {
                Name::History | Name::Id | Name::Live | Name::Presence | Name::Request => {
                    members.of_request += 1;
                }
                Name::Text | Name::Token => members.known += 1,
                Name::Other => members.unknown += 1,
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CloseCode, CloseFrame};

    fn read(text: &str) -> Result<String, BadEnvelope> {
        match open(Frame::text(text)) {
            Ok(frame) => match frame.payload() {
                Payload::Text(text) => Ok(text.to_string()),
                Payload::Binary(_) => panic!("{text} is a text"),
            },
            Err(Command::Bad(bad)) => Err(bad),
            Err(Command::Request(_) | Command::Token(_)) => panic!("{text} is a message"),
        }
    }

    #[test]
    fn a_text_is_taken_out_of_its_envelope() {
        for (envelope, text) in [
            (r#"{"text":"hello"}"#, "hello"),
            (" { \"text\" : \"a\\n\\u00e9\" } ", "a\n\u{e9}"),
            (r#"{"text":""}"#, ""),
            (r#"{"text":"\ud83d\ude00"}"#, "\u{1f600}"),
            (r#"{"text":"\ufffd"}"#, "\u{fffd}"),
            (r#"{"text":"\\ud800"}"#, "\\ud800"),
        ] {
            assert_eq!(read(envelope).as_deref(), Ok(text), "{envelope}");
        }
    }

    #[test]
    fn a_token_is_no_message() {
        let decoded = open(Frame::text(r#"{"token":"a.b.c"}"#));
        assert_eq!(decoded, Err(Command::Token(Token::new("a.b.c"))));
    }

    #[test]
    fn each_kind_of_what_is_no_envelope_is_told_apart() {
        use BadEnvelope::{Empty, HalfPair, NotJson, NotObject, NotString, Several, UnknownMember};
        let (deep, unclosed) = ("[".repeat(10_000) + &"]".repeat(10_000), "[".repeat(10_000));
        for (bad, why) in [
            ("hello", NotJson),
            ("", NotJson),
            (r#"{"text":"a"} x"#, NotJson),
            (r#"{"text":"a"#, NotJson),
            (r#"{"text":"\x"}"#, NotJson),
            (r#"{"text":"\ud8"}"#, NotJson),
            ("{\"text\":\"a\nb\"}", NotJson),
            (r#"{'text':'a'}"#, NotJson),
            (&unclosed, NotJson),
            (r#""text""#, NotObject),
            ("[]", NotObject),
            (r#"[{"text":"a"}]"#, NotObject),
            ("17", NotObject),
            ("null", NotObject),
            (&deep, NotObject),
            ("{}", Empty),
            (" { } ", Empty),
            (r#"{"text":1}"#, NotString),
            (r#"{"text":null}"#, NotString),
            (r#"{"text":1e999}"#, NotString),
            (r#"{"token":["a"]}"#, NotString),
            (r#"{"text":{"text":"a"}}"#, NotString),
            (r#"{"text":"a","text":"b"}"#, Several),
            (r#"{"text":"a","token":"b"}"#, Several),
            (r#"{"text":"a","more":1}"#, UnknownMember),
            (r#"{"other":"a"}"#, UnknownMember),
            (r#"{"Text":"a"}"#, UnknownMember),
            (r#"{"text":"\ud800"}"#, HalfPair),
            (r#"{"text":"cut \uD83D"}"#, HalfPair),
            (r#"{"text":"\ude00"}"#, HalfPair),
            (r#"{"text":"\ude00\ud83d"}"#, HalfPair),
            (r#"{"text":"\ud83d\ud83d\ude00"}"#, HalfPair),
            (r#"{"text":"\ud83d\\ude00"}"#, HalfPair),
            (r#"{"text":"\ud83dude00"}"#, HalfPair),
            (r#"{"text":"\\\ud83d"}"#, HalfPair),
            (r#"{"token":"\udfff"}"#, HalfPair),
            (r#"{"\udbff":"a"}"#, HalfPair),
        ] {
            assert_eq!(read(bad), Err(why), "{bad:.40}");
        }
    }

    #[test]
    fn each_reason_is_sent_whole() {
        use BadEnvelope::{Empty, HalfPair, NotJson, NotObject, NotString, Several, UnknownMember};
        for bad in [
            Empty,
            HalfPair,
            NotJson,
            NotObject,
            NotString,
            Several,
            UnknownMember,
        ] {
            let frame = CloseFrame::new(CloseCode::INVALID_PAYLOAD, bad.reason());
            assert_eq!(frame.reason(), bad.reason());
        }
    }
}
