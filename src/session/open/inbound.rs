//! What an open session does with what its client sends.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Open, lost};
use crate::authorize::Denied;
use crate::bus::{Batch, Message, Offered};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::at_hand::{self, AtHand};
use crate::session::cause::Cause;
use crate::session::dialect::{self, Dialect, Heard};
use crate::session::expiry::Expiry;
use crate::session::inlet::{Inbound, Inlet};
use crate::session::intake::Within;
use crate::session::link::Link;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::wire::{Event, Frame};

/// What one poll takes in, which is counted at its end.
struct Turn {
    /// Events that it may still take.
    left: usize,
    messages: u64,
    bytes: u64,
}

impl Turn {
    #[inline]
    fn take(&mut self, frame: &Frame) {
        self.messages += 1;
        self.bytes += frame.len() as u64;
    }
}

impl<R: Runtime> Open<R> {
    /// Reads until the socket has nothing more, the service takes no more, or it is others' turn.
    pub(super) fn poll_in<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Option<Cause> {
        let mut turn = Turn {
            left: self.admission().limits.inbound_batch.get(),
            messages: 0,
            bytes: 0,
        };
        let cause = self.read(cx, link, &mut turn, now);
        if turn.messages > 0 {
            let metrics = self.admission().app().metrics();
            metrics.messages_in.add(turn.messages);
            metrics.bytes_in.add(turn.bytes);
        }
        cause
    }

    fn read<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        turn: &mut Turn,
        now: Instant,
    ) -> Option<Cause> {
        while turn.left > 0 {
            if link.is_silent() && self.is_idle() {
                return None;
            }
            match self.poll_renewal(cx, now) {
                Poll::Pending => return None,
                Poll::Ready(Some(cause)) => return Some(cause),
                Poll::Ready(None) => {}
            }
            match self.poll_hand_over(cx, now) {
                Poll::Pending => return None,
                Poll::Ready(()) => {}
            }
            // Without one there is nothing to do, and no cause to close.
            let allowance = self.allowance(now)?;
            let inbound = match link.poll_next(cx, allowance) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            if self.intake.bytes(now, link.inlet.take_read()) == Within::No {
                return Some(Cause::RateExceeded);
            }
            self.keepalive.heard(now);
            turn.left -= 1;
            let inbound = (inbound, &mut link.inlet);
            if let Some(cause) = self.on_inbound(cx, inbound, turn, now) {
                return Some(cause);
            }
            // It was offered, and waits.
            if self.at_hand.is_some() {
                return None;
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Whether nothing that came from the client is under way, and none of it is bounded, so that
    /// there is no pause to begin or to end.
    fn is_idle(&self) -> bool {
        self.at_hand.is_none() && self.renewal.is_none() && self.intake.is_unbounded()
    }

    fn on_inbound(
        &mut self,
        cx: &mut Context<'_>,
        (inbound, inlet): (Inbound, &mut Inlet),
        turn: &mut Turn,
        now: Instant,
    ) -> Option<Cause> {
        match inbound {
            Inbound::Event(Event::Message(frame)) => self.on_message(cx, (frame, inlet), turn, now),
            Inbound::End => Some(Cause::Lost(io::ErrorKind::UnexpectedEof)),
            Inbound::Violation(error) => Some(Cause::Protocol(error)),
            Inbound::Event(Event::Close(frame)) => Some(Cause::PeerClosed(frame)),
            Inbound::Event(Event::Ping(payload)) => {
                if self.take_ping(now) == Within::No {
                    return Some(Cause::PingFlood);
                }
                if !planted::is(Bug::PongDropped) {
                    self.pongs.owe(*payload);
                }
                None
            }
            Inbound::Partial | Inbound::Event(Event::Pong(_)) => None,
        }
    }

    /// Takes in a message, and those that were read with it if they can be nothing else.
    fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        (frame, inlet): (Frame, &mut Inlet),
        turn: &mut Turn,
        now: Instant,
    ) -> Option<Cause> {
        let dialect = self.admission().feed.voice.dialect();
        let message = match dialect.read(frame) {
            Some(Heard::Message(frame)) => Some(self.take_in(frame, turn, now)),
            Some(Heard::Token(token)) => {
                self.renewal = Renewal::ask(self.admission(), token, now);
                None
            }
            None => return Some(self.refuse_envelope()),
        };
        if self.intake.message(now) == Within::No {
            self.not_taken(usize::from(message.is_some()));
            return Some(Cause::RateExceeded);
        }
        let is_taken = message.is_none_or(|message| self.hand_over(cx, message, now));
        // Nothing that could end the session may come between what is handed over at once.
        if is_taken && dialect == Dialect::Plain && self.intake.is_unbounded() {
            self.hand_over_whole(cx, inlet, turn, now);
        }
        None
    }

    /// Takes the decision about a fresh token, if one is due; nothing is read meanwhile.
    fn poll_renewal(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Cause>> {
        let notice = match ready!(self.renewal.poll(cx, now)) {
            None => return Poll::Ready(None),
            Some(Ok(identity)) => {
                let wall = self.admission().app().rt().wall();
                self.expiry = Expiry::new(&identity, wall, now);
                let author = &mut self.admission_mut().author;
                // It goes on as the one it was: its bounds are counted for that one.
                if identity.subject != author.identity().subject {
                    return Poll::Ready(Some(Cause::Denied));
                }
                author.renew(identity);
                dialect::RENEWED
            }
            Some(Err(Denied::Unavailable)) => dialect::UNDECIDED,
            Some(Err(Denied::Forbidden | Denied::Unauthorized)) => {
                return Poll::Ready(Some(Cause::Denied));
            }
        };
        self.notice = Some(Box::new(Frame::text(notice)));
        // It is sent in the next round.
        cx.waker().wake_by_ref();
        Poll::Ready(None)
    }

    fn take_ping(&mut self, now: Instant) -> Within {
        let rate = self.admission().limits.pings;
        self.intake.ping(rate, now)
    }

    /// Counts a message that is none.
    fn refuse_envelope(&self) -> Cause {
        let metrics = self.admission().app().metrics();
        metrics.messages_in.add(1);
        metrics.lost_not_taken.add(1);
        Cause::BadEnvelope
    }

    /// Bytes that may be read; none while the client has sent what it may.
    fn allowance(&mut self, now: Instant) -> Option<usize> {
        match self.intake.allowance(now) {
            Ok(bytes) => {
                self.paused = None;
                Some(bytes)
            }
            Err(until) => {
                if self.paused.is_none() {
                    self.admission().app().metrics().pauses.add(1);
                }
                self.paused = Some(until);
                None
            }
        }
    }

    fn take_in(&mut self, frame: Frame, turn: &mut Turn, now: Instant) -> Message {
        self.age.active(now);
        turn.take(&frame);
        self.admission_mut().message(frame)
    }

    /// Hands the messages at hand to the service, if that is there and has room for them.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(at_hand) = self.at_hand.take() else {
            return Poll::Ready(());
        };
        let AtHand { first, rest, since } = *at_hand;
        match self.offer(cx, first, now.saturating_since(since)) {
            Some(first) => {
                self.at_hand = Some(Box::new(AtHand { first, rest, since }));
                Poll::Pending
            }
            None => self.hand_over_all(cx, rest, now),
        }
    }

    /// Hands over a message that was just read; if the service does not take it, it is at hand.
    fn hand_over(&mut self, cx: &mut Context<'_>, message: Message, now: Instant) -> bool {
        let left = self.offer(cx, message, Duration::ZERO);
        self.at_hand = left.map(|first| Box::new(AtHand::one(first, now)));
        self.at_hand.is_none()
    }

    /// Hands over the whole messages that were read with one that was taken.
    fn hand_over_whole(
        &mut self,
        cx: &mut Context<'_>,
        inlet: &mut Inlet,
        turn: &mut Turn,
        now: Instant,
    ) {
        if inlet.is_empty() {
            return;
        }
        let admission = self.admission_mut();
        let mut batch = Batch::new();
        while turn.left > 0
            && batch.len() < at_hand::MESSAGES_MAX
            && let Some(frame) = inlet.next_whole()
        {
            turn.left -= 1;
            turn.take(&frame);
            batch.push(admission.message(frame));
        }
        let _left = self.hand_over_all(cx, batch, now);
    }

    /// Hands over messages after one that was taken; those that the service does not take are at
    /// hand.
    fn hand_over_all(&mut self, cx: &mut Context<'_>, mut batch: Batch, now: Instant) -> Poll<()> {
        if !batch.is_empty() && self.may_offer(Duration::ZERO) {
            self.admission_mut().publisher.offer_all(cx, &mut batch);
        }
        let Some(first) = batch.pop() else {
            return Poll::Ready(());
        };
        self.admission().app().rt().give_way();
        batch.truncate(planted::most(Bug::GatheredLost, 0));
        let (rest, since) = (batch, now);
        self.at_hand = Some(Box::new(AtHand { first, rest, since }));
        Poll::Pending
    }

    /// Offers the service a message that was held for so long; gives it back if it is not taken.
    fn offer(&mut self, cx: &mut Context<'_>, message: Message, held: Duration) -> Option<Message> {
        if !self.may_offer(held) {
            return Some(message);
        }
        match self.admission_mut().publisher.offer(cx, message) {
            Offered::Full(message) => {
                self.admission().app().rt().give_way();
                Some(message)
            }
            // The instance is ending; the next one gets the message.
            Offered::Nobody(message) => Some(message),
            Offered::Published(_) => None,
        }
    }

    /// Whether a message that was held for so long may be offered to the service; if not, the
    /// session waits for no room there.
    fn may_offer(&mut self, held: Duration) -> bool {
        let is_served = self.status.generation().is_some();
        let admission = self.admission_mut();
        // While answers to earlier messages wait here for the socket, further ones could only push
        // those out of their window. But not for ever: it may be the word to stop answering.
        let is_over =
            held >= admission.limits.answers_timeout && !planted::is(Bug::AnswersTimeoutIgnored);
        let may = is_served && (is_over || !admission.feed.owes_answers());
        if !may {
            admission.publisher.withdraw();
        }
        may
    }
}
