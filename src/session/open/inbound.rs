//! How an open session handles the input of its client.

use std::io;
use std::task::{Context, Poll};

use super::{Open, lost};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::cause::Cause;
use crate::session::connection_io::ConnectionIo;
use crate::session::envelope::{BadEnvelope, Command, Decoded};
use crate::session::frame_reader::Inbound;
use crate::session::memberships::Served;
use crate::session::pending_inbound::{self, PendingInbound};
use crate::session::rate_limits::Within;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::wire::{Event, Frames};

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
            left: self.limits().inbound_batch.get(),
            messages: 0,
            bytes: 0,
        };
        let cause = self.read(&mut poll);
        let (messages, bytes) = (poll.messages, poll.bytes);
        if messages > 0 {
            let metrics = self.app().metrics();
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
            if !self
                .members()
                .all(|member| !member.egress.encoder.is_full())
            {
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
            if self.has_pending() {
                return None;
            }
        }
        poll.cx.waker().wake_by_ref();
        None
    }

    /// Whether no input is being processed and the client has no rate limits, so that no pause can
    /// begin or end.
    fn is_idle(&self) -> bool {
        !self.has_pending() && self.renewal.is_none() && self.rate_limits.is_unbounded()
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
        let subprotocol = self.member().egress.encoder.subprotocol();
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
                self.member().not_taken(self.app(), frames.len());
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
                self.renewal = Renewal::ask(self.served(), &token, poll.now);
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
        let refused = self.member().rules.refuse(&frames);
        if let Some((fit, _cause)) = &refused {
            self.member().not_taken(self.app(), frames.len() - fit);
            if *fit > 0 {
                frames = frames.split_front(*fit);
            }
        }
        let is_any_fit = refused.as_ref().is_none_or(|(fit, _cause)| *fit > 0);
        if is_any_fit {
            let batch = self.member_mut().batch(frames);
            let since = poll.now;
            self.hand_over(poll.cx, PendingInbound { batch, since }, since);
        }
        refused.map(|(_fit, cause)| cause)
    }

    fn count_in<S>(&mut self, poll: &mut Intaking<'_, '_, S>, frames: &Frames) {
        self.age.active(poll.now);
        poll.messages += frames.len() as u64;
        poll.bytes += frames.payload_bytes() as u64;
    }

    fn take_ping(&mut self, now: Instant) -> Within {
        let rate = self.limits().pings;
        self.rate_limits.ping(rate, now)
    }

    /// Counts a text that is not an envelope as a message that was not taken.
    fn refuse_envelope(&self, bad: BadEnvelope) -> Cause {
        let metrics = self.app().metrics();
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
                    self.app().metrics().pauses.add(1);
                }
                self.paused = Some(until);
                None
            }
        }
    }

    /// Hands the messages at hand to the service, if it runs and has capacity for them.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(pending_inbound) = self.member_mut().pending_inbound.take() else {
            return Poll::Ready(());
        };
        self.hand_over(cx, *pending_inbound, now);
        match self.member().pending_inbound {
            Some(_) => Poll::Pending,
            None => {
                self.reply_handed_over(cx);
                Poll::Ready(())
            }
        }
    }

    /// Hands messages over to the service of the oldest membership; those that it does not accept
    /// are kept at hand.
    pub(super) fn hand_over(&mut self, cx: &mut Context<'_>, handed: PendingInbound, now: Instant) {
        let Served {
            connection,
            memberships,
        } = self.served_mut();
        memberships
            .oldest_mut()
            .hand_over(cx, connection, handed, now);
    }
}
