//! What an open session does with what its client sends.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::io::AsyncRead;

use super::{AtHand, Open, Taken, lost};
use crate::authorize::Denied;
use crate::bus::{Message, Offered, Origin};
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
        let cause = self.read(cx, link, now);
        let taken_in = std::mem::take(&mut self.taken_in);
        if taken_in.messages > 0 {
            let metrics = self.admission().app().metrics();
            metrics.messages_in.add(u64::from(taken_in.messages));
            metrics.bytes_in.add(taken_in.bytes);
        }
        cause
    }

    fn read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Option<Cause> {
        let batch = self.admission().limits.inbound_batch.get();
        for _ in 0..batch {
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
            let inbound = match link.poll_next(allowance) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            if self.intake.bytes(now, link.inlet.take_read()) == Within::No {
                return Some(Cause::RateExceeded);
            }
            self.keepalive.heard(now);
            if let Some(cause) = self.on_inbound(cx, inbound, now) {
                return Some(cause);
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn on_inbound(
        &mut self,
        cx: &mut Context<'_>,
        inbound: Inbound,
        now: Instant,
    ) -> Option<Cause> {
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
                return self.on_message(cx, frame, now);
            }
        }
        None
    }

    fn on_message(&mut self, cx: &mut Context<'_>, frame: Frame, now: Instant) -> Option<Cause> {
        let heard = self.admission().dialect.read(frame);
        let message = match heard {
            Some(Heard::Message(frame)) => Some(self.take_in(frame, now)),
            Some(Heard::Token(token)) => {
                self.renewal = Renewal::ask(self.admission(), token, now);
                None
            }
            None => return Some(self.refuse_envelope()),
        };
        let is_within = self.intake.message(now);
        if let Some(message) = message {
            // Mostly it is taken at once, and nothing is kept.
            let taken = match is_within {
                Within::No => Taken::No(message),
                Within::Yes => self.offer(cx, message, Duration::ZERO),
            };
            match taken {
                Taken::No(message) => self.hold(message, now),
                Taken::Yes => {}
            }
        }
        match is_within {
            Within::No => Some(Cause::RateExceeded),
            Within::Yes => None,
        }
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

    fn take_in(&mut self, frame: Frame, now: Instant) -> Message {
        self.age.active(now);
        self.taken_in.messages += 1;
        self.taken_in.bytes += frame.len() as u64;
        let admission = self.admission_mut();
        admission.feed.teller.received(frame.len());
        Message::new(frame, Origin::Client(admission.sender()))
    }

    /// Hands the message at hand to the service, if that is there and has room for it.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(at_hand) = self.at_hand.take() else {
            return Poll::Ready(());
        };
        let AtHand { message, since } = *at_hand;
        match self.offer(cx, message, now.saturating_since(since)) {
            Taken::No(message) => {
                self.hold(message, since);
                Poll::Pending
            }
            Taken::Yes => Poll::Ready(()),
        }
    }

    /// Keeps a message that the service has not taken since then.
    fn hold(&mut self, message: Message, since: Instant) {
        self.at_hand = Some(Box::new(AtHand { message, since }));
    }

    /// Offers the service a message that was held for so long.
    fn offer(&mut self, cx: &mut Context<'_>, message: Message, held: Duration) -> Taken {
        let is_served = self.status.generation().is_some();
        let admission = self.admission_mut();
        // While answers to earlier messages wait here for the socket, further ones could only push
        // those out of their window. But not for ever: it may be the word to stop answering.
        let is_over =
            held >= admission.limits.answers_timeout && !planted::is(Bug::AnswersTimeoutIgnored);
        if !is_served || (!is_over && admission.feed.owes_answers()) {
            admission.publisher.withdraw();
            return Taken::No(message);
        }
        match admission.publisher.offer(cx, message) {
            // Without an inbox the instance is ending; the next one gets the message.
            Offered::Full(message) | Offered::Nobody(message) => Taken::No(message),
            Offered::Published(_) => Taken::Yes,
        }
    }
}
