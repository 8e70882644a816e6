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
use crate::backlog::Account;
use crate::bus::ClientId;
use crate::metrics::{CloseReason, Metrics};
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime, Sleep};
use crate::wire::CloseCode;

mod admission;
mod age;
mod author;
mod cause;
mod closing;
mod dialect;
mod encoding;
mod expiry;
mod feed;
mod inlet;
mod intake;
mod keepalive;
mod open;
mod outbox;
mod pongs;
mod renewal;
mod teller;

pub use self::admission::{Admission, AdmitError};
pub use self::cause::Cause;
pub use self::dialect::Dialect;
pub use self::expiry::{Expiry, Good};
pub use self::keepalive::{Keepalive, Pulse};

use self::closing::Closing;
use self::inlet::Inlet;
use self::open::Open;
use self::outbox::Outbox;
use self::teller::Teller;

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
    account: Account,
    timer: Timer,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a session is open for nearly all of its life"
)]
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
            inlet: Inlet::new(
                admission.message_bytes,
                admission.inflation(),
                app.scratch(),
            ),
            outbox: Outbox::default(),
            stuck_since: None,
        };
        Self {
            account: app.account(admission.client()),
            phase: Phase::Open(Open::new(admission)),
            app,
            link,
            timer: Timer::default(),
        }
    }

    /// The close code that its peer is sent, or has sent, once it closes.
    ///
    /// None where nothing is said.
    pub fn code(&self) -> Option<CloseCode> {
        match &self.phase {
            Phase::Closing(closing) => closing.code(),
            Phase::Open(_) => None,
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
                Phase::Open(open) => match open.poll_held(cx, &mut this.link, &mut this.account) {
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
                    // Told to go, it goes: this only counts.
                    let _told = this.account.poll_hold(cx, this.link.held());
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
        let reason = match &mut self.phase {
            Phase::Closing(closing) => closing.cause().reason(),
            Phase::Open(open) => {
                open.abandon();
                CloseReason::Dropped
            }
        };
        let unsent = self.link.outbox.abandon(metrics);
        let teller = Teller::new(self.app.bus().clone(), ClientId::new(self.account.client()));
        teller.lost(unsent, "unsent");
        metrics.closed.add(reason);
    }
}

impl<S> Link<S> {
    /// Bytes on their way through it.
    fn held(&self) -> usize {
        self.inlet.held() + self.outbox.len()
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
        let sent = self.outbox.poll_send(cx, &mut self.stream, metrics, now);
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
                Some((at, sleep)) if *at <= deadline || planted::is(Bug::DeadlineNotMoved) => {
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
