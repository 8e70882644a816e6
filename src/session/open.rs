//! The phase in which a session serves its client.

use std::io;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};

use super::admission::Admission;
use super::cause::Cause;
use super::closing::Closing;
use super::inlet::Inbound;
use super::keepalive::{Keepalive, Pulse};
use super::{Link, outbox::Outbox};
use crate::bus::{Message, Origin};
use crate::limits::SlowConsumer;
use crate::registry::Status;
use crate::rt::{Instant, Runtime};
use crate::wire::{ControlKind, ControlPayload, Event, Frame};

/// Writes in one poll before other tasks may run.
const SENDS_MAX: usize = 16;

pub(super) struct Open<R: Runtime> {
    /// `None` once the session closes.
    admission: Option<Admission<R>>,
    status: Status,
    keepalive: Keepalive,
    at_hand: Option<AtHand>,
    /// The peer's last ping, still to be answered: earlier ones need no answer (RFC 6455 5.5.3).
    pong: Option<Box<ControlPayload>>,
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
        let app = admission.app();
        Self {
            status: Status::Waiting,
            keepalive: Keepalive::new(app.limits().keepalive, app.rt().now()),
            admission: Some(admission),
            at_hand: None,
            pong: None,
            ping: Ping::NotDue,
        }
    }

    /// Serves the client until there is a cause to close.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Poll<Cause> {
        if let Some(cause) = self.poll_status(cx) {
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
        let cause = if self.pong.is_some() {
            self.poll_out(cx, link, now)
        } else {
            None
        };
        cause.map_or(Poll::Pending, Poll::Ready)
    }

    /// The next moment at which something is due even if nothing happens.
    pub(super) fn deadline<S>(&self, link: &Link<S>, now: Instant) -> Instant {
        let limits = self.admission().app().limits();
        let held = self.at_hand.as_ref().map(|at_hand| at_hand.since);
        let taken = held.map(|since| since + limits.accept_timeout);
        // Once it is over, the message waits for nothing but the service.
        let answered = held.map(|since| since + limits.answers_timeout);
        let answered = answered.filter(|deadline| now < *deadline);
        let written = link.stuck_since.map(|since| since + limits.write_timeout);
        let deadlines = [Some(self.keepalive.deadline()), taken, answered, written];
        deadlines
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| self.keepalive.deadline())
    }

    /// Leaves the service and says goodbye.
    pub(super) fn close(&mut self, cause: Cause, now: Instant) -> Closing {
        self.abandon();
        let admission = self.admission.take().expect("a session closes once");
        Closing::new(cause, admission, now)
    }

    /// Counts the message that its service will not get.
    pub(super) fn abandon(&mut self) {
        if self.at_hand.take().is_some() {
            self.admission().app().metrics().lost_not_taken.add(1);
        }
    }

    fn admission(&self) -> &Admission<R> {
        self.admission
            .as_ref()
            .expect("an open session has its admission")
    }

    /// Whether the service, or the application, wants the client to leave.
    fn poll_status(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        while let Poll::Ready(status) = admission.lease.poll_status(cx, self.status) {
            self.status = status;
            match status {
                Status::Draining => return Some(Cause::Drained),
                Status::Failed => return Some(Cause::Failed),
                Status::Running(_) | Status::Waiting => {}
            }
        }
        None
    }

    /// Does what is due at `now`.
    fn on_time<S>(&mut self, link: &Link<S>, now: Instant) -> Option<Cause> {
        let limits = self.admission().app().limits();
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
            self.keepalive.excuse();
        }
        if self.ping == Ping::Due {
            // It waits behind what is being written; `write_timeout` sees to that.
            self.keepalive.excuse();
        }
        match self.keepalive.on_time(now) {
            Pulse::Dead => Some(Cause::Silent),
            Pulse::Ping => {
                self.ping = Ping::Due;
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
                if let Some(cause) = self.pull(cx, &mut link.outbox) {
                    return Some(cause);
                }
            }
            let was_empty = link.outbox.is_empty();
            match link.poll_send(cx, self.admission().app().metrics(), now) {
                Poll::Ready(Ok(())) if was_empty => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Pending => return None,
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn push_control(&mut self, outbox: &mut Outbox) {
        if let Some(payload) = self.pong.take() {
            outbox.push_control(ControlKind::Pong, &payload);
        }
        if std::mem::replace(&mut self.ping, Ping::NotDue) == Ping::Due {
            outbox.push_control(ControlKind::Ping, &ControlPayload::EMPTY);
            self.admission().app().metrics().pings.add(1);
        }
    }

    fn pull(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Option<Cause> {
        let admission = self
            .admission
            .as_mut()
            .expect("an open session has its admission");
        let lost = admission.feed.pull(cx, outbox, admission.app.metrics());
        match admission.slow_consumer {
            SlowConsumer::Close if lost > 0 => Some(Cause::SlowConsumer(lost)),
            SlowConsumer::Close | SlowConsumer::Skip => None,
        }
    }

    /// Reads until the socket has nothing more, the service takes no more, or it is others' turn.
    fn poll_in<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        now: Instant,
    ) -> Option<Cause> {
        for _ in 0..self.admission().app().limits().inbound_batch.get() {
            match self.poll_hand_over(cx, now) {
                Taken::No => return None,
                Taken::Yes => {}
            }
            let inbound = match link.inlet.poll_next(cx, &mut link.stream) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(lost(&error)),
                Poll::Ready(Ok(inbound)) => inbound,
            };
            self.keepalive.heard(now);
            match inbound {
                Inbound::End => return Some(Cause::Lost(io::ErrorKind::UnexpectedEof)),
                Inbound::Violation(error) => return Some(Cause::Protocol(error)),
                Inbound::Partial | Inbound::Event(Event::Pong(_)) => {}
                Inbound::Event(Event::Ping(payload)) => self.pong = Some(Box::new(payload)),
                Inbound::Event(Event::Close(frame)) => return Some(Cause::PeerClosed(frame)),
                Inbound::Event(Event::Message(frame)) => self.take_in(frame, now),
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    fn take_in(&mut self, frame: Frame, since: Instant) {
        let admission = self.admission();
        let metrics = admission.app().metrics();
        metrics.messages_in.add(1);
        metrics.bytes_in.add(frame.len() as u64);
        let message = Message::new(frame, Origin::Client(admission.client));
        self.at_hand = Some(AtHand { message, since });
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
        let running = match self.status {
            Status::Running(_) => true,
            Status::Draining | Status::Failed | Status::Waiting => false,
        };
        if !running {
            return Taken::No;
        }
        // While answers to earlier messages wait here for the socket, further ones could only push
        // those out of their window. But not for ever: it may be the word to stop answering.
        let held = now.saturating_since(at_hand.since);
        if held < admission.app.limits().answers_timeout && admission.feed.owes_answers() {
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
