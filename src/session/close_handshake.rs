//! The close handshake of a connection, from our close frame on: RFC 6455 7.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::connection_io::ConnectionIo;
use super::frame_reader::Inbound;
use super::socket::Socket;
use crate::metrics::Metrics;
use crate::planted::{self, Bug};
use crate::rt::Instant;
use crate::wire::{CloseFrame, ControlKind, ControlPayload, Event};

/// Events ignored in one poll before other tasks may run.
const IGNORED_MAX: usize = 64;

/// The steps that are left once a close frame is in the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) enum CloseHandshake {
    /// Sends the outbox, and reads until the peer's close frame.
    Await,
    /// Sends the outbox, and ends our side of the stream.
    Flush,
    /// Reads until the peer ends its side, so that no reset overtakes our close frame.
    Discard,
}

impl CloseHandshake {
    /// Ready when the stream may be dropped; the caller bounds the time.
    pub(super) fn poll<S: Socket + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ConnectionIo<S>,
        metrics: &Metrics,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        loop {
            *self = match self {
                Self::Await => {
                    // Write and read in the same step: the peer's close frame may come while ours
                    // is stuck.
                    let _sent_or_pending = io.poll_send(metrics, now)?;
                    ready!(poll_peer_closed(cx, io, metrics))?;
                    Self::Flush
                }
                Self::Flush => {
                    ready!(io.poll_send(metrics, now))?;
                    ready!(Pin::new(&mut io.stream).poll_close(cx))?;
                    Self::Discard
                }
                Self::Discard if planted::is(Bug::EndNotAwaited) => return Poll::Ready(Ok(())),
                Self::Discard => return io.frame_reader.poll_discard(cx, &mut io.stream),
            };
        }
    }
}

pub(super) fn push_close<S>(io: &mut ConnectionIo<S>, frame: Option<&CloseFrame>) {
    let payload = frame.map_or(ControlPayload::EMPTY, CloseFrame::encode);
    io.outbox.push_control(ControlKind::Close, &payload);
}

/// Reads until the peer's close frame, its end or a protocol error.
fn poll_peer_closed<S: Socket + Unpin>(
    cx: &mut Context<'_>,
    io: &mut ConnectionIo<S>,
    metrics: &Metrics,
) -> Poll<io::Result<()>> {
    for _ in 0..IGNORED_MAX {
        match ready!(io.poll_next(cx, usize::MAX, usize::MAX))? {
            Inbound::End | Inbound::Violation(_) | Inbound::Event(Event::Close(_)) => {
                return Poll::Ready(Ok(()));
            }
            Inbound::Event(Event::Messages(frames)) => {
                count_ignored(metrics, frames.len(), frames.payload_bytes());
            }
            Inbound::Partial | Inbound::Event(Event::Ping(_) | Event::Pong(_)) => {}
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Counts messages that came in and are not handed to the service.
fn count_ignored(metrics: &Metrics, messages: usize, bytes: usize) {
    metrics.messages_in.add(messages as u64);
    metrics.bytes_in.add(bytes as u64);
    metrics.lost_not_taken.add(messages as u64);
}
