//! Server-sent events: the response in which a session's messages go out, without an upgrade.
//!
//! ```text
//!   session --frames--> EventSocket --[ Pipe ]--> EventBody --HTTP--> client
//! ```
//!
//! The session is that of a WebSocket: it writes frames to a socket, which here is a pipe in
//! memory. The pipe takes the events out of the frames and holds one write at most, so that a
//! client that reads slowly slows its session down as on a socket.

use std::time::Duration;

use futures::channel::oneshot;

use crate::rt::Random;

mod body;
mod pipe;
mod unframing;

pub(super) use self::body::EventBody;
pub(super) use self::pipe::EventSocket;

/// The time after which clients of a server that goes away come back: from the shortest to less
/// than twice as long, drawn for each client.
const RETRY_MIN: Duration = Duration::from_secs(2);

/// A new stream of events.
pub(super) struct EventStream {
    /// The session's end.
    pub(super) socket: EventSocket,
    /// The response's end.
    pub(super) body: EventBody,
    /// Completes when the session has ended.
    pub(super) over: oneshot::Receiver<()>,
}

/// The line that tells a client when to come back.
pub(super) fn retry(random: &impl Random) -> String {
    unframing::retry(draw(random))
}

fn draw(random: &impl Random) -> Duration {
    let millis = u64::try_from(RETRY_MIN.as_millis()).expect("a short time");
    Duration::from_millis(millis + random.random() % millis)
}

/// Makes a stream.
pub(super) fn stream(random: &impl Random) -> EventStream {
    let ends = pipe::ends(draw(random));
    EventStream {
        socket: ends.socket,
        body: EventBody::new(ends.reader),
        over: ends.over,
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
