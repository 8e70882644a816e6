//! A session's socket: what is read from it and written to it, by the session or by its fan.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::io::{AsyncRead, AsyncWrite};

use super::bell::Bell;
use super::inlet::{Inbound, Inlet};
use super::outbox::Outbox;
use crate::bus::Burst;
use crate::fan::{Follower, Given};
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::sync::Mutex;

/// The socket and what is on its way through it.
pub(super) struct Link<S> {
    pub(super) stream: S,
    pub(super) inlet: Inlet,
    pub(super) outbox: Outbox,
    /// Since when the socket takes nothing.
    pub(super) stuck_since: Option<Instant>,
    pub(super) bell: Arc<Bell>,
    /// What the socket wakes: the bell.
    rope: Waker,
    /// Whether the socket is to tell when there is something to read.
    listens: bool,
    /// When a fan has written to it last, since the session looked.
    pub(super) given: Option<Instant>,
    /// Whether a fan writes to it no more, which the session does not know yet.
    pub(super) is_released: bool,
}

impl<S> Link<S> {
    pub(super) fn new(stream: S, inlet: Inlet) -> Self {
        let bell = Bell::new();
        Self {
            stream,
            inlet,
            outbox: Outbox::default(),
            stuck_since: None,
            rope: Waker::from(Arc::clone(&bell)),
            bell,
            listens: false,
            given: None,
            is_released: false,
        }
    }

    /// Bytes on their way through it.
    pub(super) fn held(&self) -> usize {
        self.inlet.held() + self.outbox.len()
    }
}

impl<S: AsyncRead + Unpin> Link<S> {
    /// The next event; a socket that has not told of any is not asked.
    pub(super) fn poll_next(&mut self, bytes_max: usize) -> Poll<io::Result<Inbound>> {
        if let Some(inbound) = self.inlet.next() {
            return Poll::Ready(Ok(inbound));
        }
        let is_told = self.bell.has_rung() && !planted::is(Bug::BellUnheard);
        if self.listens && !is_told {
            return Poll::Pending;
        }
        self.bell.hush();
        let mut cx = Context::from_waker(&self.rope);
        let inbound = self.inlet.poll_read(&mut cx, &mut self.stream, bytes_max);
        self.listens = inbound.is_pending();
        inbound
    }
}

impl<S: AsyncWrite + Unpin> Link<S> {
    /// Writes and flushes what is in the outbox.
    pub(super) fn poll_send(&mut self, metrics: &Metrics, now: Instant) -> Poll<io::Result<()>> {
        let before = self.outbox.written();
        let mut cx = Context::from_waker(&self.rope);
        let stream = &mut self.stream;
        let sent = self.outbox.poll_send(&mut cx, stream, metrics, now);
        if sent.is_ready() {
            self.stuck_since = None;
        } else if planted::is(Bug::WriteNeverStuck) {
            return sent;
        } else if self.stuck_since.is_none()
            || (self.outbox.written() != before && !planted::is(Bug::ProgressIgnored))
        {
            self.stuck_since = Some(now);
        }
        sent
    }
}

impl<S: AsyncWrite + Unpin + Send> Follower for Mutex<Link<S>> {
    fn give(&self, burst: &Arc<Burst>, metrics: &Metrics, now: Instant) -> Given {
        let mut link = self.lock();
        link.outbox.add(burst);
        link.given = Some(now);
        match link.poll_send(metrics, now) {
            Poll::Ready(Ok(())) => Given::Whole,
            // An error is met by its session again.
            Poll::Ready(Err(_)) | Poll::Pending => Given::Behind,
        }
    }

    fn release(&self) {
        self.lock().is_released = true;
    }

    fn ring(&self) {
        let bell = Arc::clone(&self.lock().bell);
        if !planted::is(Bug::ReleaseNotRung) {
            bell.wake_by_ref();
        }
    }
}
