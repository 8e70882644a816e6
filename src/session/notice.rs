//! The notices about messages that are sent beside them.

use serde_json::json;

use super::answer;
use crate::bus::{Generation, Joined, Position, Why};

/// A notice for a client.
pub(super) struct Notice {
    /// The kind of the event.
    pub(super) kind: &'static str,
    pub(super) json: String,
    /// The position from which a client goes on that has received the notice and nothing after it;
    /// `None` if the notice does not change it.
    pub(super) at: Option<Position>,
}

impl Notice {
    /// A notice of this kind that leaves the client's position as it is.
    fn of(kind: &'static str, json: String) -> Self {
        let at = None;
        Self { kind, json, at }
    }

    /// The notice that messages are lost.
    pub(super) fn lagged(lost: u64) -> Self {
        Self::of("lagged", json!({ "lagged": lost }).to_string())
    }

    /// The notice that notices of joins and leaves are lost.
    pub(super) fn presence_lagged(lost: u64) -> Self {
        let json = json!({ "presence": { "lagged": lost } });
        Self::of("presence", json.to_string())
    }

    /// The notice that the service runs again, as this instance.
    pub(super) fn restarted(generation: Generation) -> Self {
        let json = format!("{{\"service\":\"restarted\",\"generation\":{generation}}}");
        Self::of("service", json)
    }
}

/// The notice at the beginning, and the present position; `None` without a history.
///
/// Messages up to the present position may follow the notice: a client that goes on from the notice
/// has to get them again.
pub(super) fn greeting(joined: Joined) -> Option<(Position, Notice)> {
    let before = |position: Position, messages: u64| {
        let offset = position.offset.saturating_sub(messages);
        Position { offset, ..position }
    };
    let (position, notice) = match joined {
        Joined::Unrecorded => return None,
        Joined::Present { position, messages } => {
            let at = before(position, messages);
            (position, present(position, at))
        }
        Joined::Recovered { position, messages } => {
            let at = before(position, messages);
            (position, recovered(position, None, at))
        }
        Joined::NotRecovered { why, position } => {
            (position, recovered(position, Some(why), position))
        }
    };
    Some((position, notice))
}

/// The notice about a position.
pub(super) fn present(position: Position, at: Position) -> Notice {
    Notice {
        kind: "position",
        json: json!({ "position": answer::at(position) }).to_string(),
        at: Some(at),
    }
}

/// The envelope of the end of a stream with these data, which are JSON.
pub(super) fn end(data: &str, offset: Option<u64>) -> String {
    let data = data.trim();
    match offset {
        Some(offset) => format!("{{\"end\":{data},\"offset\":{offset}}}"),
        None => format!("{{\"end\":{data}}}"),
    }
}

/// The notice whether a client has recovered.
fn recovered(position: Position, why: Option<Why>, at: Position) -> Notice {
    let mut json = answer::at(position);
    json["recovered"] = why.is_none().into();
    if let Some(why) = why {
        json["why"] = why.name().into();
    }
    Notice {
        kind: "recovered",
        json: json.to_string(),
        at: Some(at),
    }
}
