//! The rights of a client in a room.

use std::sync::Arc;

/// The rights of a client in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Whether the client may send messages; `None` for the rule of the room's kind, see
    /// [`Publish`](crate::limits::Publish).
    pub publish: Option<bool>,
    /// The facts about the client that its room shows to others, as a JSON object; `None` for the
    /// claims that the room's kind shows, see
    /// [`PresencePolicy::claims`](crate::limits::PresencePolicy::claims). A text that is no JSON
    /// object is not shown.
    pub info: Option<Arc<str>>,
}

impl Grant {
    /// Lets the client send messages or not, whatever the room's kind says.
    #[must_use]
    pub fn publishing(self, publish: bool) -> Self {
        Self {
            publish: Some(publish),
            ..self
        }
    }

    /// Shows these facts about the client to others in the room, a JSON object.
    #[must_use]
    pub fn showing(self, info: &str) -> Self {
        Self {
            info: Some(info.into()),
            ..self
        }
    }
}
