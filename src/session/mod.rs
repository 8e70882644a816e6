//! A session: one client's socket, bridged to the bus by one task.
//!
//! ```text
//!   socket -> FrameReader -> PendingInbound -> Publisher -> service:from-ws-to-service
//!   socket <- Outbox <- Egress <-+- direct <--------------- service:from-service-to-ws:42
//!                                +- broadcast <------------ service:from-service-to-ws
//! ```
//!
//! One poll serves both directions, and each wait has a deadline. The directions are independent,
//! with one exception: new messages from the client are held back for a while as long as the
//! answers to earlier ones wait for the socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::io::AsyncWrite;

use crate::admission::backlog::Account;
use crate::app::App;
use crate::bus::{ClientId, Room};
use crate::client::peer::Peer;
use crate::metrics::CloseReason;
use crate::rt::{Instant, Runtime};
use crate::sync::Mutex;
use crate::wire::CloseCode;

mod admission;
mod admit_error;
mod age;
mod answer;
mod appearance;
mod arrival;
mod broadcast;
mod cause;
mod close_handshake;
mod closing;
mod compression;
mod connection;
mod connection_io;
mod egress;
mod encoder;
mod envelope;
mod events;
mod expiry;
mod frame_reader;
mod handing_over;
mod keepalive;
mod membership;
mod membership_error;
mod memberships;
mod notice;
mod open;
mod outbox;
mod parting;
mod pending_inbound;
mod pongs;
mod rate_limits;
#[cfg(feature = "server")]
mod refused;
mod renewal;
mod replies;
mod request;
mod rules;
mod sender;
mod socket;
mod subprotocol;
mod tap_reporter;
mod timer;
mod wish;

pub use self::admission::Admission;
pub use self::admit_error::AdmitError;
pub use self::cause::Cause;
pub use self::envelope::BadEnvelope;
#[cfg(feature = "server")]
pub(crate) use self::refused::Refused;
pub use self::subprotocol::Subprotocol;
pub use self::wish::{Asking, Wish};
// For the simulator and the tests.
#[doc(hidden)]
pub use self::expiry::{Expiry, Good};
#[doc(hidden)]
pub use self::keepalive::{Keepalive, Pulse};
#[doc(hidden)]
pub use self::membership_error::MembershipError;
pub use self::socket::{Plain, Socket};

use self::closing::Closing;
use self::connection_io::ConnectionIo;
use self::frame_reader::FrameReader;
use self::open::{Due, Open, Time};
use self::tap_reporter::TapReporter;
use self::timer::Timer;

/// One connected client, from its admission to the end of its stream.
///
/// A session is a future that resolves to the reason why it ended.
///
/// # Cancel safety
///
/// Dropping a session drops the connection without a close handshake, leaves the service,
/// unsubscribes and counts the messages that were not delivered.
#[must_use = "a session does nothing until it is polled"]
pub struct Session<S, R: Runtime> {
    /// The socket, shared with the fan-out; a thread that needs both locks takes the fan-out's lock
    /// first.
    io: Arc<Mutex<ConnectionIo<S>>>,
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

impl<R: Runtime> Phase<R> {
    fn app(&self) -> &App<R> {
        match self {
            Self::Closing(closing) => closing.app(),
            Self::Open(open) => open.app(),
        }
    }
}

impl<S, R: Runtime> Unpin for Session<S, R> where S: Unpin {}

impl<S, R> Session<S, R>
where
    S: Socket + Unpin,
    R: Runtime,
{
    /// Connects an admitted client to the byte stream that follows its upgrade.
    pub fn new(admission: Admission<R>, stream: S) -> Self {
        admission.app().metrics().opened.add(1);
        let frame_reader = FrameReader::new(admission.message_bytes, admission.inflation());
        let io = ConnectionIo::new(stream, frame_reader);
        Self {
            account: admission.app().account(admission.client()),
            phase: Phase::Open(Open::new(admission)),
            io: Arc::new(Mutex::new(io)),
            timer: Timer::default(),
        }
    }

    /// Brings the client into one more room over its connection: it receives the messages of all
    /// its rooms, and its own messages are for the room in which it has been for the longest time.
    ///
    /// The session must be polled afterwards. `peer` has what is known of the client, with its
    /// rights in this room, and `wish` the messages of the history that it wants first.
    ///
    /// # Errors
    ///
    /// When the session closes, when the client is in the room already or in
    /// [`Limits::memberships`](crate::Limits::memberships) rooms, and the errors of
    /// [`Admission::request_wishing`] that are about the room; a failed call leaves nothing behind.
    // For the simulator and the tests: no subprotocol of today asks for it.
    #[doc(hidden)]
    pub fn join(&mut self, room: &Room, peer: &Peer, wish: Wish) -> Result<(), MembershipError> {
        let Phase::Open(open) = &mut self.phase else {
            return Err(MembershipError::Closing);
        };
        let joined = open.join(room, peer, wish);
        if let Some(reason) = joined.as_ref().err().and_then(MembershipError::reason) {
            self.phase.app().metrics().refused.add(reason);
        }
        joined
    }

    /// Takes the client out of a room, unless it is in no other; returns whether it has left.
    ///
    /// Messages of the room that were not written yet are lost, and counted.
    // For the simulator and the tests, as `join`.
    #[doc(hidden)]
    pub fn leave(&mut self, room: &Room) -> bool {
        match &mut self.phase {
            Phase::Closing(_) => false,
            Phase::Open(open) => open.leave(room),
        }
    }

    /// The close code that the session sends to its peer, or that the peer has sent first.
    ///
    /// `None` while the session is open, and if it ends without a close frame.
    pub fn code(&self) -> Option<CloseCode> {
        match &self.phase {
            Phase::Closing(closing) => closing.code(),
            Phase::Open(_) => None,
        }
    }
}

impl<S, R: Runtime> Session<S, R> {
    /// Whether the last poll came from another task than the poll before it, or was the first poll.
    #[cfg(feature = "server")]
    pub(crate) fn is_moved(&self) -> bool {
        self.timer.is_moved
    }

    /// Registers the wakers of this task everywhere, in the place of the task that polled before.
    #[cold]
    fn moved(&mut self, task: &Waker) {
        self.timer.moved();
        let mut io = self.io.lock();
        let before = std::mem::replace(&mut io.task, task.clone());
        io.is_asked = false;
        drop(io);
        drop(before);
        match &mut self.phase {
            Phase::Closing(closing) => closing.moved(),
            Phase::Open(open) => open.moved(),
        }
    }
}

/// The rounds of one poll before other tasks run: a deadline that stays in the past is a bug of one
/// session, and must not stop its thread.
const ROUNDS_MAX: u32 = 64;

/// The result of polling a phase.
enum Polled {
    Close(Cause),
    Done(Cause),
    /// No deadline became earlier: the armed timer stays as it is.
    Early,
    /// Another task polled the session before: its wakers are to be replaced.
    Moved,
    /// The fan-out has stopped writing to this session's socket.
    Released,
    /// The earliest deadline of the phase.
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
        // Joins the fan-out before anything is received, so that the fan-out writes what is
        // pending; the calls of `join_fan_out` below join it once this session has received as much
        // as the fan-out.
        this.join_fan_out();
        let mut now = this.phase.app().rt().now();
        for _ in 0..ROUNDS_MAX {
            let due = if this.timer.is_quiet(now) {
                Due::Later
            } else {
                Due::Now
            };
            let deadline = match this.poll_phase(cx, Time { now, due }) {
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
                    this.join_fan_out();
                    return Poll::Pending;
                }
                Polled::Until(deadline) => deadline,
            };
            // A deadline that has passed meanwhile is handled by polling the phase again.
            let rt = this.phase.app().rt();
            if this.timer.poll(cx, rt, deadline, now).is_pending() {
                this.join_fan_out();
                return Poll::Pending;
            }
            // The timer may have fired for a deadline that is later than the `now` read above.
            now = this.phase.app().rt().now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S, R> Session<S, R>
where
    S: Socket + Unpin,
    R: Runtime,
{
    fn poll_phase(&mut self, cx: &mut Context<'_>, time: Time) -> Polled {
        let mut io = self.io.lock();
        // Compared once in each poll only: the wakers of some executors never equal their own
        // clones.
        if !self.timer.is_moved && !io.task.will_wake(cx.waker()) {
            return Polled::Moved;
        }
        if std::mem::take(&mut io.is_released) {
            return Polled::Released;
        }
        match &mut self.phase {
            Phase::Open(open) => match open.poll_held(cx, &mut io, &mut self.account, time) {
                Poll::Ready(cause) => Polled::Close(cause),
                Poll::Pending if open.is_early(&io, time.due) => Polled::Early,
                Poll::Pending => Polled::Until(open.deadline(&io, time.now)),
            },
            Phase::Closing(closing) => {
                if closing.poll(cx, &mut io, time.now).is_ready() {
                    return Polled::Done(closing.cause().clone());
                }
                // A closing session ends anyway, so a request to shed it is ignored: this call only
                // updates the account.
                let _told = self.account.poll_hold(cx, io.held());
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

    /// Takes the subscription back from the fan-out, to receive and write without it again.
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
    /// Lends the subscription to a fan-out while the session has nothing else to write.
    #[inline]
    fn join_fan_out(&mut self) {
        match &self.phase {
            Phase::Open(open) if open.may_join() => self.join_fan_out_if_settled(),
            Phase::Closing(_) | Phase::Open(_) => {}
        }
    }

    #[inline(never)]
    fn join_fan_out_if_settled(&mut self) {
        match &mut self.phase {
            Phase::Open(open) if self.io.lock().outbox.is_settled() => {
                let io: Arc<Mutex<ConnectionIo<S>>> = Arc::clone(&self.io);
                open.join_fan_out(io);
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
                // Leave the fan-out before the unsent messages are counted: the fan-out could add
                // more.
                open.take_back();
                open.abandon();
                CloseReason::Dropped
            }
        };
        let app = self.phase.app();
        let metrics = app.metrics();
        let unsent = self.io.lock().outbox.abandon(metrics);
        let tap_reporter =
            TapReporter::new(app.bus().clone(), ClientId::new(self.account.client()));
        tap_reporter.lost(unsent, "unsent");
        metrics.closed.add(reason);
    }
}
