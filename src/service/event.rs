//! The events of a room, as its service receives them.

use super::roster::Told;
use crate::bus::{Batch, Client, Message, Request};
use crate::metrics::CloseReason;

/// The reason why a client left a room: the reason why its session ended.
pub type LeaveReason = CloseReason;

/// An event of a room: see [`Context::event`](super::Context::event).
///
/// A request is answered by its [`responder`](Request::responder), at once or later:
///
/// ```
/// use busline::Context;
/// use busline::service::Event;
///
/// async fn counter(mut ctx: Context) -> Result<(), serde_json::Error> {
///     let mut count: i64 = 0;
///     while let Some(event) = ctx.event().await {
///         let Event::Request(request) = event else { continue };
///         match (&*request.method, request.payload.json::<i64>()) {
///             ("add", Ok(by)) => {
///                 count += by;
///                 request.responder.answer(&count)?;
///             }
///             ("add", Err(_)) => drop(request.responder.refuse(400, "write a whole number")),
///             _ => drop(request.responder.refuse(404, "there is no such method")),
///         }
///     }
///     Ok(())
/// }
/// # fn check(_: impl busline::Service) {}
/// # check(counter);
/// ```
#[derive(Debug)]
pub enum Event {
    /// A client has come, and may send and receive from now on.
    Joined(Client),
    /// A client has left; its last message came before.
    Left(Client, LeaveReason),
    /// A client sent this message.
    Message(Client, Message),
    /// A client, a backend or the embedding program asks this, in one order with the messages.
    Request(Request),
}

/// The first thing that [`Context::event_until`](super::Context::event_until) saw.
#[derive(Debug)]
pub enum NextEvent {
    /// The deadline has passed.
    Elapsed,
    /// This event happened.
    Event(Event),
    /// The last client has left and all events are received: return soon.
    Stopped,
}

impl Event {
    /// The event of a message of the inbox; `None` if no client sent it, and it is no request.
    pub(super) fn of(batch: Batch) -> Option<Self> {
        let question = batch.question().cloned();
        let message = batch.into_message();
        if let Some(question) = question {
            return question.take(message).map(Self::Request);
        }
        let client = message.sender().cloned()?;
        Some(Self::Message(client, message))
    }
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        match told {
            Told::Joined(client) => Self::Joined(client),
            Told::Left(client, reason) => Self::Left(client, reason),
        }
    }
}
