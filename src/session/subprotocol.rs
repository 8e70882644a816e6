//! The subprotocols: messages for one client as they are, or in envelopes or events that tell them
//! from notices.

use serde_json::json;

use super::answer;
use super::envelope::{self, About, Decoded};
use super::events;
use super::replies::Replies;
use crate::bus::{Epoch, Generation, Joined, Position, Subscription, Why};
use crate::limits::Recovery;
use crate::planted::{self, Bug};
use crate::wire::{DataKind, Frame, Frames, Part};

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

/// The session's state for a subprotocol.
#[derive(Debug)]
pub(super) enum Encoder {
    Plain,
    /// Messages in envelopes or events, beside notices; boxed because most clients speak the plain
    /// subprotocol.
    Wrapped(Box<Wrapped>),
}

/// The facts that a client is told beside its messages.
#[derive(Debug)]
pub(super) struct Wrapped {
    wrapping: Wrapping,
    restarts: Restarts,
    /// The first notice: whether the client has recovered, or where it stands.
    greeting: Option<Frame>,
    /// The epoch of the room's history; `None` where clients are told no positions.
    epoch: Option<Epoch>,
    /// The subscription to joins and leaves; `None` for a client that is not told of them.
    notices: Option<Subscription>,
}

/// The form of messages and notices.
#[derive(Debug)]
enum Wrapping {
    /// [`Subprotocol::Json`], with the replies to requests of the client.
    Envelopes(Replies),
    /// [`Subprotocol::Events`].
    Events,
}

/// The instances of its service that a client knows of.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// The newest instance that runs.
    running: Option<Generation>,
    /// The newest instance of which the client has received a notice or a message.
    told: Option<Generation>,
}

/// A notice for a client.
struct Notice {
    /// The kind of the event.
    kind: &'static str,
    json: String,
    /// The position from which a client goes on that has received the notice and nothing after it;
    /// `None` if the notice does not change it.
    at: Option<Position>,
}

impl Encoder {
    pub(super) fn of(subprotocol: Subprotocol) -> Self {
        let wrapping = match subprotocol {
            Subprotocol::Events => Wrapping::Events,
            Subprotocol::Json => Wrapping::Envelopes(Replies::default()),
            Subprotocol::Plain => return Self::Plain,
        };
        Self::Wrapped(Box::new(Wrapped {
            wrapping,
            restarts: Restarts::default(),
            greeting: None,
            epoch: None,
            notices: None,
        }))
    }

    /// The state of a subprotocol with notices.
    fn wrapped(&self) -> Option<&Wrapped> {
        match self {
            Self::Plain => None,
            Self::Wrapped(wrapped) => Some(wrapped),
        }
    }

    fn wrapped_mut(&mut self) -> Option<&mut Wrapped> {
        match self {
            Self::Plain => None,
            Self::Wrapped(wrapped) => Some(wrapped),
        }
    }

    /// Notes that an instance runs.
    pub(super) fn runs(&mut self, generation: Generation) {
        if let Some(wrapped) = self.wrapped_mut() {
            wrapped.restarts.running = Some(generation);
        }
    }

    /// The messages in this subprotocol; an encoding is made once and shared by all receivers.
    #[inline]
    pub(super) fn encoded(&self, frames: &Frames) -> Frames {
        match self {
            Self::Plain => frames.clone(),
            Self::Wrapped(wrapped) => wrapped.encoded(frames),
        }
    }

    /// The messages in this subprotocol, with more than their texts: their sender if envelopes say
    /// it, and the offset of the first of them if a history has it.
    pub(super) fn encoded_with(&self, frames: &Frames, about: About<'_>) -> Frames {
        match self {
            Self::Plain => frames.clone(),
            Self::Wrapped(wrapped) => wrapped.encoded_with(frames, about),
        }
    }

    /// The notice before a binary message, which has no envelope for what is said about it.
    pub(super) fn before_binary(&self, about: About<'_>) -> Option<Frame> {
        match self.wrapped()?.wrapping {
            Wrapping::Envelopes(_) if !about.is_empty() => Some(envelope::of_binary(about)),
            Wrapping::Envelopes(_) | Wrapping::Events => None,
        }
    }

    /// Sets the first notice and the epoch of the room's history.
    pub(super) fn greet(&mut self, joined: Joined, recovery: Recovery) {
        if let Some(wrapped) = self.wrapped_mut()
            && let Some((position, notice)) = greeting(joined)
            && recovery != Recovery::Off
        {
            wrapped.epoch = Some(position.epoch);
            wrapped.greeting = Some(wrapped.frame(&notice));
        }
    }

    /// Tells the client of joins and leaves from this subscription.
    pub(super) fn follow(&mut self, notices: Option<Subscription>) {
        if let Some(wrapped) = self.wrapped_mut() {
            wrapped.notices = notices;
        }
    }

    /// Takes the subscription to joins and leaves.
    pub(super) fn take_notices(&mut self) -> Option<Subscription> {
        self.wrapped_mut()?.notices.take()
    }

    /// The subscription to joins and leaves, if the client is told of them.
    pub(super) fn notices(&self) -> Option<&Subscription> {
        self.wrapped()?.notices.as_ref()
    }

    /// The subscription to joins and leaves, if the client is told of them.
    pub(super) fn notices_mut(&mut self) -> Option<&mut Subscription> {
        self.wrapped_mut()?.notices.as_mut()
    }

    /// The notices of joins and leaves in this subprotocol.
    pub(super) fn noticed(&self, frames: &Frames) -> Frames {
        match self.wrapped().map(|wrapped| &wrapped.wrapping) {
            Some(Wrapping::Events) => events::of_presence(frames),
            Some(Wrapping::Envelopes(_)) | None => frames.clone(),
        }
    }

    /// The notice that `missed` notices of joins and leaves are missing.
    pub(super) fn notices_lagged(&self, missed: u64) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        let notice = || Notice {
            kind: "presence",
            json: format!("{{\"presence\":{{\"lagged\":{missed}}}}}"),
            at: None,
        };
        (missed > 0).then(|| wrapped.frame(&notice()))
    }

    /// The replies to requests; `None` in a subprotocol without requests.
    pub(super) fn replies(&mut self) -> Option<&mut Replies> {
        match &mut self.wrapped_mut()?.wrapping {
            Wrapping::Envelopes(replies) => Some(replies),
            Wrapping::Events => None,
        }
    }

    /// The first notice, once.
    pub(super) fn greeting(&mut self) -> Option<Frame> {
        self.wrapped_mut()?.greeting.take()
    }

    /// The notice that the position has risen to `offset` without a message for this client.
    pub(super) fn passed_over(&self, offset: u64) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        let epoch = wrapped.epoch?;
        let position = Position { epoch, offset };
        Some(wrapped.frame(&present(position, position)))
    }

    /// The notice about `lost` messages, sent before the first message after them.
    pub(super) fn lagged(&self, lost: u64) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        let lost = planted::none(Bug::LossNotTold, lost);
        let notice = || Notice {
            kind: "lagged",
            json: format!("{{\"lagged\":{lost}}}"),
            at: None,
        };
        (lost > 0).then(|| wrapped.frame(&notice()))
    }

    /// The notice sent before the first message of a new instance.
    pub(super) fn before(&mut self, generation: Generation) -> Option<Frame> {
        self.wrapped_mut()?.before(generation)
    }

    /// The subprotocol.
    pub(super) fn subprotocol(&self) -> Subprotocol {
        match self.wrapped().map(|wrapped| &wrapped.wrapping) {
            None => Subprotocol::Plain,
            Some(Wrapping::Envelopes(_)) => Subprotocol::Json,
            Some(Wrapping::Events) => Subprotocol::Events,
        }
    }

    /// The notice of a new instance, sent once no message of an older one is left.
    pub(super) fn at_rest(&mut self) -> Option<Frame> {
        let wrapped = self.wrapped_mut()?;
        let running = wrapped.restarts.running?;
        wrapped.before(running)
    }
}

impl Wrapped {
    /// The messages in their wrapping, made once and shared by all receivers.
    fn encoded(&self, frames: &Frames) -> Frames {
        let is_text = |part: Part<'_>| part.kind == DataKind::Text;
        match self.wrapping {
            Wrapping::Envelopes(_) if frames.parts().any(is_text) => {
                frames.enveloped(envelope::envelop)
            }
            Wrapping::Envelopes(_) => frames.clone(),
            Wrapping::Events => frames.events(events::encode),
        }
    }

    /// The messages in their wrapping, with facts about them: an event has its position as its id,
    /// and does not say who sent its message.
    fn encoded_with(&self, frames: &Frames, about: About<'_>) -> Frames {
        match (&self.wrapping, self.epoch, about.offset) {
            (Wrapping::Envelopes(_), _, _) => envelope::envelop_with(frames, about),
            (Wrapping::Events, Some(epoch), Some(offset)) => {
                events::encode_at(frames, Position { epoch, offset })
            }
            (Wrapping::Events, None, _) | (Wrapping::Events, _, None) => self.encoded(frames),
        }
    }

    /// A notice in its wrapping.
    fn frame(&self, notice: &Notice) -> Frame {
        match self.wrapping {
            Wrapping::Envelopes(_) => Frame::text(&notice.json),
            Wrapping::Events => events::notice(notice.kind, &notice.json, notice.at),
        }
    }

    /// The notice of an instance that is new for the client.
    fn before(&mut self, generation: Generation) -> Option<Frame> {
        let notice = || Notice {
            kind: "service",
            json: format!("{{\"service\":\"restarted\",\"generation\":{generation}}}"),
            at: None,
        };
        let is_new = self.restarts.tell(generation);
        is_new.then(|| self.frame(&notice()))
    }
}

/// The notice at the beginning, and the present position; `None` without a history.
///
/// Messages up to the present position may follow the notice: a client that goes on from the notice
/// has to get them again.
fn greeting(joined: Joined) -> Option<(Position, Notice)> {
    let before = |position: Position, messages: u64| {
        let offset = position.offset.saturating_sub(messages);
        Position { offset, ..position }
    };
    let (position, notice) = match joined {
        Joined::Unrecorded => return None,
        Joined::Present { position, messages } => {
            let at = before(position, messages);
            (position, present(position, at))
        }
        Joined::Recovered { position, messages } => {
            let at = before(position, messages);
            (position, recovered(position, None, at))
        }
        Joined::NotRecovered { why, position } => {
            (position, recovered(position, Some(why), position))
        }
    };
    Some((position, notice))
}

/// The notice about a position.
fn present(position: Position, at: Position) -> Notice {
    Notice {
        kind: "position",
        json: json!({ "position": answer::at(position) }).to_string(),
        at: Some(at),
    }
}

/// The notice whether a client has recovered.
fn recovered(position: Position, why: Option<Why>, at: Position) -> Notice {
    let mut json = answer::at(position);
    json["recovered"] = why.is_none().into();
    if let Some(why) = why {
        json["why"] = why.name().into();
    }
    Notice {
        kind: "recovered",
        json: json.to_string(),
        at: Some(at),
    }
}

impl Restarts {
    /// Notes that the client is told of an instance; returns whether it knew an older one.
    fn tell(&mut self, generation: Generation) -> bool {
        let told = self
            .told
            .replace(self.told.map_or(generation, |told| told.max(generation)));
        told.is_some_and(|told| told < generation) || planted::is(Bug::RestartToldAgain)
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

    fn events(joined: Joined, recovery: Recovery) -> Encoder {
        let mut encoder = Encoder::of(Subprotocol::Events);
        encoder.greet(joined, recovery);
        encoder
    }

    fn said(frame: Option<Frame>) -> String {
        let frame = frame.expect("it is told");
        String::from_utf8(frame.payload_bytes().to_vec()).expect("an event is text")
    }

    fn at(offset: u64) -> Position {
        let epoch = Epoch::from_bits(0xff);
        Position { epoch, offset }
    }

    #[test]
    fn the_first_event_has_the_id_from_which_nothing_is_missed_and_nothing_repeated() {
        let (position, why) = (at(9), Why::Evicted);
        for (joined, kind, id) in [
            (
                Joined::Present {
                    position,
                    messages: 0,
                },
                "position",
                9,
            ),
            (
                Joined::Present {
                    position,
                    messages: 3,
                },
                "position",
                6,
            ),
            (
                Joined::Recovered {
                    position,
                    messages: 2,
                },
                "recovered",
                7,
            ),
            (Joined::NotRecovered { why, position }, "recovered", 9),
        ] {
            let first = said(events(joined, Recovery::Asked).greeting());
            let head = format!("id: 00000000000000ff:{id}\nevent: {kind}\ndata: {{");
            assert!(first.starts_with(&head), "{joined:?}: {first}");
            let mut json = Encoder::of(Subprotocol::Json);
            json.greet(joined, Recovery::Asked);
            let data = format!("data: {}\n\n", said(json.greeting()));
            assert!(first.ends_with(&data), "{joined:?}: {first}");
        }
    }

    #[test]
    fn events_tell_no_position_where_nobody_recovers_and_no_history_is() {
        let frames = Frames::from(Frame::text("a"));
        let about = About {
            from: None,
            offset: Some(7),
        };
        let present = Joined::Present {
            position: at(9),
            messages: 0,
        };
        for (joined, recovery) in [
            (present, Recovery::Off),
            (Joined::Unrecorded, Recovery::Asked),
        ] {
            let mut encoder = events(joined, recovery);
            assert_eq!(encoder.greeting(), None);
            assert_eq!(encoder.passed_over(8), None);
            assert_eq!(
                encoder.encoded_with(&frames, about),
                encoder.encoded(&frames)
            );
        }
        let with_ids = events(present, Recovery::Asked);
        let encoded = with_ids.encoded_with(&frames, about);
        let text = said(encoded.iter().next());
        assert_eq!(text, "id: 00000000000000ff:7\ndata: a\n\n");
        assert!(said(with_ids.passed_over(8)).starts_with("id: 00000000000000ff:8\nevent: "));
    }

    #[test]
    fn an_event_is_made_once_for_all_receivers_and_beside_the_envelope() {
        let frames = Frames::from(Frame::text("x".repeat(2_000)));
        let at = |frames: &Frames| frames.as_bytes().as_ptr();
        let (events, json) = (Subprotocol::Events, Subprotocol::Json);
        let encoded = |subprotocol| Encoder::of(subprotocol).encoded(&frames);
        let mut pinned = frames.pinned_bytes();
        for subprotocol in [events, json] {
            let form = encoded(subprotocol);
            assert_eq!(at(&form), at(&encoded(subprotocol)), "{subprotocol:?}");
            pinned += form.pinned_bytes();
            assert!(frames.pinned_bytes() >= pinned, "its memory counts");
        }
        assert_ne!(at(&encoded(events)), at(&encoded(json)));
    }

    #[test]
    fn losses_and_restarts_are_events() {
        let mut encoder = Encoder::of(Subprotocol::Events);
        assert_eq!(
            said(encoder.lagged(3)),
            "event: lagged\ndata: {\"lagged\":3}\n\n"
        );
        assert_eq!(encoder.lagged(0), None);
        assert_eq!(encoder.before(Generation::new(1)), None);
        let restart = said(encoder.before(Generation::new(2)));
        let data = r#"{"service":"restarted","generation":2}"#;
        assert_eq!(restart, format!("event: service\ndata: {data}\n\n"));
    }
}
