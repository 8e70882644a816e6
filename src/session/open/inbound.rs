//! What an open session does with what its client sends.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Open, lost};
use crate::authorize::Denied;
use crate::bus::{Batch, Message};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::at_hand::{self, AtHand};
use crate::session::cause::Cause;
use crate::session::dialect::{self, Dialect, Heard};
use crate::session::envelope::BadEnvelope;
use crate::session::expiry::Expiry;
use crate::session::inlet::Inbound;
use crate::session::intake::Within;
use crate::session::link::Link;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::wire::{Event, Frame, Frames};

/// What one poll takes in, which is counted at its end.
struct Turn {
    /// Events that it may still take.
    left: usize,
    messages: u64,
    bytes: u64,
}

/// What may be offered to the service of what is at hand.
enum Offers {
    All,
    /// While answers to earlier messages wait here for the socket, further ones could only push
    /// those out of their window. But not for ever: it may be the word to stop answering.
    One,
    None,
}

impl Turn {
    #[inline]
    fn take(&mut self, messages: usize, bytes: usize) {
        self.messages += messages as u64;
        self.bytes += bytes as u64;
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
            let together = self.together_max(turn);
            let inbound = match link.poll_next(cx, (allowance, together)) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            if self.intake.bytes(now, link.inlet.take_read()) == Within::No {
                return Some(Cause::RateExceeded);
            }
            // An interval may be shorter than what is left of a part of the time for an answer.
            self.is_timed_anew |= self.keepalive.is_asked();
            self.keepalive.heard(now);
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

    /// Messages that may be taken in together: nothing that could end the session may come between
    /// them.
    fn together_max(&self, turn: &Turn) -> usize {
        match self.admission().feed.voice.dialect() {
            Dialect::Plain if self.intake.is_unbounded() => turn.left.min(at_hand::MESSAGES_MAX),
            Dialect::Json | Dialect::Plain => 1,
        }
    }

    fn on_inbound(
        &mut self,
        cx: &mut Context<'_>,
        inbound: Inbound,
        turn: &mut Turn,
        now: Instant,
    ) -> Option<Cause> {
        turn.left -= 1;
        match inbound {
            Inbound::Event(Event::Message(frame)) => self.on_message(cx, frame, turn, now),
            Inbound::Together(frames) => {
                turn.left -= frames.messages() - 1;
                self.on_together(cx, frames, turn, now);
                None
            }
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

    /// Takes in a message, or a word to the session itself.
    fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        frame: Frame,
        turn: &mut Turn,
        now: Instant,
    ) -> Option<Cause> {
        let dialect = self.admission().feed.voice.dialect();
        let message = match dialect.read(frame) {
            Ok(Heard::Message(frame)) => Some(self.take_in(frame, turn, now)),
            Ok(Heard::Token(token)) => {
                self.renewal = Renewal::ask(self.admission(), token, now);
                None
            }
            Err(bad) => return Some(self.refuse_envelope(bad)),
        };
        if self.intake.message(now) == Within::No {
            self.not_taken(usize::from(message.is_some()));
            return Some(Cause::RateExceeded);
        }
        if let Some(message) = message {
            self.hand_over(cx, message.into(), (now, now));
        }
        None
    }

    /// Takes in messages that were read together.
    fn on_together(
        &mut self,
        cx: &mut Context<'_>,
        frames: Box<Frames>,
        turn: &mut Turn,
        now: Instant,
    ) {
        self.age.active(now);
        turn.take(frames.messages(), frames.payload_bytes());
        let train = self.admission_mut().train(frames);
        self.hand_over(cx, train.into(), (now, now));
    }

    /// Takes the decision about a fresh token, if one is due; nothing is read meanwhile.
    fn poll_renewal(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Cause>> {
        let notice = match ready!(self.renewal.poll(cx, now)) {
            None => return Poll::Ready(None),
            Some(Ok(identity)) => {
                let wall = self.admission().app().rt().wall();
                self.expiry = Expiry::new(&identity, wall, now);
                self.is_timed_anew = true;
                let author = &mut self.admission_mut().author;
                // It goes on as the one it was: its bounds are counted for that one.
                if identity.subject != author.identity().subject {
                    return Poll::Ready(Some(Cause::Denied));
                }
                author.renew(identity);
                dialect::RENEWED
            }
            Some(Err(Denied::Unavailable { .. })) => dialect::UNDECIDED,
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
    fn refuse_envelope(&self, bad: BadEnvelope) -> Cause {
        let metrics = self.admission().app().metrics();
        metrics.messages_in.add(1);
        metrics.lost_not_taken.add(1);
        Cause::BadEnvelope(bad)
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
        turn.take(1, frame.len());
        self.admission_mut().message(frame)
    }

    /// Hands the messages at hand to the service, if that is there and has room for them.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(at_hand) = self.at_hand.take() else {
            return Poll::Ready(());
        };
        let AtHand { messages, since } = *at_hand;
        self.hand_over(cx, messages, (since, now));
        match self.at_hand {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// Hands over messages, of which the first was there since then; those that the service does
    /// not take are at hand.
    fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        mut messages: Batch,
        (since, now): (Instant, Instant),
    ) {
        let before = messages.len();
        self.offer(cx, &mut messages, now.saturating_since(since));
        let is_new = messages.len() < before;
        messages.truncate(planted::most(Bug::GatheredLost, 1));
        if !messages.is_empty() {
            let since = if is_new { now } else { since };
            self.at_hand = Some(Box::new(AtHand { messages, since }));
        }
    }

    /// Offers the service messages, of which the first was held for so long; those that it does not
    /// take are left.
    fn offer(&mut self, cx: &mut Context<'_>, messages: &mut Batch, held: Duration) {
        let offers = self.offers(held);
        let publisher = &mut self.admission_mut().publisher;
        match offers {
            Offers::None => return publisher.withdraw(),
            Offers::All => publisher.offer_all(cx, messages),
            Offers::One => {
                let mut first: Batch = messages.pop().into_iter().collect();
                publisher.offer_all(cx, &mut first);
                first.extend(std::mem::take(messages));
                *messages = first;
            }
        }
        if !messages.is_empty() {
            self.admission().app().rt().give_way();
        }
    }

    /// What may be offered to the service of messages of which the first was held for so long.
    fn offers(&self, held: Duration) -> Offers {
        let admission = self.admission();
        if self.status.generation().is_none() {
            Offers::None
        } else if !admission.feed.owes_answers() {
            Offers::All
        } else if held >= admission.limits.answers_timeout
            && !planted::is(Bug::AnswersTimeoutIgnored)
        {
            Offers::One
        } else {
            Offers::None
        }
    }
}
