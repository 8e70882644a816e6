//! The service of a kind of rooms, or none.

/// The service of a kind of rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// Each client receives its own messages.
    Echo,
    /// Each client receives the messages of every client.
    Ping,
    /// No service: the messages of a client go to all clients of its room.
    #[default]
    Relay,
    /// Each client receives the time.
    Timenow,
}
