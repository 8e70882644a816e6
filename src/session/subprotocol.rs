//! The subprotocols, and how each is read: messages as they are, or in envelopes that tell them
//! from commands.

use super::envelope::{self, Decoded};
use crate::wire::Frames;

/// The format of messages between a client and its session, as the client has requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subprotocol {
    /// Server-sent events: each message and each notice is an event, and the client sends nothing.
    /// No handshake of a WebSocket selects it. See `docs/sse.md`.
    Events,
    /// `busline.v1.json`: texts are JSON, `{"text":"..."}` in both directions, and the session
    /// sends notices; binary messages are sent as they are. See `docs/subprotocol.md`.
    Json,
    /// `busline.v1.plain`, or no subprotocol at all: messages are sent as they are, without
    /// notices.
    #[default]
    Plain,
}

/// The notice that a fresh token was accepted.
pub(super) const RENEWED: &str = "{\"token\":\"accepted\"}";

/// The notice that no decision about a fresh token is possible now.
pub(super) const UNDECIDED: &str = "{\"token\":\"try again\"}";

impl Subprotocol {
    /// The subprotocol's name in the handshake; for events the media type of their stream.
    ///
    /// A client that requests no subprotocol speaks [`Subprotocol::Plain`]. The plain subprotocol
    /// has a name for browsers that pass a token as a subprotocol: a browser closes the connection
    /// unless the server selects a name of the browser's list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Json => "busline.v1.json",
            Self::Plain => "busline.v1.plain",
        }
    }

    /// The subprotocol with exactly this name that a handshake may select: names of subprotocols
    /// are case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Json, Self::Plain];
        all.into_iter()
            .find(|subprotocol| subprotocol.name() == name)
    }

    /// Whether the client can be told its position in a history.
    pub(super) fn tells_positions(self) -> bool {
        match self {
            Self::Events | Self::Json => true,
            Self::Plain => false,
        }
    }

    /// Reads the client's messages, up to the first command for the session.
    #[inline]
    pub(super) fn read(self, frames: Frames) -> Decoded {
        match self {
            Self::Events | Self::Plain => Decoded {
                messages: Some(frames),
                command: None,
                rest: None,
            },
            Self::Json => envelope::open_all(frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::identity::Token;
    use crate::session::envelope::{BadEnvelope, Command};
    use crate::wire::Frame;

    #[test]
    fn a_subprotocol_has_the_name_that_is_documented() {
        for (subprotocol, name) in [
            (Subprotocol::Json, "busline.v1.json"),
            (Subprotocol::Plain, "busline.v1.plain"),
        ] {
            assert_eq!(subprotocol.name(), name);
            assert_eq!(Subprotocol::named(name), Some(subprotocol));
            let other = [name.to_uppercase(), format!("{name} "), format!("{name}x")];
            for name in other.iter().map(String::as_str).chain(["", "plain"]) {
                assert_eq!(Subprotocol::named(name), None, "{name:?}");
            }
        }
    }

    /// The result of reading these texts.
    fn read_all(subprotocol: Subprotocol, texts: &[&str]) -> Decoded {
        let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
        subprotocol.read(Frames::join(each.iter()).expect("one at least"))
    }

    fn decoded(texts: &[&str]) -> Option<Frames> {
        let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
        Frames::join(each.iter())
    }

    #[test]
    fn messages_are_read_up_to_the_first_that_is_for_the_session() {
        let (a, b) = (r#"{"text":"a"}"#, r#"{"text":"b"}"#);
        let token = || Some(Command::Token(Token::new("x")));
        for (texts, messages, command, rest) in [
            (&[a, b][..], &["a", "b"][..], None, &[][..]),
            (&[r#"{"token":"x"}"#, a], &[], token(), &[a]),
            (&[a, r#"{"token":"x"}"#, b, a], &["a"], token(), &[b, a]),
            (
                &[a, b, "bad"],
                &["a", "b"],
                Some(Command::Bad(BadEnvelope::NotJson)),
                &[],
            ),
        ] {
            let expected = Decoded {
                messages: decoded(messages),
                command,
                rest: decoded(rest),
            };
            assert_eq!(read_all(Subprotocol::Json, texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn a_plain_text_is_a_message_whatever_it_says() {
        for plain in ["{\"text\":1}", "{\"token\":\"a\"}"] {
            let expected = Decoded {
                messages: decoded(&[plain]),
                command: None,
                rest: None,
            };
            assert_eq!(read_all(Subprotocol::Plain, &[plain]), expected);
        }
    }
}
