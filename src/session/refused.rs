//! A connection that is refused by name: it is upgraded for a notice and a close frame alone.
//!
//! A browser shows every refused upgrade as close code 1006, so that its page cannot tell a full
//! room from a missing token.

use std::future::poll_fn;
use std::time::Duration;

use futures::future::select;
use serde_json::json;

use super::close_handshake::{CloseHandshake, push_close};
use super::connection_io::ConnectionIo;
use super::frame_reader::FrameReader;
use super::socket::Socket;
use crate::app::App;
use crate::rt::Runtime;
use crate::wire::{CloseCode, CloseFrame, Frame, Inflation};

/// The reason of a refusal, for a client of `busline.v1.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The close code, 4000 to 4999.
    pub(crate) code: CloseCode,
    /// The reason in words.
    pub(crate) reason: String,
    /// The time after which the client may try again; `None` where another try is useless.
    pub(crate) retry: Option<Duration>,
}

impl Refused {
    /// The notice, as JSON.
    fn notice(&self) -> Frame {
        let mut refused = json!({ "code": self.code.get(), "reason": self.reason });
        if let Some(retry) = self.retry {
            refused["retry"] = json!(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        }
        Frame::text(json!({ "refused": refused }).to_string())
    }

    /// Sends the notice and the close frame, and ends the stream after the peer's close frame, or
    /// after [`Limits::close_timeout`](crate::Limits::close_timeout).
    ///
    /// Dropping the future drops the stream.
    pub(crate) async fn tell<S: Socket + Unpin, R: Runtime>(self, app: App<R>, stream: S) {
        let (rt, limits) = (app.rt(), app.limits());
        let frame_reader = FrameReader::new(limits.message_bytes, Inflation::None);
        let mut io = ConnectionIo::new(stream, frame_reader);
        io.outbox.push_notice(&self.notice());
        push_close(&mut io, Some(&CloseFrame::new(self.code, &self.reason)));
        let mut handshake = CloseHandshake::Await;
        let deadline = rt.sleep_until(rt.now() + limits.close_timeout);
        let ended = poll_fn(|cx| {
            io.task.clone_from(cx.waker());
            handshake.poll(cx, &mut io, app.metrics(), rt.now())
        });
        // The result is dropped: a connection that fails is as much at its end as any other.
        drop(select(ended, deadline).await);
    }
}
