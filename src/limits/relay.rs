//! The rules of a relay.

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

impl Default for RelayPolicy {
    fn default() -> Self {
        Self {
            publish: Publish::Nobody,
            echo: true,
            payload: Payload::Any,
        }
    }
}

/// The clients that may publish in a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// Every client of the room.
    Members,
    /// No client: only the program that embeds busline publishes.
    #[default]
    Nobody,
}

/// The messages that a relay takes.
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
