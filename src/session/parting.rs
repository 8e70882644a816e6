//! The messages that a session which ends still sends: those published by then, and the answers of
//! its service to what its client had said before.

use std::io;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use super::feed::Feed;
use super::link::Link;
use crate::bus::Publisher;
use crate::metrics::Metrics;
use crate::registry::Lease;
use crate::rt::{Instant, Runtime};

/// The feed of a client that leaves, which stays with its service for the answers.
pub(super) struct Parting<R: Runtime> {
    feed: Feed,
    /// `None` once there are no more.
    answers: Option<Answers<R>>,
}

/// Answers that the service may still give.
pub(super) struct Answers<R: Runtime> {
    /// The service runs for the client until they are there.
    _lease: Lease<R>,
    publisher: Publisher,
    until: Instant,
}

impl<R: Runtime> Answers<R> {
    /// Those to what was published by this publisher, until then at the latest.
    pub(super) fn new(lease: Lease<R>, publisher: Publisher, until: Instant) -> Self {
        Self {
            _lease: lease,
            publisher,
            until,
        }
    }

    /// Ready once the service has had its turn, or its time is over.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if now >= self.until {
            return Poll::Ready(());
        }
        self.publisher.poll_turn(cx)
    }
}

impl<R: Runtime> Parting<R> {
    pub(super) fn new(feed: Feed, answers: Option<Answers<R>>) -> Self {
        Self { feed, answers }
    }

    /// Tells what the client will not get because it is dropped.
    pub(super) fn tell_unread(&self) {
        self.feed.tell_unread();
    }

    /// Until when it waits for its service, if it does.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.answers.as_ref().map(|answers| answers.until)
    }

    /// From now on another task polls it.
    pub(super) fn moved(&mut self) {
        self.feed.moved();
    }

    /// Ready once there is nothing more to be sent, and all of it is.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        (metrics, now): (&Metrics, Instant),
    ) -> Poll<io::Result<()>> {
        // First: the feed has by then what the service has said.
        if let Some(answers) = &mut self.answers
            && answers.poll(cx, now).is_ready()
        {
            self.answers = None;
        }
        ready!(self.poll_feed(cx, link, (metrics, now)))?;
        if self.answers.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what was published to the client.
    fn poll_feed<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        (metrics, now): (&Metrics, Instant),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(link.poll_send(metrics, now))?;
            self.feed.pull(cx, &mut link.outbox, metrics);
            if link.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
