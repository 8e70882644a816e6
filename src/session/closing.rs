//! The phase in which a session ends: RFC 6455 7.1.
//!
//! ```text
//!   Finish ---> Await ---> Flush ---> Discard ---> done
//!   send what   the peer's  send it    until the peer ends its side, so that no reset
//!   is due,     close       all, then  overtakes our close frame
//!   then close  frame       end ours
//! ```
//!
//! The [close handshake](super::close_handshake) has the last three steps. One deadline bounds the
//! whole phase. Waiting for the service's answers may take half of that time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::cause::{Cause, Farewell};
use super::close_handshake::{CloseHandshake, push_close};
use super::connection::Connection;
use super::connection_io::ConnectionIo;
use super::memberships::Served;
use super::parting::Parting;
use super::socket::Socket;
use crate::app::App;
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::wire::{CloseCode, CloseFrame};

pub(super) struct Closing<R: Runtime> {
    cause: Cause,
    code: Option<CloseCode>,
    deadline: Instant,
    step: Step<R>,
    connection: Connection<R>,
}

enum Step<R: Runtime> {
    /// A close frame that replaces the frames of which no byte is written.
    Cut(CloseFrame),
    Done,
    Finish(Vec<Parting<R>>, Last),
    /// The steps after the close frame.
    Handshake(CloseHandshake),
    /// A close frame after which the peer's is not awaited.
    Say(CloseFrame),
    /// A close frame that is sent if the socket accepts it at once.
    Try(CloseFrame),
}

/// The close frame after all pending messages.
enum Last {
    /// The peer has sent its close frame first.
    Answer(Option<CloseFrame>),
    /// The peer is to answer the close frame.
    Word(CloseFrame),
}

impl Last {
    fn frame(&self) -> Option<&CloseFrame> {
        match self {
            Self::Answer(frame) => frame.as_ref(),
            Self::Word(frame) => Some(frame),
        }
    }

    /// The step after the close frame.
    fn next<R: Runtime>(&self) -> Step<R> {
        Step::Handshake(match self {
            Self::Answer(_) => CloseHandshake::Flush,
            Self::Word(_) => CloseHandshake::Await,
        })
    }
}

impl<R: Runtime> Closing<R> {
    /// Leaves the service, at once or after its answers; keeps the egress only if its messages
    /// shall still be sent.
    pub(super) fn new(cause: Cause, served: Served<R>, now: Instant) -> Self {
        let Served {
            connection,
            memberships,
        } = served;
        let limits = &connection.limits;
        let timeout = planted::twice(Bug::CloseTooLong, limits.close_timeout);
        let (deadline, drain) = (now + timeout, limits.drain.code);
        let until = cause.is_heard_out().then(|| now + limits.turn_timeout());
        let parting = memberships.into_iter();
        let parting = parting.map(|member| member.part(cause.reason(), until));
        let parting = parting.collect::<Vec<_>>();
        let tell_unread = |parting: &[Parting<R>]| parting.iter().for_each(Parting::tell_unread);
        let step = match cause.farewell(drain) {
            Farewell::Cut(frame) => {
                tell_unread(&parting);
                Step::Cut(frame)
            }
            Farewell::Drop => {
                tell_unread(&parting);
                Step::Done
            }
            Farewell::Echo(frame) => Step::Finish(parting, Last::Answer(frame)),
            Farewell::Finish(frame) => Step::Finish(parting, Last::Word(frame)),
            Farewell::Now(frame) => {
                tell_unread(&parting);
                Step::Say(frame)
            }
            Farewell::Try(frame) => {
                tell_unread(&parting);
                Step::Try(frame)
            }
        };
        Self {
            code: cause.code(drain),
            cause,
            deadline,
            step,
            connection,
        }
    }

    pub(super) fn app(&self) -> &App<R> {
        &self.connection.app
    }

    pub(super) fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The close code that the peer receives, or has sent.
    pub(super) fn code(&self) -> Option<CloseCode> {
        self.code
    }

    /// The next deadline of the phase.
    pub(super) fn deadline(&self) -> Instant {
        if let Step::Finish(parting, _) = &self.step {
            let deadlines = parting.iter().map(Parting::deadline);
            return deadlines.fold(self.deadline, Instant::or_sooner);
        }
        self.deadline
    }

    /// Forgets which task is parked, because another task polls from now on.
    pub(super) fn moved(&mut self) {
        if let Step::Finish(parting, _) = &mut self.step {
            parting.iter_mut().for_each(Parting::moved);
        }
    }

    /// Ready when the stream may be dropped.
    pub(super) fn poll<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        now: Instant,
    ) -> Poll<()> {
        if now >= self.deadline {
            return Poll::Ready(());
        }
        loop {
            // An error of the connection completes the close.
            match self.poll_step(cx, io, now) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_) | Ok(Step::Done)) => return Poll::Ready(()),
                Poll::Ready(Ok(next)) => self.step = next,
            }
        }
    }
}

impl<R: Runtime> Closing<R> {
    fn poll_step<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        now: Instant,
    ) -> Poll<io::Result<Step<R>>> {
        let metrics = self.connection.app.metrics();
        match &mut self.step {
            Step::Finish(parting, last) => {
                if planted::is(Bug::DataAfterClose) {
                    push_close(io, last.frame());
                }
                let mut is_sent = true;
                for parting in parting {
                    is_sent &= parting.poll(cx, io, metrics, now)?.is_ready();
                }
                if !is_sent {
                    return Poll::Pending;
                }
                push_close(io, last.frame());
                Poll::Ready(Ok(last.next()))
            }
            Step::Cut(frame) => {
                io.outbox.cut(metrics);
                push_close(io, Some(frame));
                Poll::Ready(Ok(Step::Handshake(CloseHandshake::Flush)))
            }
            Step::Say(frame) => {
                push_close(io, Some(frame));
                Poll::Ready(Ok(Step::Handshake(CloseHandshake::Flush)))
            }
            Step::Try(frame) => {
                push_close(io, Some(frame));
                if io.poll_send(metrics, now)?.is_ready() {
                    // The operating system sends accepted bytes even after the socket is dropped.
                    let _ended_or_pending = Pin::new(&mut io.stream).poll_close(cx)?;
                }
                Poll::Ready(Ok(Step::Done))
            }
            Step::Handshake(handshake) => {
                ready!(handshake.poll(cx, io, metrics, now))?;
                Poll::Ready(Ok(Step::Done))
            }
            Step::Done => Poll::Ready(Ok(Step::Done)),
        }
    }
}
