//! What an open session does with what its client sends.

use std::io;
use std::task::{Context, Poll, ready};

use futures::io::AsyncRead;

use super::{AtHand, Open, Taken, lost};
use crate::authorize::Denied;
use crate::bus::{Message, Origin};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::dialect::{self, Heard};
use crate::session::expiry::Expiry;
use crate::session::inlet::Inbound;
use crate::session::intake::Within;
use crate::session::link::Link;
use crate::session::renewal::Renewal;
use crate::wire::{Event, Frame};

impl<R: Runtime> Open<R> {
    /// Reads until the socket has nothing more, the service takes no more, or it is others' turn.
    pub(super) fn poll_in<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Option<Cause> {
        for _ in 0..self.admission().limits.inbound_batch.get() {
            match self.poll_renewal(cx, now) {
                Poll::Pending => return None,
                Poll::Ready(Some(cause)) => return Some(cause),
                Poll::Ready(None) => {}
            }
            match self.poll_hand_over(cx, now) {
                Taken::No => return None,
                Taken::Yes => {}
            }
            // Without one there is nothing to do, and no cause to close.
            let allowance = self.allowance(now)?;
            let inbound = match link.poll_next(allowance) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            if self.intake.bytes(now, link.inlet.take_read()) == Within::No {
                return Some(Cause::RateExceeded);
            }
            self.keepalive.heard(now);
            if let Some(cause) = self.on_inbound(inbound, now) {
                return Some(cause);
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn on_inbound(&mut self, inbound: Inbound, now: Instant) -> Option<Cause> {
        match inbound {
            Inbound::End => return Some(Cause::Lost(io::ErrorKind::UnexpectedEof)),
            Inbound::Violation(error) => return Some(Cause::Protocol(error)),
            Inbound::Partial | Inbound::Event(Event::Pong(_)) => {}
            Inbound::Event(Event::Ping(payload)) => match self.take_ping(now) {
                Within::No => return Some(Cause::PingFlood),
                Within::Yes if planted::is(Bug::PongDropped) => {}
                Within::Yes => self.pongs.owe(*payload),
            },
            Inbound::Event(Event::Close(frame)) => return Some(Cause::PeerClosed(frame)),
            Inbound::Event(Event::Message(frame)) => {
                match self.admission().dialect.read(frame) {
                    Some(Heard::Message(frame)) => self.take_in(frame, now),
                    Some(Heard::Token(token)) => {
                        let admission = self.admission();
                        self.renewal = Renewal::ask(admission, token, now);
                    }
                    None => return Some(self.refuse_envelope()),
                }
                if self.intake.message(now) == Within::No {
                    return Some(Cause::RateExceeded);
                }
            }
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

    fn take_in(&mut self, frame: Frame, since: Instant) {
        self.age.active(since);
        let admission = self.admission_mut();
        let metrics = admission.app().metrics();
        metrics.messages_in.add(1);
        metrics.bytes_in.add(frame.len() as u64);
        admission.feed.teller.received(frame.len());
        let message = Message::new(frame, Origin::Client(admission.sender()));
        self.at_hand = Some(Box::new(AtHand { message, since }));
    }

    /// Hands the message at hand to the service, if that is there and has room for it.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Taken {
        let Some(at_hand) = &self.at_hand else {
            return Taken::Yes;
        };
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        if self.status.generation().is_none() {
            return Taken::No;
        }
        // While answers to earlier messages wait here for the socket, further ones could only push
        // those out of their window. But not for ever: it may be the word to stop answering.
        let held = now.saturating_since(at_hand.since);
        let is_over =
            held >= admission.limits.answers_timeout && !planted::is(Bug::AnswersTimeoutIgnored);
        if !is_over && admission.feed.owes_answers() {
            return Taken::No;
        }
        match admission.publisher.poll_publish(cx, &at_hand.message) {
            // Without an inbox the instance is ending; the next one gets the message.
            Poll::Pending | Poll::Ready(0) => return Taken::No,
            Poll::Ready(_) => {}
        }
        self.at_hand = None;
        Taken::Yes
    }
}
