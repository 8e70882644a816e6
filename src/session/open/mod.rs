//! The phase in which a session serves its client.

use std::io;
use std::task::{Context, Poll};

use futures::io::AsyncWrite;

use self::leaving::Leaving;
use crate::admission::backlog::Account;
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::session::admission::Admission;
use crate::session::age::{Age, TooOld};
use crate::session::cause::Cause;
use crate::session::closing::Closing;
use crate::session::connection_io::ConnectionIo;
use crate::session::expiry::{Expiry, Good};
use crate::session::keepalive::{Keepalive, Pulse};
use crate::session::memberships::Served;
use crate::session::outbox::Outbox;
use crate::session::pongs::Pongs;
use crate::session::rate_limits::RateLimits;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::wire::{ControlKind, ControlPayload, Frame};

mod inbound;
mod leaving;
mod members;
mod renewing;
mod requests;

/// Writes in one poll before other tasks may run.
const SENDS_MAX: usize = 16;

pub(super) struct Open<R: Runtime> {
    /// `None` once the session closes.
    served: Option<Served<R>>,
    /// How the session leaves, once the application drains.
    leaving: Option<Box<Leaving>>,
    keepalive: Keepalive,
    expiry: Expiry,
    renewal: Renewal,
    /// A notice about the client's fresh token that is not in the outbox yet.
    notice: Option<Box<Frame>>,
    age: Age,
    rate_limits: RateLimits,
    /// Until when the client is not read, because it has used up its rate.
    paused: Option<Instant>,
    pongs: Pongs,
    /// Whether a deadline may have become earlier since the timer was armed.
    is_timed_anew: bool,
}

/// Whether the deadline that the timer was armed for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Later,
    Now,
}

/// The time of a poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) now: Instant,
    pub(super) due: Due,
}

impl<R: Runtime> Open<R> {
    pub(super) fn new(admission: Admission<R>) -> Self {
        let (inbound, served) = (admission.inbound, admission.served);
        let (limits, rt) = (&served.connection.limits, served.connection.app.rt());
        let identity = served.memberships.oldest().sender.identity();
        let now = rt.now();
        Self {
            leaving: None,
            keepalive: Keepalive::new(now),
            age: Age::new(limits.age, now, rt),
            rate_limits: RateLimits::new(inbound, now),
            expiry: Expiry::new(identity, rt.wall(), now),
            renewal: Renewal::default(),
            notice: None,
            paused: None,
            served: Some(served),
            pongs: Pongs::default(),
            is_timed_anew: true,
        }
    }

    /// Serves the client until there is a cause to close, and reports the bytes held for it to the
    /// account.
    pub(super) fn poll_held<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        account: &mut Account,
        time: Time,
    ) -> Poll<Cause> {
        if let Poll::Ready(cause) = self.poll(cx, io, time) {
            return Poll::Ready(cause);
        }
        let held = io.held() + self.held(cx, io.outbox.is_empty());
        account.poll_hold(cx, held).map(|()| Cause::Shed)
    }

    /// Serves the client until there is a cause to close.
    fn poll<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        time: Time,
    ) -> Poll<Cause> {
        let Time { now, due } = time;
        if let Some(given) = io.fan_out_wrote_at.take() {
            self.age.active(given);
        }
        if !self.is_status_quiet()
            && let Some(cause) = self.poll_status(cx)
        {
            return Poll::Ready(cause);
        }
        if self.has_something_to_send(io)
            && let Some(cause) = self.poll_out(cx, io, now)
        {
            return Poll::Ready(cause);
        }
        if let Some(cause) = self.poll_in(cx, io, now) {
            return Poll::Ready(cause);
        }
        if !io.frame_reader.is_empty() {
            let timeout = self.limits().message_timeout;
            io.frame_reader.look(timeout, now, self.hears());
        }
        // Leaving comes after reading: input that has arrived by now is handed over first.
        if let Some(cause) = self.poll_leave(cx, io, now) {
            return Poll::Ready(cause);
        }
        // Deadlines come after all input and output: when the whole machine was paused, every
        // deadline has passed, and the input that waited clears most of them.
        let mut has_late = false;
        if !self.is_early(io, due) {
            has_late = self.expire_requests(now);
            if let Some(cause) = self.on_time(io, now) {
                return Poll::Ready(cause);
            }
        }
        // The pongs, notice, ping or late replies of this poll are sent now: nothing else might
        // cause another poll.
        let has_control = !self.pongs.is_empty() || self.notice.is_some() || has_late;
        let cause = if has_control || self.keepalive.is_due() {
            self.poll_out(cx, io, now)
        } else {
            None
        };
        cause.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether no deadline has come, and none became earlier since the timer was armed.
    ///
    /// Messages in either direction only move deadlines back. An answer to a ping may move the next
    /// deadline forward, and sets `is_timed_anew`.
    #[inline]
    pub(super) fn is_early<S>(&self, io: &ConnectionIo<S>, due: Due) -> bool {
        due == Due::Later && !self.is_timed_anew && !self.is_waiting(io)
    }

    /// Whether an operation with a deadline of its own is in progress.
    #[inline]
    fn is_waiting<S>(&self, io: &ConnectionIo<S>) -> bool {
        self.has_pending()
            || self.paused.is_some()
            || io.stuck_since.is_some()
            || self.leaving.is_some()
            || self.keepalive.is_asking()
            || !self.renewal.is_none()
            || !io.frame_reader.is_empty()
            || self.answered_by().is_some()
    }

    /// Whether the client is being read.
    fn hears(&self) -> bool {
        !self.has_pending() && self.paused.is_none() && self.renewal.is_none()
    }

    /// The next deadline of the session.
    pub(super) fn deadline<S>(&mut self, io: &ConnectionIo<S>, now: Instant) -> Instant {
        self.is_timed_anew = false;
        let first = self.keepalive.deadline(&self.limits().keepalive);
        let deadlines = [self.expiry.deadline(), self.age.deadline()];
        let first = deadlines.into_iter().fold(first, Instant::or_sooner);
        if self.is_waiting(io) {
            self.waits_until(io, now).fold(first, Instant::or_sooner)
        } else {
            first
        }
    }

    /// The deadlines of the operations that [`is_waiting`](Self::is_waiting) reports.
    #[cold]
    fn waits_until<S>(
        &self,
        io: &ConnectionIo<S>,
        now: Instant,
    ) -> impl Iterator<Item = Option<Instant>> {
        let limits = &self.limits();
        let held = self.pending_since();
        let taken = held.map(|since| since + limits.accept_timeout);
        // After this deadline the message waits for the service alone.
        let answered = held.map(|since| since + limits.answers_timeout);
        let answered = answered.filter(|deadline| now < *deadline);
        let written = io.stuck_since.map(|since| since + limits.write_timeout);
        // A decision that is held back behind a notice ends only once the socket accepts the
        // notice, which `write_timeout` bounds.
        let renewed = self.renewal.deadline();
        let renewed = renewed.filter(|_| self.notice.is_none());
        let whole = io.frame_reader.deadline(limits.message_timeout);
        let leaves = self.leaving.as_ref().map(|leaving| leaving.deadline(now));
        let answered_by = self.answered_by();
        let own = [self.paused, leaves, whole, answered_by];
        own.into_iter().chain([taken, answered, written, renewed])
    }

    /// Leaves the service and starts the close handshake.
    pub(super) fn close(&mut self, cause: Cause, now: Instant) -> Closing<R> {
        self.member().egress.tap_reporter.closing(&cause);
        self.abandon();
        self.take_back();
        let served = self.served.take().expect("a session closes once");
        Closing::new(cause, served, now)
    }

    /// Handles the deadlines that have come by `now`.
    fn on_time<S: Socket>(&mut self, io: &ConnectionIo<S>, now: Instant) -> Option<Cause> {
        let limits = &self.limits();
        let since = |start: Instant| now.saturating_since(start);
        if io
            .stuck_since
            .is_some_and(|start| since(start) >= limits.write_timeout)
        {
            return Some(Cause::Unwritable);
        }
        if io.frame_reader.is_late(limits.message_timeout) {
            return Some(Cause::MessageTooSlow);
        }
        if let Some(cause) = self.end_stalled(now) {
            return Some(cause);
        }
        if self.has_pending() && !planted::is(Bug::ExcuseForgotten) {
            self.keepalive.excuse(now);
        }
        if self.paused.is_some() || self.renewal.deadline().is_some() {
            self.keepalive.excuse(now);
        }
        match self.age.on_time(now) {
            Some(TooOld::Aged) => return Some(Cause::Aged),
            Some(TooOld::Idle) => return Some(Cause::Idle),
            None => {}
        }
        match self.expiry.at(now) {
            Good::No => return Some(Cause::Expired),
            Good::Yes => {}
        }
        self.poll_pulse(io, now)
    }

    /// Returns a cause if the peer is dead; queues a ping if one is due.
    fn poll_pulse<S: Socket>(&mut self, io: &ConnectionIo<S>, now: Instant) -> Option<Cause> {
        let served = self.served.as_ref();
        let served = served.expect("an open session serves its client");
        let policy = &served.connection.limits.keepalive;
        match self.keepalive.on_time(policy, now) {
            // After a pause of the whole machine the answer may have arrived without the task being
            // woken yet.
            Pulse::Dead if io.stream.has_data() => {
                self.keepalive.spare(now);
                None
            }
            Pulse::Dead => Some(Cause::Silent),
            Pulse::Ping | Pulse::Wait => None,
        }
    }

    /// Sends until the queues are empty or the socket accepts no more.
    fn poll_out<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        now: Instant,
    ) -> Option<Cause> {
        for _ in 0..SENDS_MAX {
            if self.keepalive.is_asking() {
                self.note_ping(io, now);
            }
            if !self.has_something_to_send(io) {
                return None;
            }
            if io.outbox.is_empty() {
                self.push_control(&mut io.outbox);
                if let Some(cause) = self.pull(cx, &mut io.outbox, now) {
                    return Some(cause);
                }
            }
            let was_empty = io.outbox.is_empty();
            let messages = io.outbox.messages();
            match io.poll_send(self.app().metrics(), now) {
                Poll::Ready(Ok(())) if was_empty => return None,
                Poll::Ready(Ok(())) => self.member().egress.tap_reporter.written(messages),
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Pending => return None,
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Whether the outbox holds bytes or a flush is due, or the client may have something to
    /// receive.
    #[inline]
    fn has_something_to_send<S>(&self, io: &ConnectionIo<S>) -> bool {
        let has_control =
            !self.pongs.is_empty() || self.notice.is_some() || self.keepalive.is_asking();
        !io.outbox.is_settled() || has_control || !self.is_at_rest()
    }

    /// Starts the time for the answer to a ping when the socket has accepted the ping; until then
    /// `write_timeout` bounds the write.
    #[cold]
    fn note_ping<S>(&mut self, io: &ConnectionIo<S>, now: Instant) {
        if io.outbox.is_settled() && self.keepalive.written(now) {
            self.is_timed_anew = true;
        }
    }

    fn push_control(&mut self, outbox: &mut Outbox) {
        self.pongs.pay(outbox);
        if let Some(frame) = self.notice.take() {
            outbox.push_notice(&frame);
        }
        if self.keepalive.is_due() {
            self.keepalive.sent();
            outbox.push_control(ControlKind::Ping, &ControlPayload::EMPTY);
            self.app().metrics().pings.add(1);
        }
    }
}

fn lost(error: &io::Error) -> Cause {
    Cause::Lost(error.kind())
}
