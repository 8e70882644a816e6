//! A session: one client's socket, bridged to the bus by one task.
//!
//! ```text
//!   socket -> Inlet -> messages at hand -> Publisher -> service:from-ws-to-service
//!   socket <- Outbox <- Feed <-+- this client's <--------- service:from-service-to-ws:42
//!                              +- everybody's <----------- service:from-service-to-ws
//! ```
//!
//! One poll serves both directions, and whatever cannot be done at once has a deadline. The only
//! wait of one for the other is that questions wait a while for the answers to earlier ones to be
//! sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::io::AsyncWrite;

use crate::admission::backlog::Account;
use crate::app::App;
use crate::bus::ClientId;
use crate::metrics::CloseReason;
use crate::rt::{Instant, Runtime};
use crate::sync::Mutex;
use crate::wire::CloseCode;

mod admission;
mod age;
mod arrival;
mod at_hand;
mod author;
mod cause;
mod closing;
mod dialect;
mod encoding;
mod envelope;
mod expiry;
mod feed;
mod inlet;
mod intake;
mod keepalive;
mod link;
mod open;
mod outbox;
mod parting;
mod pongs;
mod renewal;
mod socket;
mod teller;
mod timer;
mod to_all;

pub use self::admission::{Admission, AdmitError};
pub use self::cause::Cause;
pub use self::dialect::Dialect;
pub use self::envelope::BadEnvelope;
// For the simulator and the tests.
#[doc(hidden)]
pub use self::expiry::{Expiry, Good};
#[doc(hidden)]
pub use self::keepalive::{Keepalive, Pulse};
pub use self::socket::{Plain, Socket};

use self::closing::Closing;
use self::inlet::Inlet;
use self::link::Link;
use self::open::{Due, Open};
use self::teller::Teller;
use self::timer::Timer;

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
    /// Locked after its fan.
    link: Arc<Mutex<Link<S>>>,
    phase: Phase<R>,
    account: Account,
    timer: Timer,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a session is open for nearly all of its life"
)]
enum Phase<R: Runtime> {
    Closing(Closing<R>),
    Open(Open<R>),
}

impl<S, R: Runtime> Unpin for Session<S, R> where S: Unpin {}

impl<S, R> Session<S, R>
where
    S: Socket + Unpin,
    R: Runtime,
{
    /// Connects an admitted client to the byte stream that follows its upgrade.
    pub fn new(admission: Admission<R>, stream: S) -> Self {
        let app = admission.app().clone();
        app.metrics().opened.add(1);
        let inlet = Inlet::new(admission.message_bytes, admission.inflation());
        let link = Link::new(stream, inlet);
        Self {
            account: app.account(admission.client()),
            phase: Phase::Open(Open::new(admission)),
            app,
            link: Arc::new(Mutex::new(link)),
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

impl<S, R: Runtime> Session<S, R> {
    /// Whether its last poll was of another task than the one before, or the first one.
    #[cfg(feature = "server")]
    pub(crate) fn is_moved(&self) -> bool {
        self.timer.is_moved
    }

    /// Has everything it waits for wake this task, and none that polled it before.
    #[cold]
    fn moved(&mut self, task: &Waker) {
        self.timer.moved();
        let mut link = self.link.lock();
        let before = std::mem::replace(&mut link.task, task.clone());
        link.is_asked = false;
        drop(link);
        drop(before);
        match &mut self.phase {
            Phase::Closing(closing) => closing.moved(),
            Phase::Open(open) => open.moved(),
        }
    }
}

/// What a poll of a phase has come to.
enum Polled {
    Close(Cause),
    Done(Cause),
    /// Nothing is due sooner than it was before.
    Early,
    /// It was another task that polled it before.
    Moved,
    /// A fan writes to it no more.
    Released,
    /// Something is due then at the latest.
    Until(Instant),
}

impl<S, R> Future for Session<S, R>
where
    S: Socket + Unpin + Send + 'static,
    R: Runtime,
{
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = self.get_mut();
        this.timer.is_moved = false;
        // Before it receives what its fan has not received yet, or once it has received as much.
        this.follow();
        let mut now = this.app.rt().now();
        loop {
            let due = if this.timer.is_quiet(now) {
                Due::Later
            } else {
                Due::Now
            };
            let deadline = match this.poll_phase(cx, (now, due)) {
                Polled::Close(cause) => {
                    this.close(cause, now);
                    continue;
                }
                Polled::Done(cause) => return Poll::Ready(cause),
                Polled::Moved => {
                    this.moved(cx.waker());
                    continue;
                }
                Polled::Released => {
                    this.take_back();
                    continue;
                }
                Polled::Early => {
                    this.follow();
                    return Poll::Pending;
                }
                Polled::Until(deadline) => deadline,
            };
            // What may have become due is dealt with by polling the phase again.
            let due = (deadline, now);
            if this.timer.poll(cx, this.app.rt(), due).is_pending() {
                this.follow();
                return Poll::Pending;
            }
            // It may have fired for a time that has come since the moment began.
            now = this.app.rt().now();
        }
    }
}

impl<S, R> Session<S, R>
where
    S: Socket + Unpin,
    R: Runtime,
{
    fn poll_phase(&mut self, cx: &mut Context<'_>, (now, due): (Instant, Due)) -> Polled {
        let mut link = self.link.lock();
        // Once in a poll: of some executors no waker is known again.
        if !self.timer.is_moved && !link.task.will_wake(cx.waker()) {
            return Polled::Moved;
        }
        if std::mem::take(&mut link.is_released) {
            return Polled::Released;
        }
        match &mut self.phase {
            Phase::Open(open) => {
                let held = (&mut *link, &mut self.account);
                match open.poll_held(cx, held, (now, due)) {
                    Poll::Ready(cause) => Polled::Close(cause),
                    Poll::Pending if open.is_early(&link, due) => Polled::Early,
                    Poll::Pending => Polled::Until(open.deadline(&link, now)),
                }
            }
            Phase::Closing(closing) => {
                let metrics = self.app.metrics();
                if closing.poll(cx, &mut link, metrics, now).is_ready() {
                    return Polled::Done(closing.cause().clone());
                }
                // Told to go, it goes: this only counts.
                let _told = self.account.poll_hold(cx, link.held());
                Polled::Until(closing.deadline())
            }
        }
    }
}

impl<S, R: Runtime> Session<S, R> {
    fn close(&mut self, cause: Cause, now: Instant) {
        match &mut self.phase {
            Phase::Closing(_) => {}
            Phase::Open(open) => {
                self.phase = Phase::Closing(open.close(cause, now));
            }
        }
    }

    /// Does without a fan again.
    fn take_back(&mut self) {
        match &mut self.phase {
            Phase::Closing(_) => {}
            Phase::Open(open) => open.take_back(),
        }
    }
}

impl<S, R> Session<S, R>
where
    S: AsyncWrite + Unpin + Send + 'static,
    R: Runtime,
{
    /// Lets a fan write what everybody gets, while there is nothing else to be written.
    #[inline]
    fn follow(&mut self) {
        match &self.phase {
            Phase::Open(open) if open.may_follow() => self.follow_now(),
            Phase::Closing(_) | Phase::Open(_) => {}
        }
    }

    #[inline(never)]
    fn follow_now(&mut self) {
        match &mut self.phase {
            Phase::Open(open) if self.link.lock().outbox.is_settled() => {
                let link: Arc<Mutex<Link<S>>> = Arc::clone(&self.link);
                open.follow(link);
            }
            Phase::Closing(_) | Phase::Open(_) => {}
        }
    }
}

impl<S, R: Runtime> Drop for Session<S, R> {
    fn drop(&mut self) {
        let reason = match &mut self.phase {
            Phase::Closing(closing) => closing.cause().reason(),
            Phase::Open(open) => {
                // Before what is not sent is counted: nothing more comes.
                open.take_back();
                open.abandon();
                CloseReason::Dropped
            }
        };
        let metrics = self.app.metrics();
        let unsent = self.link.lock().outbox.abandon(metrics);
        let teller = Teller::new(self.app.bus().clone(), ClientId::new(self.account.client()));
        teller.lost(unsent, "unsent");
        metrics.closed.add(reason);
    }
}
