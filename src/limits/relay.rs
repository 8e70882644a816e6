//! The rules of messages from clients, and of a relay.

/// A kind of rooms without a service: the messages of a client go to all clients of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayPolicy {
    /// The clients whose messages are passed on. Default [`Publish::Nobody`].
    pub publish: Publish,
    /// Whether a client gets its own messages, too. Default `true`.
    pub echo: bool,
    /// The messages that are passed on. Default [`Payload::Any`].
    pub payload: Payload,
}

/// The part of a policy that only a relay has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whether a client gets its own messages, too. Default `true`.
    pub echo: bool,
}

impl Default for Relay {
    fn default() -> Self {
        Self { echo: true }
    }
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self {
            publish: Publish::Nobody,
            echo: true,
            payload: Payload::Any,
        }
    }
}

/// The clients that may send messages, unless a [`Grant`](crate::authorize::Grant) says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// Every client that is admitted to the server, also without joining the room.
    ///
    /// A WebSocket of one room has joined it: for its client this is [`Members`](Self::Members).
    All,
    /// Every client of the service or room.
    #[default]
    Members,
    /// No client: only the service itself and the program that embeds busline publish.
    Nobody,
}

/// The messages that a service or relay takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// Texts and binary messages.
    #[default]
    Any,
    /// Binary messages.
    Binary,
    /// Texts that are JSON.
    Json,
    /// Texts.
    Text,
}

impl Payload {
    /// The name, as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Binary => "binary",
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}
