//! Channels: the texts by which callers name services and rooms.
//!
//! `chat:42` is the room 42 of the kind `chat`, divided at the first colon; `chat:` is its room
//! with the empty key, and `ping:` the service `ping`. A text without a kind is a room of the kind
//! that is set for this, with the whole text as its key; no kind in a text reaches that one. A `$`
//! at the beginning belongs to the key.

use super::{Caller, Fault};
use crate::app::App;
use crate::bus::{Room, ServiceName};
use crate::limits::CHANNEL_BYTES_MAX;
use crate::registry::JoinError;
use crate::rt::Runtime;

/// The kind that a channel names, and the key; `None` for a channel without a kind.
fn divide(channel: &str) -> Option<(&str, String)> {
    let (mark, rest) = match channel.strip_prefix('$') {
        Some(rest) => ("$", rest),
        None => ("", channel),
    };
    let (kind, key) = rest.split_once(':')?;
    (!kind.is_empty()).then(|| (kind, format!("{mark}{key}")))
}

/// The channel of a room, if callers can name it.
pub(super) fn of<R: Runtime>(app: &App<R>, room: &Room) -> Option<String> {
    let channel = if app.default_kind() == Some(room.kind()) {
        room.key().to_owned()
    } else {
        format!("{}:{}", room.kind(), room.key())
    };
    // A key of the kind without a prefix may look like another kind's room.
    let named = self::room(app, &channel).ok();
    named.is_some_and(|named| named == *room).then_some(channel)
}

/// The service or room of a channel, which need not exist.
fn room<R: Runtime>(app: &App<R>, channel: &str) -> Result<Room, Fault> {
    if channel.is_empty() {
        return Err(Fault::bad("`channel` is missing"));
    }
    if channel.len() > CHANNEL_BYTES_MAX {
        return Err(Fault::bad("a channel has at most 255 bytes"));
    }
    if !channel.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Fault::bad("a channel is of printable ASCII characters"));
    }
    let registry = app.registry();
    let found = match divide(channel) {
        None => {
            let kind = app.default_kind().ok_or(Fault::UNKNOWN_CHANNEL)?;
            registry.room(kind.as_str(), Some(channel))
        }
        Some((kind, _)) if app.default_kind().map(ServiceName::as_str) == Some(kind) => {
            return Err(Fault::UNKNOWN_CHANNEL);
        }
        Some((kind, key)) if key.is_empty() && !registry.has_rooms(kind) => {
            registry.room(kind, None)
        }
        Some((kind, key)) => registry.room(kind, Some(&key)),
    };
    found.map_err(|error| match error {
        JoinError::BadKey(_) | JoinError::KeyMissing(_) => {
            Fault::bad("the channel has no valid key")
        }
        JoinError::Refused(_)
        | JoinError::RoomsFull(_)
        | JoinError::Unknown
        | JoinError::WithoutRooms(_) => Fault::UNKNOWN_CHANNEL,
    })
}

impl<R: Runtime> Caller<'_, R> {
    /// The service or room of a channel that the caller may reach.
    pub(super) fn room(&self, channel: &str) -> Result<Room, Fault> {
        let room = room(self.app, channel)?;
        let may = self.rights.reach(room.kind());
        may.then_some(room).ok_or(Fault::FORBIDDEN)
    }
}
