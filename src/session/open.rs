//! The phase in which a session serves its client.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};

use super::Link;
use super::admission::{Admission, Membership};
use super::age::{Age, TooOld};
use super::cause::Cause;
use super::closing::Closing;
use super::dialect::{self, Heard};
use super::expiry::{Expiry, Good};
use super::inlet::Inbound;
use super::intake::{Intake, Within};
use super::keepalive::{Keepalive, Pulse};
use super::outbox::Outbox;
use super::pongs::Pongs;
use super::renewal::Renewal;
use crate::authorize::Denied;
use crate::backlog::Account;
use crate::bus::{Message, Origin};
use crate::limits::SlowConsumer;
use crate::planted::{self, Bug};
use crate::registry::Status;
use crate::rt::{Instant, Runtime};
use crate::wire::{ControlKind, ControlPayload, Event, Frame};

/// Writes in one poll before other tasks may run.
const SENDS_MAX: usize = 16;

pub(super) struct Open<R: Runtime> {
    /// `None` once the session closes.
    admission: Option<Membership<R>>,
    status: Status,
    /// When it leaves, because the application drains.
    leaves_at: Option<Instant>,
    keepalive: Keepalive,
    expiry: Expiry,
    renewal: Renewal,
    /// What the client is still to be told about its token.
    notice: Option<Box<Frame>>,
    age: Age,
    intake: Intake,
    /// Until when the client is not read, because it has sent what it may.
    paused: Option<Instant>,
    at_hand: Option<Box<AtHand>>,
    pongs: Pongs,
    ping: Ping,
}

/// A message the service has not taken yet.
struct AtHand {
    message: Message,
    since: Instant,
}

/// Whether the peer is to be pinged as soon as the socket is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    Due,
    NotDue,
}

/// Whether the session may go on reading.
enum Taken {
    No,
    Yes,
}

impl<R: Runtime> Open<R> {
    pub(super) fn new(admission: Admission<R>) -> Self {
        let inbound = admission.inbound;
        let admission = admission.membership;
        let (limits, rt) = (&admission.limits, admission.app().rt());
        let now = rt.now();
        Self {
            status: Status::Waiting,
            leaves_at: None,
            keepalive: Keepalive::new(limits.keepalive, now),
            age: Age::new(limits.age, now, rt),
            intake: Intake::new(inbound, now),
            expiry: Expiry::new(admission.author.identity(), rt.wall(), now),
            renewal: Renewal::default(),
            notice: None,
            paused: None,
            admission: Some(admission),
            at_hand: None,
            pongs: Pongs::default(),
            ping: Ping::NotDue,
        }
    }

    /// Serves the client until there is a cause to close, and tells what is held for it.
    pub(super) fn poll_held<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        account: &mut Account,
    ) -> Poll<Cause> {
        let now = self.admission().app().rt().now();
        if let Poll::Ready(cause) = self.poll(cx, link, now) {
            return Poll::Ready(cause);
        }
        let at_hand = self
            .at_hand
            .as_ref()
            .map_or(0, |at_hand| at_hand.message.len());
        let answers = match &mut self.admission {
            // Otherwise there is none that is not sent.
            Some(admission) if !link.outbox.is_empty() => admission.feed.watch(cx),
            Some(_) | None => 0,
        };
        let held = link.held() + at_hand + answers;
        account.poll_hold(cx, held).map(|()| Cause::Shed)
    }

    /// Serves the client until there is a cause to close.
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Poll<Cause> {
        if let Some(cause) = self.poll_status(cx, now) {
            return Poll::Ready(cause);
        }
        if let Some(cause) = self.poll_out(cx, link, now) {
            return Poll::Ready(cause);
        }
        if let Some(cause) = self.poll_in(cx, link, now) {
            return Poll::Ready(cause);
        }
        // Only now: after a pause of the whole machine everything is overdue, and most of it goes.
        if let Some(cause) = self.on_time(link, now) {
            return Poll::Ready(cause);
        }
        // A ping that is due is sent by the poll that the timer, having fired, asks for.
        let cause = if !self.pongs.is_empty() || self.notice.is_some() {
            self.poll_out(cx, link, now)
        } else {
            None
        };
        cause.map_or(Poll::Pending, Poll::Ready)
    }

    /// The next moment at which something is due even if nothing happens.
    pub(super) fn deadline<S>(&self, link: &Link<S>, now: Instant) -> Instant {
        let limits = &self.admission().limits;
        let held = self.at_hand.as_ref().map(|at_hand| at_hand.since);
        let taken = held.map(|since| since + limits.accept_timeout);
        // Once it is over, the message waits for nothing but the service.
        let answered = held.map(|since| since + limits.answers_timeout);
        let answered = answered.filter(|deadline| now < *deadline);
        let written = link.stuck_since.map(|since| since + limits.write_timeout);
        let deadlines = [
            Some(self.keepalive.deadline()),
            self.expiry.deadline(),
            self.renewal.deadline(),
            self.age.deadline(),
            self.paused,
            self.leaves_at,
            taken,
            answered,
            written,
        ];
        deadlines
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| self.keepalive.deadline())
    }

    /// Leaves the service and says goodbye.
    pub(super) fn close(&mut self, cause: Cause, now: Instant) -> Closing {
        self.admission().feed.teller.closing(&cause);
        self.abandon();
        let admission = self.admission.take().expect("a session closes once");
        Closing::new(cause, admission, now)
    }

    /// Counts the message that its service will not get.
    pub(super) fn abandon(&mut self) {
        if self.at_hand.take().is_some() && !planted::is(Bug::AtHandNotCounted) {
            self.admission().app().metrics().lost_not_taken.add(1);
            self.admission().feed.teller.lost(1, "not_taken");
        }
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

    /// Whether the service, or the application, wants the client to leave.
    fn poll_status(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        while let Poll::Ready(status) = admission.lease.poll_status(cx, self.status) {
            self.status = status;
            match status {
                Status::Draining(_) if self.leaves_at.is_none() => {
                    self.leaves_at = Some(admission.app.leaves_at());
                }
                Status::Draining(_) | Status::Running(_) | Status::Waiting => {}
                Status::Failed => return Some(Cause::Failed),
            }
            if let Some(generation) = status.generation() {
                if let Some(since) = admission.waits_since.take() {
                    let waited = admission.app.rt().now().saturating_since(since);
                    admission.app.metrics().running_after.observe(waited);
                }
                admission.feed.voice.runs(generation);
            }
        }
        let leaves = self.leaves_at.is_some_and(|at| now >= at);
        leaves.then_some(Cause::Drained)
    }

    /// Does what is due at `now`.
    fn on_time<S>(&mut self, link: &Link<S>, now: Instant) -> Option<Cause> {
        let limits = Arc::clone(&self.admission().limits);
        let since = |start: Instant| now.saturating_since(start);
        if link
            .stuck_since
            .is_some_and(|start| since(start) >= limits.write_timeout)
        {
            return Some(Cause::Unwritable);
        }
        if let Some(at_hand) = &self.at_hand {
            if since(at_hand.since) >= limits.accept_timeout {
                return Some(Cause::Stalled);
            }
            if !planted::is(Bug::ExcuseForgotten) {
                self.keepalive.excuse();
            }
        }
        if self.paused.is_some() || self.renewal.deadline().is_some() {
            self.keepalive.excuse();
        }
        match self.age.on_time(now) {
            Some(TooOld::Aged) => return Some(Cause::Aged),
            Some(TooOld::Idle) => return Some(Cause::Idle),
            None => {}
        }
        if self.ping == Ping::Due {
            // It waits behind what is being written; `write_timeout` sees to that.
            self.keepalive.excuse();
        }
        match self.expiry.at(now) {
            Good::No => return Some(Cause::Expired),
            Good::Yes => {}
        }
        match self.keepalive.on_time(now) {
            Pulse::Dead => Some(Cause::Silent),
            Pulse::Ping => {
                self.ping = if planted::is(Bug::PingNotSent) {
                    Ping::NotDue
                } else {
                    Ping::Due
                };
                None
            }
            Pulse::Wait => None,
        }
    }

    /// Sends what is due until there is nothing more or the socket takes no more.
    fn poll_out<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Option<Cause> {
        for _ in 0..SENDS_MAX {
            if link.outbox.is_empty() {
                self.push_control(&mut link.outbox);
                if let Some(cause) = self.pull(cx, &mut link.outbox, now) {
                    return Some(cause);
                }
            }
            let was_empty = link.outbox.is_empty();
            let messages = link.outbox.messages();
            match link.poll_send(cx, self.admission().app().metrics(), now) {
                Poll::Ready(Ok(())) if was_empty => return None,
                Poll::Ready(Ok(())) => self.admission().feed.teller.written(messages),
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Pending => return None,
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn push_control(&mut self, outbox: &mut Outbox) {
        self.pongs.pay(outbox);
        if let Some(frame) = self.notice.take() {
            outbox.push_notice(&frame);
        }
        if std::mem::replace(&mut self.ping, Ping::NotDue) == Ping::Due {
            outbox.push_control(ControlKind::Ping, &ControlPayload::EMPTY);
            self.admission().app().metrics().pings.add(1);
        }
    }

    fn pull(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, now: Instant) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        let lost = admission.feed.pull(cx, outbox, admission.app.metrics());
        if outbox.has_messages() {
            self.age.active(now);
        }
        match admission.slow_consumer {
            SlowConsumer::Close if planted::is(Bug::SlowConsumerKept) => None,
            SlowConsumer::Close if lost > 0 => Some(Cause::SlowConsumer(lost)),
            SlowConsumer::Close | SlowConsumer::Latest | SlowConsumer::Skip => None,
        }
    }

    /// Reads until the socket has nothing more, the service takes no more, or it is others' turn.
    fn poll_in<S: AsyncRead + AsyncWrite + Unpin>(
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
            let inbound = match link.inlet.poll_next(cx, &mut link.stream, allowance) {
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
                Within::Yes => self.pongs.owe(payload),
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

fn lost(error: &io::Error) -> Cause {
    Cause::Lost(error.kind())
}
