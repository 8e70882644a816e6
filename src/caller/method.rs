//! The methods that a caller may call, by name.

use std::str::FromStr;

/// A method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Several commands in one request.
    Batch,
    /// Publishes one message into several rooms.
    Broadcast,
    /// The rooms there are, with their numbers of clients.
    Channels,
    /// Closes connections.
    Disconnect,
    /// Ends the stream of a room.
    End,
    /// Reads from the history of a room.
    History,
    /// Removes the messages of a history.
    HistoryRemove,
    /// The state of the server.
    Info,
    /// The clients of a room.
    Presence,
    /// The numbers of clients and subjects of a room.
    PresenceStats,
    /// Publishes a message into a room.
    Publish,
    /// Ends credentials of connections.
    Refresh,
    /// Asks a service.
    Rpc,
    /// Adds a client to a room.
    Subscribe,
    /// Takes clients out of a room.
    Unsubscribe,
}

impl Method {
    /// All methods, in the order of their names.
    pub const ALL: [Self; 15] = [
        Self::Batch,
        Self::Broadcast,
        Self::Channels,
        Self::Disconnect,
        Self::End,
        Self::History,
        Self::HistoryRemove,
        Self::Info,
        Self::Presence,
        Self::PresenceStats,
        Self::Publish,
        Self::Refresh,
        Self::Rpc,
        Self::Subscribe,
        Self::Unsubscribe,
    ];

    /// The name, as in a path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Broadcast => "broadcast",
            Self::Channels => "channels",
            Self::Disconnect => "disconnect",
            Self::End => "end",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::Info => "info",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::Publish => "publish",
            Self::Refresh => "refresh",
            Self::Rpc => "rpc",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// The text is the name of no method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no method of this name")]
pub struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let mut all = Self::ALL.into_iter();
        all.find(|method| method.name() == name)
            .ok_or(UnknownMethod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_name_and_counted_in_its_place() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
            assert_eq!(method.name().parse(), Ok(method));
        }
        for name in ["", "Publish", "publish ", "history-remove", "ping"] {
            assert_eq!(name.parse::<Method>(), Err(UnknownMethod), "{name}");
        }
    }
}
