//! How an open session handles the input of its client.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Open, lost};
use crate::admission::authorize::{Admitted, Denied};
use crate::bus::{Batch, Offered};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::connection_io::ConnectionIo;
use crate::session::envelope::{BadEnvelope, Command, Decoded};
use crate::session::expiry::Expiry;
use crate::session::frame_reader::Inbound;
use crate::session::pending_inbound::{self, PendingInbound};
use crate::session::rate_limits::Within;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::session::subprotocol;
use crate::wire::{Event, Frame, Frames};

/// One poll of the client's input.
struct Intaking<'a, 'c, S> {
    cx: &'a mut Context<'c>,
    io: &'a mut ConnectionIo<S>,
    now: Instant,
    /// Events that this poll may still handle.
    left: usize,
    /// Messages handled by this poll; the counters are updated once, at its end.
    messages: u64,
    /// Payload bytes of those messages.
    bytes: u64,
}

/// How many of the messages at hand may be offered to the service.
enum Offers {
    All,
    /// One message, after `answers_timeout`. Answers that wait for the socket would be evicted by
    /// the answers to further messages, so messages are held back meanwhile; but the held message
    /// may be the request to stop answering, so one goes through.
    One,
    None,
}

impl<R: Runtime> Open<R> {
    /// Reads until the socket has no more input, the service accepts no more, or the budget of this
    /// poll is used up.
    pub(super) fn poll_in<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        now: Instant,
    ) -> Option<Cause> {
        let mut poll = Intaking {
            cx,
            io,
            now,
            left: self.admission().limits.inbound_batch.get(),
            messages: 0,
            bytes: 0,
        };
        let cause = self.read(&mut poll);
        let (messages, bytes) = (poll.messages, poll.bytes);
        if messages > 0 {
            let metrics = self.admission().app().metrics();
            metrics.messages_in.add(messages);
            metrics.bytes_in.add(bytes);
        }
        cause
    }

    fn read<S: Socket + Unpin>(&mut self, poll: &mut Intaking<'_, '_, S>) -> Option<Cause> {
        let now = poll.now;
        while poll.left > 0 {
            if poll.io.is_silent() && self.is_idle() {
                return None;
            }
            match self.poll_renewal(poll.cx, now) {
                Poll::Pending => return None,
                Poll::Ready(Some(cause)) => return Some(cause),
                Poll::Ready(None) => {}
            }
            match self.poll_hand_over(poll.cx, now) {
                Poll::Pending => return None,
                Poll::Ready(()) => {}
            }
            // A client that does not take its replies is not asked for more requests.
            let replies = self.admission_mut().egress.encoder.replies();
            if replies.is_some_and(|replies| replies.is_full()) {
                return None;
            }
            // Without an allowance the client is paused: there is nothing to read, and no cause to
            // close.
            let bytes_max = self.allowance(now)?;
            let messages_max = self.rate_limits.messages_max(now).min(poll.left);
            let messages_max = messages_max.min(pending_inbound::MESSAGES_MAX);
            let inbound = match poll.io.poll_next(poll.cx, bytes_max, messages_max) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            if self
                .rate_limits
                .bytes(now, poll.io.frame_reader.take_read())
                == Within::No
            {
                return Some(Cause::RateExceeded);
            }
            // The next ping may be due before the present part of the answer's time ends, or before
            // the time of a write does that the ping was in.
            self.is_timed_anew |= self.keepalive.is_asked() || self.keepalive.is_asking();
            self.keepalive.heard(now);
            if let Some(cause) = self.on_inbound(poll, inbound) {
                return Some(cause);
            }
            // The service did not accept all messages: the rest is held.
            if self.pending_inbound.is_some() {
                return None;
            }
        }
        poll.cx.waker().wake_by_ref();
        None
    }

    /// Whether no input is being processed and the client has no rate limits, so that no pause can
    /// begin or end.
    fn is_idle(&self) -> bool {
        self.pending_inbound.is_none() && self.renewal.is_none() && self.rate_limits.is_unbounded()
    }

    fn on_inbound<S>(&mut self, poll: &mut Intaking<'_, '_, S>, inbound: Inbound) -> Option<Cause> {
        if let Inbound::Event(Event::Messages(frames)) = inbound {
            poll.left -= frames.len();
            return self.on_messages(poll, frames);
        }
        poll.left -= 1;
        match inbound {
            Inbound::End => Some(Cause::Lost(io::ErrorKind::UnexpectedEof)),
            Inbound::Violation(error) => Some(Cause::Protocol(error)),
            Inbound::Event(Event::Close(frame)) => Some(Cause::PeerClosed(frame)),
            Inbound::Event(Event::Ping(payload)) => {
                if self.take_ping(poll.now) == Within::No {
                    return Some(Cause::PingFlood);
                }
                if !planted::is(Bug::PongDropped) {
                    self.pongs.owe(*payload);
                }
                None
            }
            Inbound::Partial | Inbound::Event(Event::Messages(_) | Event::Pong(_)) => None,
        }
    }

    /// Handles messages for the service, and the first command for the session that follows them.
    fn on_messages<S>(&mut self, poll: &mut Intaking<'_, '_, S>, frames: Frames) -> Option<Cause> {
        let count = frames.len();
        let subprotocol = self.admission().egress.encoder.subprotocol();
        let Decoded {
            messages,
            command,
            rest,
        } = subprotocol.read(frames);
        let is_bad = matches!(command, Some(Command::Bad(_)));
        let read = count - rest.as_ref().map_or(0, Frames::len) - usize::from(is_bad);
        let within = self.rate_limits.messages(poll.now, read);
        if let Some(frames) = messages {
            self.count_in(poll, &frames);
            if within == Within::No {
                self.not_taken(frames.len());
                return Some(Cause::RateExceeded);
            }
            if let Some(cause) = self.accept(poll, frames) {
                return Some(cause);
            }
        }
        if within == Within::No {
            return Some(Cause::RateExceeded);
        }
        if let Some(rest) = rest {
            poll.io.frame_reader.put_back(rest);
        }
        match command {
            Some(Command::Token(token)) => {
                self.renewal = Renewal::ask(self.admission(), token, poll.now);
                None
            }
            Some(Command::Request(request)) => self.answer(poll.cx, request, poll.now),
            Some(Command::Bad(bad)) => Some(self.refuse_envelope(bad)),
            None => None,
        }
    }

    /// Hands messages over to the service, or to the room if that is a relay; returns the cause to
    /// close the client for the messages that the rules refuse.
    fn accept<S>(&mut self, poll: &mut Intaking<'_, '_, S>, mut frames: Frames) -> Option<Cause> {
        let refused = self.admission().rules.refuse(&frames);
        if let Some((fit, _cause)) = &refused {
            self.not_taken(frames.len() - fit);
            if *fit > 0 {
                frames = frames.split_front(*fit);
            }
        }
        let is_any_fit = refused.as_ref().is_none_or(|(fit, _cause)| *fit > 0);
        if is_any_fit {
            let batch = self.admission_mut().batch(frames);
            self.hand_over(poll.cx, batch, poll.now, poll.now);
        }
        refused.map(|(_fit, cause)| cause)
    }

    fn count_in<S>(&mut self, poll: &mut Intaking<'_, '_, S>, frames: &Frames) {
        self.age.active(poll.now);
        poll.messages += frames.len() as u64;
        poll.bytes += frames.payload_bytes() as u64;
    }

    /// Takes the decision about a fresh token once it is made; the client is not read meanwhile.
    fn poll_renewal(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Cause>> {
        // A client receives one notice for each decision: the previous notice is sent first.
        if self.notice.is_some() && !self.renewal.is_none() {
            return Poll::Pending;
        }
        let notice = match ready!(self.renewal.poll(cx, now)) {
            None => return Poll::Ready(None),
            Some(Ok(Admitted { identity, grant })) => {
                let wall = self.admission().app().rt().wall();
                self.expiry = Expiry::new(&identity, wall, now);
                self.is_timed_anew = true;
                let member = self.admission_mut();
                // A token for another subject is refused: the limits of this session are counted
                // for the subject that it was admitted with.
                if identity.subject != member.sender.identity().subject {
                    return Poll::Ready(Some(Cause::Denied));
                }
                member.renew(identity, &grant);
                subprotocol::RENEWED
            }
            Some(Err(Denied::Unavailable { .. })) => subprotocol::UNDECIDED,
            Some(Err(Denied::Expired | Denied::Forbidden | Denied::Unauthorized)) => {
                return Poll::Ready(Some(Cause::Denied));
            }
        };
        self.notice = Some(Box::new(Frame::text(notice)));
        // The next poll sends the notice.
        cx.waker().wake_by_ref();
        Poll::Ready(None)
    }

    fn take_ping(&mut self, now: Instant) -> Within {
        let rate = self.admission().limits.pings;
        self.rate_limits.ping(rate, now)
    }

    /// Counts a text that is not an envelope as a message that was not taken.
    fn refuse_envelope(&self, bad: BadEnvelope) -> Cause {
        let metrics = self.admission().app().metrics();
        metrics.messages_in.add(1);
        metrics.lost_not_taken.add(1);
        Cause::BadEnvelope(bad)
    }

    /// Bytes that may be read now; `None` while the client has used up its rate.
    fn allowance(&mut self, now: Instant) -> Option<usize> {
        match self.rate_limits.allowance(now) {
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

    /// Hands the messages at hand to the service, if it runs and has capacity for them.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(pending_inbound) = self.pending_inbound.take() else {
            return Poll::Ready(());
        };
        let PendingInbound { batch, since } = *pending_inbound;
        self.hand_over(cx, batch, since, now);
        match self.pending_inbound {
            Some(_) => Poll::Pending,
            None => {
                self.reply_handed_over(cx);
                Poll::Ready(())
            }
        }
    }

    /// Hands over a batch whose first message arrived at `since`; messages that the service does
    /// not accept are kept at hand.
    pub(super) fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        batch: Batch,
        since: Instant,
        now: Instant,
    ) {
        let before = batch.len();
        let Some(mut left) = self.offer(cx, batch, now.saturating_since(since)) else {
            return;
        };
        let since = if left.len() < before { now } else { since };
        if planted::is(Bug::GatheredLost) && left.len() > 1 {
            left = left.split_front(1);
        }
        self.pending_inbound = Some(Box::new(PendingInbound { batch: left, since }));
    }

    /// Offers a batch whose first message was held for the time `held`; returns the messages that
    /// the service did not accept.
    fn offer(&mut self, cx: &mut Context<'_>, batch: Batch, held: Duration) -> Option<Batch> {
        let offers = self.offers(held);
        if let Some(relay) = self.admission().rules.relay
            && !matches!(offers, Offers::None)
        {
            let messages = batch.len();
            if self.admission().pass_on(batch, relay).has_ended {
                self.not_taken(messages);
            }
            return None;
        }
        let publisher = &mut self.admission_mut().publisher;
        match offers {
            Offers::None => {
                publisher.withdraw();
                return Some(batch);
            }
            Offers::One if batch.len() > 1 => {
                let mut rest = batch.clone();
                let first = rest.split_front(1);
                return match publisher.offer(cx, first) {
                    Offered::Full(_) | Offered::NoSubscribers(_) => Some(batch),
                    Offered::Published(_) => Some(rest),
                };
            }
            Offers::One | Offers::All => {}
        }
        match publisher.offer(cx, batch) {
            Offered::Full(left) | Offered::NoSubscribers(left) => Some(left),
            Offered::Published(_) => None,
        }
    }

    /// How many messages may be offered, when the first of them was held for the time `held`.
    fn offers(&self, held: Duration) -> Offers {
        let admission = self.admission();
        if self.status.generation().is_none() {
            Offers::None
        } else if !admission.egress.owes_answers() {
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
