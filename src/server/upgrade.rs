//! From the upgrade of a connection to its session, each in a task of its own.
//!
//! The task of the upgrade ends with the upgrade, so that an idle connection holds the memory of
//! its session alone.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{Either, select};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{Instrument, Span, debug, debug_span, field, warn};

use super::linger::Lingering;
use super::rewound_stream::RewoundStream;
use super::stream::Stream;
use crate::rt::Runtime;
use crate::session::{Admission, Plain, Session, Socket};
use crate::sync::Cancelled;

/// The concrete type of stream under a connection's requests; stored as an extension of each
/// request.
///
/// The code that serves a connection knows the type, the routes do not. Without a kind, a session
/// keeps hyper's wrapper around the stream.
pub(super) struct Kind<R: Runtime>(fn(Upgraded, Upgrade<R>));

impl<R: Runtime> Kind<R> {
    /// hyper's own type, whatever stream it wraps.
    const ANY: Self = Self(|upgraded, upgrade| upgrade.serve_any(TokioIo::new(upgraded), &[]));

    /// The kind of connections for which hyper was given a [`TokioIo`] of a [`Lingering`] stream of
    /// this type.
    pub(super) fn of<Io>() -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self(|upgraded, upgrade| {
            let upgraded = match upgraded.downcast::<TokioIo<Lingering<Stream>>>() {
                Ok(Parts { io, read_buf, .. }) => {
                    return upgrade.place(io.into_inner().into_inner(), read_buf);
                }
                Err(upgraded) => upgraded,
            };
            match upgraded.downcast::<TokioIo<Lingering<Io>>>() {
                Ok(Parts { io, read_buf, .. }) => {
                    upgrade.serve_any(io.into_inner().into_inner(), &read_buf);
                }
                Err(upgraded) => (Self::ANY.0)(upgraded, upgrade),
            }
        })
    }
}

impl<R: Runtime> Clone for Kind<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Runtime> Copy for Kind<R> {}

/// A client that is admitted, and whose connection is being upgraded.
pub(super) struct Upgrade<R: Runtime> {
    admission: Admission<R>,
    span: Span,
    cancelled: Cancelled,
}

impl<R: Runtime> Upgrade<R> {
    pub(super) fn new(admission: Admission<R>, cancelled: Cancelled) -> Self {
        Self {
            span: span(&admission),
            admission,
            cancelled,
        }
    }

    /// Serves the client on a socket that is no upgraded connection.
    pub(super) fn serve_on<S: Socket + Unpin + Send + 'static>(self, socket: S) {
        self.span.in_scope(|| debug!("session opened"));
        self.serve(socket);
    }

    /// Waits for the upgrade, and spawns the session on the upgraded stream.
    ///
    /// The box keeps the task small: a move copies a pointer, and the task stores the upgrade once.
    /// The freed memory of one task then has the size that the next task needs, where a larger
    /// block would leave an unused rest between sessions.
    pub(super) async fn run(self: Box<Self>, upgrade: OnUpgrade, kind: Option<Kind<R>>) {
        let upgraded = upgraded(&self.admission, upgrade).instrument(self.span.clone());
        // The first to complete decides; the other future is dropped.
        let Either::Left((Some(upgraded), _)) =
            select(Box::pin(upgraded), self.cancelled.clone()).await
        else {
            return;
        };
        let Kind(serve) = kind.unwrap_or(Kind::ANY);
        serve(upgraded, *self);
    }

    /// Serves a connection of our own listeners, on the worker that suits it best.
    fn place(mut self, stream: Stream, ahead: impl AsRef<[u8]> + Send + 'static) {
        let rt = self.admission.app().rt().clone();
        let worker = stream.is_movable().then(|| self.admission.place());
        match worker
            .flatten()
            .filter(|worker| rt.worker() != Some(*worker))
        {
            Some(worker) => {
                let arrival = async move { self.serve_slim(stream, ahead.as_ref()) };
                rt.spawn_on(worker, Box::pin(arrival));
            }
            None => self.serve_slim(stream, ahead.as_ref()),
        }
    }

    /// Serves a connection on this thread, and keeps less of the stream.
    fn serve_slim(self, stream: Stream, ahead: &[u8]) {
        match stream.into_transport() {
            Ok(io) => self.serve(RewoundStream::new(io, ahead)),
            Err(error) => warn!(%error, "cannot watch one more connection, which is dropped"),
        }
    }

    /// Serves a connection of a foreign listener.
    fn serve_any<Io>(self, io: Io, ahead: &[u8])
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve(Plain(RewoundStream::new(io, ahead)));
    }

    fn serve<S: Socket + Unpin + Send + 'static>(self, socket: S) {
        let rt = self.admission.app().rt().clone();
        rt.spawn(Box::pin(Serving {
            session: Session::new(self.admission, socket),
            cancelled: self.cancelled,
            span: (!self.span.is_disabled()).then(|| Box::new(self.span)),
        }));
    }
}

/// The span of a connection, with its client and without any message.
fn span<R: Runtime>(admission: &Admission<R>) -> Span {
    debug_span!(
        "connection",
        service = %admission.room(),
        client = %admission.client(),
        address = admission.peer().address.map(field::display),
        subject = admission.peer().subject().map(|subject| &**subject),
        cause = field::Empty,
        code = field::Empty,
    )
}

/// The upgraded connection, if the upgrade succeeds in time.
async fn upgraded<R: Runtime>(admission: &Admission<R>, upgrade: OnUpgrade) -> Option<Upgraded> {
    let rt = admission.app().rt();
    let deadline = rt.now() + admission.app().limits().handshake_timeout;
    match select(upgrade, rt.sleep_until(deadline)).await {
        Either::Left((Ok(upgraded), _)) => {
            debug!("session opened");
            Some(upgraded)
        }
        Either::Left((Err(error), _)) => {
            debug!(%error, "upgrade failed");
            None
        }
        Either::Right(((), _)) => {
            debug!("upgrade took too long");
            None
        }
    }
}

/// A session in its span, until the session or the server ends.
struct Serving<S, R: Runtime> {
    session: Session<S, R>,
    cancelled: Cancelled,
    /// `None` if the span is disabled.
    span: Option<Box<Span>>,
}

impl<S, R> Future for Serving<S, R>
where
    S: Socket + Unpin + Send + 'static,
    R: Runtime,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let entered = this.span.as_ref().map(|span| span.enter());
        let Poll::Ready(cause) = this.session.poll_unpin(cx) else {
            drop(entered);
            return this.cancelled.poll_by(cx, !this.session.is_moved());
        };
        let code = this.session.code().map(|code| i64::from(code.get()));
        if let Some(span) = &this.span {
            span.record("cause", field::display(&cause));
            span.record("code", code);
        }
        debug!("session closed");
        drop(entered);
        // Close the span before the session is dropped: a drain waits for the session, and could
        // otherwise return while the span is still open on another thread.
        this.span = None;
        Poll::Ready(())
    }
}

#[cfg(all(test, target_pointer_width = "64", not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::rt::Tokio;
    use crate::server::stream::SessionTransport;

    /// The largest part of the memory of an idle connection: rarely used fields belong into a box.
    #[test]
    fn the_task_of_a_session_stays_small() {
        let bytes = size_of::<Serving<RewoundStream<SessionTransport>, Tokio>>();
        assert!(bytes <= 560, "{bytes} bytes");
    }
}
