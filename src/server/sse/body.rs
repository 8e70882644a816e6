//! The body of a response that carries a session's events.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};

use super::pipe::{EventReader, Hold, Part};
use crate::server::places::Mark;

/// The events of a session; dropping the body before their end tells the session that its client is
/// gone.
pub(in crate::server) struct EventBody {
    reader: EventReader,
    /// `None` if the session waits for the end of the connection elsewhere. Dropped after the
    /// reader.
    hold: Option<Hold>,
    /// The connection under the response; `None` in a listener of an embedder.
    connection: Option<Mark>,
}

impl EventBody {
    pub(super) fn new(reader: EventReader) -> Self {
        Self {
            hold: Some(reader.hold()),
            reader,
            connection: None,
        }
    }

    /// Gives no more text than the connection takes, where hyper alone would gather it: the client
    /// that reads nothing then slows its session down, which cuts it off.
    pub(in crate::server) fn over(&mut self, connection: Mark) {
        self.connection = Some(connection);
    }

    /// Takes the hold on the session, to be dropped when the connection is over; without this call
    /// the connection counts as over when the body is dropped.
    pub(in crate::server) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take()
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // The connection wakes this task, its own, once it takes more.
        if self.connection.as_ref().is_some_and(Mark::is_blocked) {
            return Poll::Pending;
        }
        self.reader.poll_part(cx).map(|part| match part {
            Part::Text(text) => Some(Ok(Frame::data(text))),
            Part::End => None,
            Part::Broken => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        })
    }
}
