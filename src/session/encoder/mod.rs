//! Messages and notices for one client, in its subprotocol.

use self::restarts::Restarts;
use crate::bus::{Epoch, Generation, Joined, Position, Subscription};
use crate::limits::Recovery;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::session::envelope::{self, About};
use crate::session::events;
use crate::session::notice::{self, Notice};
use crate::session::replies::Replies;
use crate::session::subprotocol::Subprotocol;
use crate::wire::{DataKind, Encodings, Form, Frame, Frames, Part};

mod restarts;

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
    pub(super) fn encoded_with(
        &self,
        frames: &Frames,
        about: About<'_>,
        encodings: &Encodings,
    ) -> Frames {
        match self {
            Self::Plain => frames.clone(),
            Self::Wrapped(wrapped) => wrapped.encoded_with(frames, about, encodings),
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
            && let Some((position, notice)) = notice::greeting(joined)
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
            Some(Wrapping::Events) => frames.events(events::of_presence),
            Some(Wrapping::Envelopes(_)) | None => frames.clone(),
        }
    }

    /// The notice that `missed` notices of joins and leaves are missing.
    pub(super) fn notices_lagged(&self, missed: u64) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        (missed > 0).then(|| wrapped.frame(&Notice::presence_lagged(missed)))
    }

    /// The replies to requests; `None` in a subprotocol without requests.
    pub(super) fn replies(&mut self) -> Option<&mut Replies> {
        match &mut self.wrapped_mut()?.wrapping {
            Wrapping::Envelopes(replies) => Some(replies),
            Wrapping::Events => None,
        }
    }

    /// Whether so many replies wait for the client that no further request is to be read.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        match self.wrapped().map(|wrapped| &wrapped.wrapping) {
            Some(Wrapping::Envelopes(replies)) => replies.is_full(),
            Some(Wrapping::Events) | None => false,
        }
    }

    /// The next time at which a request to the service has waited long enough.
    pub(super) fn answered_by(&self) -> Option<Instant> {
        match &self.wrapped()?.wrapping {
            Wrapping::Envelopes(replies) => replies.deadline(),
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
        Some(wrapped.frame(&notice::present(position, position)))
    }

    /// The end of the stream with these data, at this offset; `None` in the plain subprotocol, in
    /// which the close says all.
    pub(super) fn end(&self, data: &Frames, offset: Option<u64>) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        let data = data.parts().next()?.payload;
        let data = str::from_utf8(data).ok()?;
        let position = wrapped.epoch.zip(offset);
        let position = position.map(|(epoch, offset)| Position { epoch, offset });
        Some(match wrapped.wrapping {
            Wrapping::Envelopes(_) => Frame::text(notice::end(data, offset)),
            Wrapping::Events => events::notice("end", data, position),
        })
    }

    /// The notice about `lost` messages, sent before the first message after them.
    pub(super) fn lagged(&self, lost: u64) -> Option<Frame> {
        let wrapped = self.wrapped()?;
        let lost = planted::none(Bug::LossNotTold, lost);
        (lost > 0).then(|| wrapped.frame(&Notice::lagged(lost)))
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
    fn encoded_with(&self, frames: &Frames, about: About<'_>, encodings: &Encodings) -> Frames {
        match (&self.wrapping, self.epoch, about.offset) {
            (Wrapping::Envelopes(_), _, _) => {
                let envelop = |frames: &Frames| envelope::envelop_with(frames, about);
                encodings.encoded(frames, Form::Envelopes, about.shown(), envelop)
            }
            (Wrapping::Events, Some(epoch), Some(offset)) => {
                let at = Position { epoch, offset };
                let encode = |frames: &Frames| events::encode_at(frames, at);
                encodings.encoded(frames, Form::Events, [epoch.bits(), offset, 0], encode)
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
        let is_new = self.restarts.tell(generation);
        is_new.then(|| self.frame(&Notice::restarted(generation)))
    }
}

#[cfg(test)]
mod tests;
