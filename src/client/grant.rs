//! The rights of a client in a room.

/// The rights of a client in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Whether the client may send messages; `None` for the rule of the room's kind, see
    /// [`Publish`](crate::limits::Publish).
    pub publish: Option<bool>,
}

impl Grant {
    /// Lets the client send messages or not, whatever the room's kind says.
    #[must_use]
    pub fn publishing(self, publish: bool) -> Self {
        Self {
            publish: Some(publish),
        }
    }
}
