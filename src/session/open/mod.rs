//! The phase in which a session serves its client.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::io::AsyncWrite;

use self::leaving::Leaving;
use crate::admission::backlog::Account;
use crate::fan_out::Sink;
use crate::limits::SlowConsumer;
use crate::planted::{self, Bug};
use crate::registry::Status;
use crate::rt::{Instant, Runtime};
use crate::session::admission::{Admission, Membership};
use crate::session::age::{Age, TooOld};
use crate::session::cause::Cause;
use crate::session::closing::Closing;
use crate::session::connection_io::ConnectionIo;
use crate::session::expiry::{Expiry, Good};
use crate::session::keepalive::{Keepalive, Pulse};
use crate::session::outbox::Outbox;
use crate::session::pending_inbound::PendingInbound;
use crate::session::pongs::Pongs;
use crate::session::rate_limits::RateLimits;
use crate::session::renewal::Renewal;
use crate::session::socket::Socket;
use crate::wire::{ControlKind, ControlPayload, Frame};

mod inbound;
mod leaving;
mod requests;

/// Writes in one poll before other tasks may run.
const SENDS_MAX: usize = 16;

pub(super) struct Open<R: Runtime> {
    /// `None` once the session closes.
    admission: Option<Membership<R>>,
    status: Status,
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
    pending_inbound: Option<Box<PendingInbound>>,
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
        let inbound = admission.inbound;
        let admission = admission.membership;
        let (limits, rt) = (&admission.limits, admission.app().rt());
        let now = rt.now();
        Self {
            status: Status::Waiting,
            leaving: None,
            keepalive: Keepalive::new(now),
            age: Age::new(limits.age, now, rt),
            rate_limits: RateLimits::new(inbound, now),
            expiry: Expiry::new(admission.sender.identity(), rt.wall(), now),
            renewal: Renewal::default(),
            notice: None,
            paused: None,
            admission: Some(admission),
            pending_inbound: None,
            pongs: Pongs::default(),
            is_timed_anew: true,
        }
    }

    /// Lends the subscription to a fan-out, if the session has nothing else to write for a while.
    pub(super) fn join_fan_out(&mut self, sink: Arc<dyn Sink>) {
        let admission = self.admission_mut();
        admission
            .egress
            .join_fan_out(admission.app.fan_outs(), sink);
    }

    /// Whether the session qualifies for a fan-out.
    #[inline]
    pub(super) fn may_join(&self) -> bool {
        self.admission().egress.broadcast.may_join()
    }

    /// Takes the subscription back from the fan-out.
    pub(super) fn take_back(&mut self) {
        if let Some(admission) = &mut self.admission {
            admission.egress.broadcast.take_back();
        }
    }

    /// Forgets which task is parked, because another task polls the session from now on.
    pub(super) fn moved(&mut self) {
        if let Some(admission) = &mut self.admission {
            admission.egress.moved();
            admission.lease.moved();
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
        let pending_inbound = self
            .pending_inbound
            .as_ref()
            .map_or(0, |pending_inbound| pending_inbound.batch.bytes());
        let answers = match &mut self.admission {
            // With an empty outbox no message to this client is waiting.
            Some(admission) if !io.outbox.is_empty() => admission.egress.watch(cx),
            Some(_) | None => 0,
        };
        let held = io.held() + pending_inbound + answers;
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
            let timeout = self.admission().limits.message_timeout;
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
        self.pending_inbound.is_some()
            || self.paused.is_some()
            || io.stuck_since.is_some()
            || self.leaving.is_some()
            || self.keepalive.is_asking()
            || !self.renewal.is_none()
            || !io.frame_reader.is_empty()
            || self.admission().egress.encoder.answered_by().is_some()
    }

    /// Whether the client is being read.
    fn hears(&self) -> bool {
        self.pending_inbound.is_none() && self.paused.is_none() && self.renewal.is_none()
    }

    /// The next deadline of the session.
    pub(super) fn deadline<S>(&mut self, io: &ConnectionIo<S>, now: Instant) -> Instant {
        self.is_timed_anew = false;
        let first = self.keepalive.deadline(&self.admission().limits.keepalive);
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
        let limits = &self.admission().limits;
        let held = self
            .pending_inbound
            .as_ref()
            .map(|pending_inbound| pending_inbound.since);
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
        let answered_by = self.admission().egress.encoder.answered_by();
        let own = [self.paused, leaves, whole, answered_by];
        own.into_iter().chain([taken, answered, written, renewed])
    }

    /// Leaves the service and starts the close handshake.
    pub(super) fn close(&mut self, cause: Cause, now: Instant) -> Closing<R> {
        self.admission().egress.tap_reporter.closing(&cause);
        self.abandon();
        self.take_back();
        let admission = self.admission.take().expect("a session closes once");
        Closing::new(cause, admission, now)
    }

    /// Counts the messages at hand as lost: the service will not receive them.
    pub(super) fn abandon(&mut self) {
        if let Some(pending_inbound) = self.pending_inbound.take()
            && !planted::is(Bug::PendingNotCounted)
        {
            self.not_taken(pending_inbound.batch.len());
        }
    }

    /// Counts `messages` messages as lost before the service took them.
    fn not_taken(&self, messages: usize) {
        let messages = messages as u64;
        self.admission()
            .app()
            .metrics()
            .lost_not_taken
            .add(messages);
        self.admission()
            .egress
            .tap_reporter
            .lost(messages, "not_taken");
    }

    fn admission(&self) -> &Membership<R> {
        self.admission
            .as_ref()
            .expect("an open session has its admission")
    }

    fn admission_mut(&mut self) -> &mut Membership<R> {
        self.admission
            .as_mut()
            .expect("an open session has its admission")
    }

    /// Whether the status of the service is unchanged, and the application does not drain.
    #[inline]
    fn is_status_quiet(&self) -> bool {
        self.leaving.is_none() && self.admission().lease.is_quiet()
    }

    /// Takes in changes of the service's status; returns a cause if the client is to leave.
    fn poll_status(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        while !admission.lease.is_quiet()
            && let Poll::Ready(status) = admission.lease.poll_status(cx, self.status)
        {
            self.status = status;
            match status {
                Status::Draining(_) if self.leaving.is_none() => {
                    self.leaving = Some(Box::new(Leaving::new(admission.app.leave())));
                }
                Status::Draining(_) | Status::Running(_) | Status::Waiting => {}
                Status::Failed => return Some(Cause::Failed),
            }
            if let Some(generation) = status.generation() {
                if let Some(since) = admission.waits_since.take() {
                    let waited = admission.app.rt().now().saturating_since(since);
                    admission.app.metrics().running_after.observe(waited);
                }
                admission.egress.encoder.runs(generation);
            }
        }
        None
    }

    /// Handles the deadlines that have come by `now`.
    fn on_time<S: Socket>(&mut self, io: &ConnectionIo<S>, now: Instant) -> Option<Cause> {
        let limits = &self.admission().limits;
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
        if let Some(pending_inbound) = &self.pending_inbound {
            if since(pending_inbound.since) >= limits.accept_timeout {
                return Some(Cause::Stalled);
            }
            if !planted::is(Bug::ExcuseForgotten) {
                self.keepalive.excuse(now);
            }
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
        let admission = self.admission.as_ref();
        let admission = admission.expect("an open session has its admission");
        match self.keepalive.on_time(&admission.limits.keepalive, now) {
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
                if let Some(cause) = self.admission_mut().egress.take_close() {
                    return Some(cause);
                }
            }
            let was_empty = io.outbox.is_empty();
            let messages = io.outbox.messages();
            match io.poll_send(self.admission().app().metrics(), now) {
                Poll::Ready(Ok(())) if was_empty => return None,
                Poll::Ready(Ok(())) => self.admission().egress.tap_reporter.written(messages),
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
        !io.outbox.is_settled() || has_control || !self.admission().egress.is_at_rest()
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
            self.admission().app().metrics().pings.add(1);
        }
    }

    fn pull(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, now: Instant) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        let lost = admission.egress.pull(cx, outbox, admission.app.metrics());
        if outbox.has_messages() {
            self.age.active(now);
        }
        match admission.egress.slow_consumer {
            SlowConsumer::Close if planted::is(Bug::SlowConsumerKept) => None,
            SlowConsumer::Close if lost > 0 => Some(Cause::SlowConsumer(lost)),
            SlowConsumer::Close
            | SlowConsumer::Latest
            | SlowConsumer::Recover
            | SlowConsumer::Skip => None,
        }
    }
}

fn lost(error: &io::Error) -> Cause {
    Cause::Lost(error.kind())
}
