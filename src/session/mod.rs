//! A session: one client's socket, bridged to the bus by one task.
//!
//! ```text
//!   socket -> Inlet -> one message at hand -> Publisher -> service:from-ws-to-service
//!   socket <- Outbox <- Feed <-+- this client's <--------- service:from-service-to-ws:42
//!                              +- everybody's <----------- service:from-service-to-ws
//! ```
//!
//! One poll serves both directions, and whatever cannot be done at once has a deadline. The only
//! wait of one for the other is that questions wait a while for the answers to earlier ones to be
//! sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};

use crate::app::App;
use crate::metrics::Metrics;
use crate::rt::{Instant, Runtime, Sleep};

mod admission;
mod cause;
mod closing;
mod feed;
mod inlet;
mod keepalive;
mod open;
mod outbox;

pub use self::admission::{Admission, AdmitError};
pub use self::cause::Cause;
pub use self::keepalive::{Keepalive, Pulse};

use self::closing::Closing;
use self::inlet::Inlet;
use self::open::Open;
use self::outbox::Outbox;

/// One connected client, from its admission to the end of its stream.
///
/// A future that is ready with the reason it ended.
///
/// # Cancel safety
///
/// Dropping it drops the connection without a close handshake, leaves the service, unsubscribes and
/// counts what was not delivered.
#[must_use = "a session does nothing until it is polled"]
pub struct Session<S, R: Runtime> {
    app: App<R>,
    link: Link<S>,
    phase: Phase<R>,
    timer: Timer,
}

enum Phase<R: Runtime> {
    Closing(Closing),
    Open(Open<R>),
}

/// The socket and what is on its way through it.
struct Link<S> {
    stream: S,
    inlet: Inlet,
    outbox: Outbox,
    /// Since when the socket takes nothing.
    stuck_since: Option<Instant>,
}

impl<S, R: Runtime> Unpin for Session<S, R> where S: Unpin {}

impl<S, R> Session<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Runtime,
{
    /// Connects an admitted client to the byte stream that follows its upgrade.
    pub fn new(admission: Admission<R>, stream: S) -> Self {
        let app = admission.app().clone();
        app.metrics().opened.add(1);
        let link = Link {
            stream,
            inlet: Inlet::new(app.limits().message_bytes),
            outbox: Outbox::default(),
            stuck_since: None,
        };
        Self {
            phase: Phase::Open(Open::new(admission)),
            app,
            link,
            timer: Timer::default(),
        }
    }
}

impl<S, R> Future for Session<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Runtime,
{
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = self.get_mut();
        loop {
            let now = this.app.rt().now();
            let deadline = match &mut this.phase {
                Phase::Open(open) => match open.poll(cx, &mut this.link, now) {
                    Poll::Ready(cause) => {
                        let closing = open.close(cause, now);
                        this.phase = Phase::Closing(closing);
                        continue;
                    }
                    Poll::Pending => open.deadline(&this.link, now),
                },
                Phase::Closing(closing) => {
                    let metrics = this.app.metrics();
                    if closing.poll(cx, &mut this.link, metrics, now).is_ready() {
                        return Poll::Ready(closing.cause().clone());
                    }
                    closing.deadline()
                }
            };
            // What may have become due is dealt with by polling the phase again.
            if this.timer.poll(cx, this.app.rt(), deadline).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S, R: Runtime> Drop for Session<S, R> {
    fn drop(&mut self) {
        let metrics = self.app.metrics();
        if let Phase::Open(open) = &mut self.phase {
            open.abandon();
        }
        self.link.outbox.abandon(metrics);
        metrics.closed.add(1);
    }
}

impl<S: AsyncWrite + Unpin> Link<S> {
    /// Writes and flushes what is in the outbox.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        let before = self.outbox.written();
        let sent = self.outbox.poll_send(cx, &mut self.stream, metrics);
        if sent.is_ready() {
            self.stuck_since = None;
        } else if self.stuck_since.is_none() || self.outbox.written() != before {
            self.stuck_since = Some(now);
        }
        sent
    }
}

/// One timer, armed for the earliest deadline it was asked for.
///
/// A deadline that moves away leaves the timer as it is: it fires early, nothing is found due, and
/// it is armed anew. So a busy session does not touch its timer at all.
#[derive(Default)]
struct Timer {
    armed: Option<(Instant, Sleep)>,
}

impl Timer {
    /// Ready once it has fired, which may be before `deadline`.
    fn poll<R: Runtime>(&mut self, cx: &mut Context<'_>, rt: &R, deadline: Instant) -> Poll<()> {
        loop {
            match &mut self.armed {
                Some((at, sleep)) if *at <= deadline => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.armed = None;
                    return Poll::Ready(());
                }
                Some(_) | None => self.armed = Some((deadline, rt.sleep_until(deadline))),
            }
        }
    }
}
