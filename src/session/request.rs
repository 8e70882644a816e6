//! Requests of a client that speaks JSON, each with a number for its reply.

use serde::Deserialize;

use crate::bus::{HistoryError, Reading, Since};

/// A request of a client with the number of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) asks: Asks,
}

/// The wish of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// To read from the history; `None` if the position is no position.
    History(Option<Reading>),
    /// To publish a text, live alone or into the history as well.
    Publish { text: String, is_live: bool },
}

/// The members of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    id: Option<u64>,
    text: Option<String>,
    #[serde(default)]
    live: bool,
    history: Option<Wanted>,
}

/// The part of a history that a request wants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    since: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    reverse: bool,
}

/// The reason why a request was refused, by the numbers of Centrifugo's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The client may not do this.
    Forbidden,
    /// The request is not well formed, or its message is not what the room takes.
    Bad(&'static str),
    /// The room has no history.
    NoHistory,
    /// The history has begun anew.
    WrongEpoch,
}

impl Refused {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Forbidden => 103,
            Self::Bad(_) => 107,
            Self::NoHistory => 108,
            Self::WrongEpoch => 112,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Forbidden => "permission denied",
            Self::Bad(message) => message,
            Self::NoHistory => "there is no history here",
            Self::WrongEpoch => "the history has begun anew: read it without `since`",
        }
    }
}

impl From<HistoryError> for Refused {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unrecorded => Self::NoHistory,
            HistoryError::WrongEpoch { .. } => Self::WrongEpoch,
        }
    }
}

impl Request {
    /// Parses an object with an `id`, or a text with `live`; `None` for any other text.
    ///
    /// A text without an `id` that is published live has no reply: its request has the number 0.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let members: Members = serde_json::from_slice(json).ok()?;
        let is_known = members.id.is_some() || members.live;
        let asks = match (members.text, members.history) {
            (Some(text), None) if is_known => Asks::Publish {
                text,
                is_live: members.live,
            },
            (None, Some(wanted)) if members.id.is_some() && !members.live => {
                Asks::History(wanted.reading())
            }
            _ => return None,
        };
        let id = members.id.unwrap_or(0);
        Some(Self { id, asks })
    }
}

impl Wanted {
    fn reading(self) -> Option<Reading> {
        let since: Option<Since> = match self.since.as_deref().map(str::parse) {
            Some(Ok(since)) => Some(since),
            Some(Err(_)) => return None,
            None => None,
        };
        Some(Reading {
            since,
            limit: self.limit.unwrap_or(usize::MAX),
            reverse: self.reverse,
        })
    }
}
