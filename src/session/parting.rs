//! The messages that an ending session still sends: those published by then, and the answers of its
//! service to the client's earlier messages.

use std::io;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use super::connection_io::ConnectionIo;
use super::egress::Egress;
use crate::bus::Publisher;
use crate::metrics::Metrics;
use crate::registry::Lease;
use crate::rt::{Instant, Runtime};

/// The egress of a client that leaves, which stays with its service for the answers.
pub(super) struct Parting<R: Runtime> {
    egress: Egress,
    /// `None` once no more answers are awaited.
    answers: Option<Answers<R>>,
}

/// Answers that the service may still give.
pub(super) struct Answers<R: Runtime> {
    /// Keeps the service running for the client until the answers are there.
    _lease: Lease<R>,
    publisher: Publisher,
    until: Instant,
}

impl<R: Runtime> Answers<R> {
    /// The answers to the messages of this publisher, until `until` at the latest.
    pub(super) fn new(lease: Lease<R>, publisher: Publisher, until: Instant) -> Self {
        Self {
            _lease: lease,
            publisher,
            until,
        }
    }

    /// Ready once the service has received the messages and asked for more, or the deadline has
    /// passed.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if now >= self.until {
            return Poll::Ready(());
        }
        self.publisher.poll_processed(cx)
    }
}

impl<R: Runtime> Parting<R> {
    pub(super) fn new(egress: Egress, answers: Option<Answers<R>>) -> Self {
        Self { egress, answers }
    }

    /// Reports to the taps the messages that the client misses because the egress is dropped.
    pub(super) fn tell_unread(&self) {
        self.egress.tell_unread();
    }

    /// The deadline of the answers, if they are awaited.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.answers.as_ref().map(|answers| answers.until)
    }

    /// Forgets which task is parked, because another task polls from now on.
    pub(super) fn moved(&mut self) {
        self.egress.moved();
    }

    /// Ready once no more messages are to come and all of them are sent.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        // Poll the answers first: when they are complete, the egress below already has all of them.
        if let Some(answers) = &mut self.answers
            && answers.poll(cx, now).is_ready()
        {
            self.answers = None;
        }
        ready!(self.poll_egress(cx, io, metrics, now))?;
        if self.answers.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the messages published to the client.
    fn poll_egress<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(io.poll_send(metrics, now))?;
            self.egress.pull(cx, &mut io.outbox, metrics);
            if io.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
