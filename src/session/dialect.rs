//! How messages are written for one client: as they are, or told apart from notices about them.

use super::envelope::{self, BadEnvelope};
use crate::bus::Generation;
use crate::client::identity::Token;
use crate::planted::{self, Bug};
use crate::wire::{DataKind, Frame, Frames, Part};

/// What a client and its session speak, as the client has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `busline.v1.json`: texts are JSON, `{"text":"..."}` in both directions, and there are
    /// notices; binary messages are as they are. See `docs/subprotocol.md`.
    Json,
    /// `busline.v1.plain`, or no name at all: messages as they are, and nothing else.
    #[default]
    Plain,
}

/// The messages of a client, up to the first that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Messages for its service.
    pub(super) messages: Option<Frames>,
    /// What follows them for the session itself.
    pub(super) command: Option<Command>,
    /// What follows that, unread.
    pub(super) rest: Option<Frames>,
}

/// What a client tells its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A fresh token.
    Token(Token),
    /// A text that is not of the dialect.
    Bad(BadEnvelope),
}

/// What a client is told whose fresh token is good.
pub(super) const RENEWED: &str = "{\"token\":\"accepted\"}";

/// What a client is told whose fresh token nobody can judge now.
pub(super) const UNDECIDED: &str = "{\"token\":\"try again\"}";

impl Dialect {
    /// The name it has as a WebSocket subprotocol.
    ///
    /// A client that names none speaks the plain one. Its name is for browsers that show a token as
    /// a subprotocol: they close the connection unless a name of their list is selected.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "busline.v1.json",
            Self::Plain => "busline.v1.plain",
        }
    }

    /// The dialect of exactly this name: names of subprotocols are case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Json, Self::Plain];
        all.into_iter().find(|dialect| dialect.name() == name)
    }

    /// Reads the client's messages, up to the first that is for the session.
    #[inline]
    pub(super) fn read(self, frames: Frames) -> Heard {
        match self {
            Self::Plain => Heard {
                messages: Some(frames),
                command: None,
                rest: None,
            },
            Self::Json => envelope::open_all(frames),
        }
    }
}

/// The session's side of a dialect.
#[derive(Debug)]
pub(super) enum Voice {
    /// Boxed because most clients speak the plain one.
    Json(Box<Restarts>),
    Plain,
}

/// Which instances of its service a client knows of.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// The newest that runs.
    running: Option<Generation>,
    /// The newest it was told of, or has heard a message of.
    told: Option<Generation>,
}

impl Voice {
    pub(super) fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Json => Self::Json(Box::default()),
            Dialect::Plain => Self::Plain,
        }
    }

    /// An instance runs.
    pub(super) fn runs(&mut self, generation: Generation) {
        if let Self::Json(restarts) = self {
            restarts.running = Some(generation);
        }
    }

    /// The messages as this dialect has them; they are encoded once for all receivers.
    #[inline]
    pub(super) fn encoded(&self, frames: &Frames) -> Frames {
        let is_text = |part: Part<'_>| part.kind == DataKind::Text;
        match self {
            Self::Json(_) if frames.parts().any(is_text) => frames.enveloped(envelope::envelop),
            Self::Json(_) | Self::Plain => frames.clone(),
        }
    }

    /// What is said of messages that were lost, before the first that was not.
    pub(super) fn lagged(&self, lost: u64) -> Option<Frame> {
        let lost = planted::none(Bug::LossNotTold, lost);
        match self {
            Self::Json(_) if lost > 0 => Some(Frame::text(format!("{{\"lagged\":{lost}}}"))),
            Self::Json(_) | Self::Plain => None,
        }
    }

    /// What is said before the first message of a new instance.
    pub(super) fn before(&mut self, generation: Generation) -> Option<Frame> {
        match self {
            Self::Json(restarts) => restarts.tell(generation),
            Self::Plain => None,
        }
    }

    /// What it speaks.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Json(_) => Dialect::Json,
            Self::Plain => Dialect::Plain,
        }
    }

    /// What is said of a new instance once no message of an older one is left.
    pub(super) fn at_rest(&mut self) -> Option<Frame> {
        match self {
            Self::Json(restarts) => restarts.running.and_then(|running| restarts.tell(running)),
            Self::Plain => None,
        }
    }
}

impl Restarts {
    fn tell(&mut self, generation: Generation) -> Option<Frame> {
        let told = self
            .told
            .replace(self.told.map_or(generation, |told| told.max(generation)));
        let restarted =
            told.is_some_and(|told| told < generation) || planted::is(Bug::RestartToldAgain);
        restarted.then(|| {
            let notice = format!("{{\"service\":\"restarted\",\"generation\":{generation}}}");
            Frame::text(notice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_has_the_name_that_is_documented() {
        for (dialect, name) in [
            (Dialect::Json, "busline.v1.json"),
            (Dialect::Plain, "busline.v1.plain"),
        ] {
            assert_eq!(dialect.name(), name);
            assert_eq!(Dialect::named(name), Some(dialect));
            let other = [name.to_uppercase(), format!("{name} "), format!("{name}x")];
            for name in other.iter().map(String::as_str).chain(["", "plain"]) {
                assert_eq!(Dialect::named(name), None, "{name:?}");
            }
        }
    }

    /// What comes of these texts.
    fn read_all(dialect: Dialect, texts: &[&str]) -> Heard {
        let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
        dialect.read(Frames::join(each.iter()).expect("one at least"))
    }

    fn heard(texts: &[&str]) -> Option<Frames> {
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
            let expected = Heard {
                messages: heard(messages),
                command,
                rest: heard(rest),
            };
            assert_eq!(read_all(Dialect::Json, texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let texts = [
            "",
            "plain",
            "\"quoted\" \\ \n \u{0} \u{7f} \u{1f600}",
            "{\"lagged\":3}",
        ];
        let plain = heard(&texts).expect("some");
        let enveloped = Voice::of(Dialect::Json).encoded(&plain);
        assert_ne!(enveloped, plain);
        assert_eq!(Dialect::Json.read(enveloped).messages, Some(plain.clone()));
        assert_eq!(Voice::Plain.encoded(&plain), plain);
    }

    #[test]
    fn bytes_and_plain_texts_are_as_they_are() {
        let bytes = Frames::from(Frame::binary([1, 2, 3]));
        assert_eq!(Voice::of(Dialect::Json).encoded(&bytes), bytes);
        assert_eq!(
            Dialect::Json.read(bytes.clone()).messages,
            Some(bytes.clone())
        );
        let text = Frames::from(Frame::text("a"));
        let both = Frames::join([&bytes, &text].into_iter()).expect("two");
        let enveloped: Vec<_> = Voice::of(Dialect::Json).encoded(&both).iter().collect();
        assert_eq!(
            enveloped,
            [Frame::binary([1, 2, 3]), Frame::text(r#"{"text":"a"}"#)]
        );
        for plain in ["{\"text\":1}", "{\"token\":\"a\"}"] {
            let expected = Heard {
                messages: heard(&[plain]),
                command: None,
                rest: None,
            };
            assert_eq!(read_all(Dialect::Plain, &[plain]), expected);
        }
    }

    #[test]
    fn an_envelope_is_made_once_for_all_receivers() {
        let frames = Frames::from(Frame::text("hello"));
        let at = |frames: Frames| frames.as_bytes().as_ptr();
        let voice = Voice::of(Dialect::Json);
        assert_eq!(at(voice.encoded(&frames)), at(voice.encoded(&frames)));
    }

    #[test]
    fn a_restart_is_told_once_and_the_first_start_never() {
        let mut voice = Voice::of(Dialect::Json);
        assert_eq!(voice.at_rest(), None, "nothing runs yet");
        voice.runs(Generation::new(3));
        assert_eq!(voice.at_rest(), None);
        assert_eq!(voice.before(Generation::new(3)), None);
        voice.runs(Generation::new(4));
        assert_eq!(
            voice.before(Generation::new(3)),
            None,
            "a message of the old one is left"
        );
        let notice = Frame::text(r#"{"service":"restarted","generation":4}"#);
        assert_eq!(voice.before(Generation::new(4)), Some(notice));
        assert_eq!(voice.at_rest(), None);
        voice.runs(Generation::new(5));
        let notice = Frame::text(r#"{"service":"restarted","generation":5}"#);
        assert_eq!(voice.at_rest(), Some(notice));
        assert_eq!(voice.at_rest(), None);
    }
}
