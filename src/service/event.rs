//! The events of a room, as its service receives them.

use super::roster::Told;
use crate::bus::{Client, Message};
use crate::metrics::CloseReason;

/// The reason why a client left a room: the reason why its session ended.
pub type LeaveReason = CloseReason;

/// An event of a room: see [`Context::event`](super::Context::event).
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client has come, and may send and receive from now on.
    Joined(Client),
    /// A client has left; its last message came before.
    Left(Client, LeaveReason),
    /// A client sent this message.
    Message(Client, Message),
}

/// The first thing that [`Context::event_until`](super::Context::event_until) saw.
#[derive(Clone, Debug, PartialEq)]
pub enum NextEvent {
    /// The deadline has passed.
    Elapsed,
    /// This event happened.
    Event(Event),
    /// The last client has left and all events are received: return soon.
    Stopped,
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        match told {
            Told::Joined(client) => Self::Joined(client),
            Told::Left(client, reason) => Self::Left(client, reason),
        }
    }
}
