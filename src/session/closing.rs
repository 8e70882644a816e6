//! The phase in which a session ends: RFC 6455 7.1.
//!
//! ```text
//!   Finish ---> Await ---> Flush ---> Discard ---> done
//!   send what   the peer's  send it    until the peer ends its side, so that no reset
//!   is due,     close       all, then  overtakes our close frame
//!   then close  frame       end ours
//! ```
//!
//! One deadline bounds all of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use super::admission::Membership;
use super::cause::{Cause, Farewell};
use super::feed::Feed;
use super::inlet::Inbound;
use super::link::Link;
use super::socket::Socket;
use crate::metrics::Metrics;
use crate::permits::Permit;
use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime};
use crate::wire::{CloseCode, CloseFrame, ControlKind, ControlPayload, Event};

/// Events ignored in one poll before other tasks may run.
const IGNORED_MAX: usize = 64;

pub(super) struct Closing {
    cause: Cause,
    code: Option<CloseCode>,
    deadline: Instant,
    step: Step,
    /// The session counts as one until its socket is closed.
    _permit: Permit,
}

enum Step {
    Await,
    /// A close frame to be sent in the place of what is not yet being sent.
    Cut(CloseFrame),
    Discard,
    Done,
    Finish(Box<Feed>, CloseFrame),
    Flush,
    /// A close frame to be sent without waiting for the peer's.
    Say(Option<CloseFrame>),
    /// A close frame to be sent if the socket takes it at once.
    Try(CloseFrame),
}

impl Closing {
    /// Leaves the service; the feed is kept only if what is in it shall still be sent.
    pub(super) fn new<R: Runtime>(cause: Cause, membership: Membership<R>, now: Instant) -> Self {
        let limits = &membership.limits;
        let timeout = planted::twice(Bug::CloseTooLong, limits.close_timeout);
        let (deadline, drain) = (now + timeout, limits.drain.code);
        let (feed, permit) = membership.leave();
        let step = match cause.farewell(drain) {
            Farewell::Cut(frame) => {
                feed.tell_unread();
                Step::Cut(frame)
            }
            Farewell::Drop => {
                feed.tell_unread();
                Step::Done
            }
            Farewell::Finish(frame) => Step::Finish(Box::new(feed), frame),
            Farewell::Now(frame) => {
                feed.tell_unread();
                Step::Say(frame)
            }
            Farewell::Try(frame) => {
                feed.tell_unread();
                Step::Try(frame)
            }
        };
        Self {
            code: cause.code(drain),
            cause,
            deadline,
            step,
            _permit: permit,
        }
    }

    pub(super) fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What the peer is sent, or has sent.
    pub(super) fn code(&self) -> Option<CloseCode> {
        self.code
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// From now on another task polls it.
    pub(super) fn moved(&mut self) {
        match &mut self.step {
            Step::Finish(feed, _) => feed.moved(),
            Step::Await
            | Step::Cut(_)
            | Step::Discard
            | Step::Done
            | Step::Flush
            | Step::Say(_)
            | Step::Try(_) => {}
        }
    }

    /// Ready when the stream may be dropped.
    pub(super) fn poll<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<()> {
        if now >= self.deadline {
            return Poll::Ready(());
        }
        loop {
            // A connection that breaks while it is closed is closed.
            match self.poll_step(cx, link, metrics, now) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_) | Ok(Step::Done)) => return Poll::Ready(()),
                Poll::Ready(Ok(next)) => self.step = next,
            }
        }
    }
}

impl Closing {
    fn poll_step<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<Step>> {
        match &mut self.step {
            Step::Finish(feed, frame) => {
                if planted::is(Bug::DataAfterClose) {
                    push_close(link, Some(frame));
                }
                ready!(link.poll_feed(cx, feed, metrics, now))?;
                push_close(link, Some(frame));
                Poll::Ready(Ok(Step::Await))
            }
            Step::Await => {
                // Both at once: the peer's frame may come while ours is stuck.
                let _sent_or_pending = link.poll_send(metrics, now)?;
                ready!(poll_peer_closed(cx, link, metrics))?;
                Poll::Ready(Ok(Step::Flush))
            }
            Step::Cut(frame) => {
                link.outbox.cut(metrics);
                push_close(link, Some(frame));
                Poll::Ready(Ok(Step::Flush))
            }
            Step::Say(frame) => {
                push_close(link, frame.as_ref());
                Poll::Ready(Ok(Step::Flush))
            }
            Step::Try(frame) => {
                push_close(link, Some(frame));
                if link.poll_send(metrics, now)?.is_ready() {
                    // The system sends what it has taken also after the socket is dropped.
                    let _ended_or_pending = Pin::new(&mut link.stream).poll_close(cx)?;
                }
                Poll::Ready(Ok(Step::Done))
            }
            Step::Flush => {
                ready!(link.poll_send(metrics, now))?;
                ready!(Pin::new(&mut link.stream).poll_close(cx))?;
                Poll::Ready(Ok(Step::Discard))
            }
            Step::Discard => {
                if !planted::is(Bug::EndNotAwaited) {
                    ready!(link.inlet.poll_discard(cx, &mut link.stream))?;
                }
                Poll::Ready(Ok(Step::Done))
            }
            Step::Done => Poll::Ready(Ok(Step::Done)),
        }
    }
}

impl<S: AsyncWrite + Unpin> Link<S> {
    /// Sends what had been published to the client before it left.
    fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        feed: &mut Feed,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(metrics, now))?;
            feed.pull(cx, &mut self.outbox, metrics);
            if self.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn push_close<S>(link: &mut Link<S>, frame: Option<&CloseFrame>) {
    let payload = frame.map_or(ControlPayload::EMPTY, CloseFrame::encode);
    link.outbox.push_control(ControlKind::Close, &payload);
}

/// Reads up to the peer's close frame, or to what takes its place.
fn poll_peer_closed<S: Socket + Unpin>(
    cx: &mut Context<'_>,
    link: &mut Link<S>,
    metrics: &Metrics,
) -> Poll<io::Result<()>> {
    for _ in 0..IGNORED_MAX {
        match ready!(link.poll_next(cx, (usize::MAX, usize::MAX)))? {
            Inbound::End | Inbound::Violation(_) | Inbound::Event(Event::Close(_)) => {
                return Poll::Ready(Ok(()));
            }
            Inbound::Event(Event::Message(frame)) => count_ignored(metrics, 1, frame.len()),
            Inbound::Together(frames) => {
                count_ignored(metrics, frames.messages(), frames.payload_bytes());
                frames.leave();
            }
            Inbound::Partial | Inbound::Event(Event::Ping(_) | Event::Pong(_)) => {}
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Counts messages that came in and that the service does not get.
fn count_ignored(metrics: &Metrics, messages: usize, bytes: usize) {
    metrics.messages_in.add(messages as u64);
    metrics.bytes_in.add(bytes as u64);
    metrics.lost_not_taken.add(messages as u64);
}
