//! The life of a connection up to its upgrade: its requests, and the time that each of them, and
//! each wait for the next one, may take.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::server::conn::http1::UpgradeableConnection;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::requests::Requests;
use crate::app::App;
use crate::rt::{Instant, Runtime};
use crate::server::deadline::Deadline;
use crate::server::epilogue::Epilogue;
use crate::server::linger::Lingering;
use crate::server::places::{Mark, Told};
use crate::server::progress::Stage;
use crate::sync::Cancelled;

/// A connection of hyper over our stream.
pub(super) type Http<R, Io> = UpgradeableConnection<TokioIo<Lingering<Io>>, Requests<R>>;

/// The state of a connection that its life shares with its requests, and the ends of it.
pub(super) struct Ties<R: Runtime> {
    pub(super) app: App<R>,
    /// Completes with the server.
    pub(super) end: Cancelled,
    pub(super) displaced: Told,
    pub(super) mark: Mark,
    pub(super) deadline: Deadline,
    pub(super) epilogue: Epilogue,
}

/// Completes when the connection is upgraded, refused, finished, displaced or too slow.
///
/// A kept connection that waits for a request is ended in an orderly way, after
/// [`idle_timeout`](crate::limits::ApiLimits::idle_timeout) or when the server drains.
pub(super) struct Life<R: Runtime, Io> {
    work: Work<R, Io>,
    ties: Ties<R>,
    timer: BoxFuture<'static, ()>,
    drain: Cancelled,
    /// Whether this task has polled `end`, and `drain`.
    is_parked: [bool; 2],
    stage: Stage,
    /// The beginning of the present request, or of the wait for the first one.
    begun: Instant,
    /// Whether hyper was told to end the connection.
    is_leaving: bool,
}

/// The work of a connection.
enum Work<R: Runtime, Io> {
    Http(Pin<Box<Http<R, Io>>>),
    Epilogue(BoxFuture<'static, ()>),
}

impl<R, Io> Life<R, Io>
where
    R: Runtime,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn new(http: Http<R, Io>, ties: Ties<R>) -> Self {
        let rt = ties.app.rt();
        Self {
            timer: ties.deadline.clone().passed(rt.clone()).boxed(),
            drain: ties.app.drain_begun(),
            begun: rt.now(),
            work: Work::Http(Box::pin(http)),
            ties,
            is_parked: [false; 2],
            stage: Stage::Head,
            is_leaving: false,
        }
    }

    /// Completes at the end of the server, or when the connection gives way to another one.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_parked = std::mem::replace(&mut self.is_parked[0], true);
        match self.ties.end.poll_by(cx, is_parked) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.ties.displaced.poll_unpin(cx),
        }
    }

    /// Serves requests, and then does the work that they have left.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let http = match &mut self.work {
            Work::Http(http) => http,
            Work::Epilogue(epilogue) => return epilogue.poll_unpin(cx),
        };
        // The result is dropped: however the connection ends, it is done. A failed handshake
        // concerns its client, which got a response if HTTP allows one.
        drop(ready!(http.as_mut().poll(cx)));
        let Some(mut epilogue) = self.ties.epilogue.take() else {
            return Poll::Ready(());
        };
        let polled = epilogue.poll_unpin(cx);
        self.work = Work::Epilogue(epilogue);
        polled
    }

    /// Sets the deadline of the stage that the connection has entered.
    fn keep_time(&mut self) {
        let Some(stage) = self.ties.mark.news() else {
            return;
        };
        let now = self.ties.app.rt().now();
        if self.stage == Stage::Idle {
            self.begun = now;
        }
        self.stage = stage;
        let limits = self.ties.app.limits();
        self.ties.deadline.set(match stage {
            Stage::Head => self.begun + limits.handshake_timeout,
            Stage::Served | Stage::Kept | Stage::Over => {
                self.begun + limits.handshake_timeout.saturating_mul(2)
            }
            Stage::Idle => now + limits.api.idle_timeout,
        });
    }

    /// Whether a kept connection has waited for a request long enough, or the server drains.
    fn is_to_leave(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_leaving || self.stage != Stage::Idle {
            return false;
        }
        let is_parked = std::mem::replace(&mut self.is_parked[1], true);
        let is_drain = self.drain.poll_by(cx, is_parked).is_ready();
        is_drain || self.timer.poll_unpin(cx).is_ready()
    }

    /// Ends a connection that waits for a request, within the time of a request.
    fn leave(&mut self) {
        self.is_leaving = true;
        let Ties { app, deadline, .. } = &self.ties;
        deadline.set(app.rt().now() + app.limits().handshake_timeout);
        self.timer = deadline.clone().passed(app.rt().clone()).boxed();
        if let Work::Http(http) = &mut self.work {
            http.as_mut().graceful_shutdown();
        }
    }
}

impl<R, Io> Future for Life<R, Io>
where
    R: Runtime,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_end(cx).is_ready() {
            return Poll::Ready(());
        }
        // Before the work, which would extend the deadline of a long response that nobody takes.
        if self.stage != Stage::Idle && self.timer.poll_unpin(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            // Before the deadline of an idle connection, whose next request may have arrived.
            if self.poll_work(cx).is_ready() {
                return Poll::Ready(());
            }
            self.keep_time();
            if !self.is_to_leave(cx) {
                return self.timer.poll_unpin(cx);
            }
            self.leave();
        }
    }
}
