//! The subprotocols: messages for one client as they are, or in envelopes that tell them from
//! notices.

use super::answer;
use super::envelope::{self, About, Decoded};
use super::replies::Replies;
use crate::bus::{Epoch, Generation, Joined, Position, Subscription, Why};
use crate::limits::Recovery;
use crate::planted::{self, Bug};
use crate::wire::{DataKind, Frame, Frames, Part};

/// The format of messages between a client and its session, as the client has requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subprotocol {
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
    /// The subprotocol's name in the handshake.
    ///
    /// A client that requests no subprotocol speaks [`Subprotocol::Plain`]. The plain subprotocol
    /// has a name for browsers that pass a token as a subprotocol: a browser closes the connection
    /// unless the server selects a name of the browser's list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "busline.v1.json",
            Self::Plain => "busline.v1.plain",
        }
    }

    /// The subprotocol with exactly this name: names of subprotocols are case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Json, Self::Plain];
        all.into_iter()
            .find(|subprotocol| subprotocol.name() == name)
    }

    /// Reads the client's messages, up to the first command for the session.
    #[inline]
    pub(super) fn read(self, frames: Frames) -> Decoded {
        match self {
            Self::Plain => Decoded {
                messages: Some(frames),
                command: None,
                rest: None,
            },
            Self::Json => envelope::open_all(frames),
        }
    }
}

/// The session's state for a subprotocol.
#[derive(Debug)]
pub(super) enum Encoder {
    /// Boxed because most clients speak the plain subprotocol.
    Json(Box<Json>),
    Plain,
}

/// The facts that a client of [`Subprotocol::Json`] is told beside its messages.
#[derive(Debug, Default)]
pub(super) struct Json {
    restarts: Restarts,
    /// The first notice: whether the client has recovered, or where it stands.
    greeting: Option<Frame>,
    /// The epoch of the room's history; `None` where clients are told no positions.
    epoch: Option<Epoch>,
    /// Replies to requests of the client.
    replies: Replies,
    /// The subscription to joins and leaves; `None` for a client that is not told of them.
    notices: Option<Subscription>,
}

/// The instances of its service that a client knows of.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// The newest instance that runs.
    running: Option<Generation>,
    /// The newest instance of which the client has received a notice or a message.
    told: Option<Generation>,
}

impl Encoder {
    pub(super) fn of(subprotocol: Subprotocol) -> Self {
        match subprotocol {
            Subprotocol::Json => Self::Json(Box::default()),
            Subprotocol::Plain => Self::Plain,
        }
    }

    /// Notes that an instance runs.
    pub(super) fn runs(&mut self, generation: Generation) {
        if let Self::Json(json) = self {
            json.restarts.running = Some(generation);
        }
    }

    /// The messages in this subprotocol; an encoding is made once and shared by all receivers.
    #[inline]
    pub(super) fn encoded(&self, frames: &Frames) -> Frames {
        let is_text = |part: Part<'_>| part.kind == DataKind::Text;
        match self {
            Self::Json(_) if frames.parts().any(is_text) => frames.enveloped(envelope::envelop),
            Self::Json(_) | Self::Plain => frames.clone(),
        }
    }

    /// The messages in this subprotocol, with more than their texts: their sender if envelopes say
    /// it, and the offset of the first of them if a history has it.
    pub(super) fn encoded_with(&self, frames: &Frames, about: About<'_>) -> Frames {
        match self {
            Self::Json(_) => envelope::envelop_with(frames, about),
            Self::Plain => frames.clone(),
        }
    }

    /// The notice before a binary message, which has no envelope for what is said about it.
    pub(super) fn before_binary(&self, about: About<'_>) -> Option<Frame> {
        match self {
            Self::Json(_) if !about.is_empty() => Some(envelope::of_binary(about)),
            Self::Json(_) | Self::Plain => None,
        }
    }

    /// Sets the first notice and the epoch of the room's history.
    pub(super) fn greet(&mut self, joined: Joined, recovery: Recovery) {
        let Self::Json(json) = self else {
            return;
        };
        let (position, notice) = match joined {
            Joined::Unrecorded => return,
            Joined::Present(position) => (
                position,
                serde_json::json!({ "position": answer::at(position) }),
            ),
            Joined::Recovered { position, .. } => (position, recovered(position, None)),
            Joined::NotRecovered { why, position } => (position, recovered(position, Some(why))),
        };
        let is_told = recovery != Recovery::Off;
        json.epoch = is_told.then_some(position.epoch);
        json.greeting = is_told.then(|| Frame::text(notice.to_string()));
    }

    /// Tells the client of joins and leaves from this subscription.
    pub(super) fn follow(&mut self, notices: Option<Subscription>) {
        if let Self::Json(json) = self {
            json.notices = notices;
        }
    }

    /// Takes the subscription to joins and leaves.
    pub(super) fn take_notices(&mut self) -> Option<Subscription> {
        match self {
            Self::Json(json) => json.notices.take(),
            Self::Plain => None,
        }
    }

    /// The subscription to joins and leaves, if the client is told of them.
    pub(super) fn notices(&self) -> Option<&Subscription> {
        match self {
            Self::Json(json) => json.notices.as_ref(),
            Self::Plain => None,
        }
    }

    /// The subscription to joins and leaves, if the client is told of them.
    pub(super) fn notices_mut(&mut self) -> Option<&mut Subscription> {
        match self {
            Self::Json(json) => json.notices.as_mut(),
            Self::Plain => None,
        }
    }

    /// The replies to requests; `None` in a subprotocol without requests.
    pub(super) fn replies(&mut self) -> Option<&mut Replies> {
        match self {
            Self::Json(json) => Some(&mut json.replies),
            Self::Plain => None,
        }
    }

    /// The first notice, once.
    pub(super) fn greeting(&mut self) -> Option<Frame> {
        match self {
            Self::Json(json) => json.greeting.take(),
            Self::Plain => None,
        }
    }

    /// The notice that the position has risen to `offset` without a message for this client.
    pub(super) fn passed_over(&self, offset: u64) -> Option<Frame> {
        let Self::Json(json) = self else {
            return None;
        };
        let epoch = json.epoch?;
        let position = answer::at(Position { epoch, offset });
        Some(Frame::text(
            serde_json::json!({ "position": position }).to_string(),
        ))
    }

    /// The notice about `lost` messages, sent before the first message after them.
    pub(super) fn lagged(&self, lost: u64) -> Option<Frame> {
        let lost = planted::none(Bug::LossNotTold, lost);
        match self {
            Self::Json(_) if lost > 0 => Some(Frame::text(format!("{{\"lagged\":{lost}}}"))),
            Self::Json(_) | Self::Plain => None,
        }
    }

    /// The notice sent before the first message of a new instance.
    pub(super) fn before(&mut self, generation: Generation) -> Option<Frame> {
        match self {
            Self::Json(json) => json.restarts.tell(generation),
            Self::Plain => None,
        }
    }

    /// The subprotocol.
    pub(super) fn subprotocol(&self) -> Subprotocol {
        match self {
            Self::Json(_) => Subprotocol::Json,
            Self::Plain => Subprotocol::Plain,
        }
    }

    /// The notice of a new instance, sent once no message of an older one is left.
    pub(super) fn at_rest(&mut self) -> Option<Frame> {
        match self {
            Self::Json(json) => {
                let restarts = &mut json.restarts;
                restarts.running.and_then(|running| restarts.tell(running))
            }
            Self::Plain => None,
        }
    }
}

/// The notice whether a client has recovered.
fn recovered(position: Position, why: Option<Why>) -> serde_json::Value {
    let mut notice = answer::at(position);
    notice["recovered"] = why.is_none().into();
    if let Some(why) = why {
        notice["why"] = why.name().into();
    }
    notice
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
    use crate::client::identity::Token;
    use crate::session::envelope::{BadEnvelope, Command};

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
    fn what_is_written_can_be_read() {
        let texts = [
            "",
            "plain",
            "\"quoted\" \\ \n \u{0} \u{7f} \u{1f600}",
            "{\"lagged\":3}",
        ];
        let plain = decoded(&texts).expect("some");
        let enveloped = Encoder::of(Subprotocol::Json).encoded(&plain);
        assert_ne!(enveloped, plain);
        assert_eq!(
            Subprotocol::Json.read(enveloped).messages,
            Some(plain.clone())
        );
        assert_eq!(Encoder::Plain.encoded(&plain), plain);
    }

    #[test]
    fn bytes_and_plain_texts_are_as_they_are() {
        let bytes = Frames::from(Frame::binary([1, 2, 3]));
        assert_eq!(Encoder::of(Subprotocol::Json).encoded(&bytes), bytes);
        assert_eq!(
            Subprotocol::Json.read(bytes.clone()).messages,
            Some(bytes.clone())
        );
        let text = Frames::from(Frame::text("a"));
        let both = Frames::join([&bytes, &text].into_iter()).expect("two");
        let enveloped: Vec<_> = Encoder::of(Subprotocol::Json)
            .encoded(&both)
            .iter()
            .collect();
        assert_eq!(
            enveloped,
            [Frame::binary([1, 2, 3]), Frame::text(r#"{"text":"a"}"#)]
        );
        for plain in ["{\"text\":1}", "{\"token\":\"a\"}"] {
            let expected = Decoded {
                messages: decoded(&[plain]),
                command: None,
                rest: None,
            };
            assert_eq!(read_all(Subprotocol::Plain, &[plain]), expected);
        }
    }

    #[test]
    fn an_envelope_is_made_once_for_all_receivers() {
        let frames = Frames::from(Frame::text("hello"));
        let at = |frames: Frames| frames.as_bytes().as_ptr();
        let encoder = Encoder::of(Subprotocol::Json);
        assert_eq!(at(encoder.encoded(&frames)), at(encoder.encoded(&frames)));
    }

    #[test]
    fn a_restart_is_told_once_and_the_first_start_never() {
        let mut encoder = Encoder::of(Subprotocol::Json);
        assert_eq!(encoder.at_rest(), None, "nothing runs yet");
        encoder.runs(Generation::new(3));
        assert_eq!(encoder.at_rest(), None);
        assert_eq!(encoder.before(Generation::new(3)), None);
        encoder.runs(Generation::new(4));
        assert_eq!(
            encoder.before(Generation::new(3)),
            None,
            "a message of the old one is left"
        );
        let notice = Frame::text(r#"{"service":"restarted","generation":4}"#);
        assert_eq!(encoder.before(Generation::new(4)), Some(notice));
        assert_eq!(encoder.at_rest(), None);
        encoder.runs(Generation::new(5));
        let notice = Frame::text(r#"{"service":"restarted","generation":5}"#);
        assert_eq!(encoder.at_rest(), Some(notice));
        assert_eq!(encoder.at_rest(), None);
    }
}
