//! The wishes of a request in its query: for messages of a history by `?since=EPOCH:OFFSET`,
//! `?since=start`, `?history=N`, and `Last-Event-ID` in a request for events; for joins and
//! leaves by `?join_leave=true`.

use axum::http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::bus::{PositionError, Since};
use crate::limits::{ServicePolicy, Tell};
use crate::session::Wish;

/// The reason why a query has no valid wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadWish {
    #[error("`join_leave` is true or false")]
    JoinLeave,
    #[error("`history` is a number of messages, such as ?history=10")]
    History,
    #[error("`Last-Event-ID` is the id of the last event, <epoch>:<offset>: {0}")]
    EventId(PositionError),
    #[error("`since` is the position that the server has told last, <epoch>:<offset>: {0}")]
    Since(PositionError),
}

/// The header with the id of the last event that a client has received.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The value of `since` for a client that was never there.
const START: &str = "start";

/// The beginning of any history.
const FIRST: Since = Since {
    epoch: None,
    offset: 0,
};

/// The wishes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// The messages of the history that come first.
    pub(super) messages: Wish,
    /// Whether the client is to be told of joins and leaves.
    pub(super) join_leave: bool,
}

impl Wishes {
    /// Reads the wishes that a kind with this policy grants; the last one of a name counts. Other
    /// names of the query are the service's.
    pub(super) fn read(query: &str, kind: &ServicePolicy) -> Result<Self, BadWish> {
        let has_history = kind.history.is_some();
        let is_told = kind.presence.tell == Tell::Asked;
        let mut wishes = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy();
            let messages = &mut wishes.messages;
            match name {
                "since" if has_history && value == START => messages.since = Some(FIRST),
                "since" if has_history => {
                    messages.since = Some(value.parse().map_err(BadWish::Since)?);
                }
                "history" if has_history => {
                    messages.last = value.parse().map_err(|_| BadWish::History)?;
                }
                "join_leave" if is_told => {
                    wishes.join_leave = value.parse().map_err(|_| BadWish::JoinLeave)?;
                }
                _ => {}
            }
        }
        Ok(wishes)
    }

    /// Reads the wishes of a request for events: the id of the last event counts more than the
    /// query, which an `EventSource` repeats as it was when it comes back. In a kind without a
    /// history no event had an id.
    pub(super) fn of_events(
        query: &str,
        headers: &HeaderMap,
        kind: &ServicePolicy,
    ) -> Result<Self, BadWish> {
        let mut wishes = Self::read(query, kind)?;
        if kind.history.is_none() {
            return Ok(wishes);
        }
        // Not UTF-8, a value is no position; empty, it is the id of no event.
        let id = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let id = id.map(|id| id.to_str().unwrap_or_default().parse());
        let id = id.transpose().map_err(BadWish::EventId)?;
        wishes.messages.since = id.or(wishes.messages.since);
        Ok(wishes)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;
    use crate::limits::Retention;

    /// A kind with a history, in which clients may ask to be told of joins and leaves.
    fn kind() -> ServicePolicy {
        let mut kind = ServicePolicy::of_rooms().with_history(Retention {
            messages: NonZeroUsize::MIN,
            bytes: 1,
            ttl: Duration::from_secs(1),
            recovery_max: None,
        });
        kind.presence.tell = Tell::Asked;
        kind
    }

    fn read(query: &str) -> Result<Wish, BadWish> {
        Wishes::read(query, &kind()).map(|wishes| wishes.messages)
    }

    #[test]
    fn a_kind_reads_the_names_of_what_it_has() {
        let query = "history=x&since=x&join_leave=x";
        let nothing = ServicePolicy::of_rooms();
        assert_eq!(Wishes::read(query, &nothing), Ok(Wishes::default()));
        let tells = ServicePolicy {
            history: None,
            ..kind()
        };
        for (query, told) in [
            ("join_leave=true", Ok(true)),
            ("history=x&join_leave=true", Ok(true)),
            ("join_leave=true&join_leave=false", Ok(false)),
            ("join_leave", Ok(false)),
            ("join_leave=1", Err(BadWish::JoinLeave)),
        ] {
            let read = Wishes::read(query, &tells).map(|wishes| wishes.join_leave);
            assert_eq!(read, told, "{query}");
        }
    }

    #[test]
    fn a_wish_is_read_from_a_query_with_escapes_and_without() {
        let position = "00000000000000ff:7";
        let since = position.parse().expect("a position");
        for (query, since, last) in [
            ("", None, 0),
            ("nick=ann&token=x", None, 0),
            ("history=10", None, 10),
            ("since=00000000000000ff:7", Some(since), 0),
            ("a=b&since=00000000000000ff%3A7&history=2", Some(since), 2),
        ] {
            assert_eq!(read(query), Ok(Wish { since, last }), "{query}");
        }
        let start = read("since=start").map(|wish| wish.since);
        assert_eq!(start, Ok(":0".parse().ok()));
        assert_eq!(read("since=:3").map(|wish| wish.since.is_some()), Ok(true));
        for query in ["history=", "history=-1", "history=many"] {
            assert_eq!(read(query), Err(BadWish::History), "{query}");
        }
        for query in [
            "since=",
            "since=7",
            "since=x:7",
            "since=Start",
            "since=00000000000000ff:07",
        ] {
            assert!(matches!(read(query), Err(BadWish::Since(_))), "{query}");
        }
    }

    fn of(query: &str, id: &[u8]) -> Result<Wish, BadWish> {
        let id = HeaderValue::from_bytes(id).expect("a header's value");
        of_events(query, &HeaderMap::from_iter([(LAST_EVENT_ID, id)]))
    }

    fn of_events(query: &str, headers: &HeaderMap) -> Result<Wish, BadWish> {
        Wishes::of_events(query, headers, &kind()).map(|wishes| wishes.messages)
    }

    #[test]
    fn the_id_of_the_last_event_counts_more_than_the_query() {
        let (id, other) = (b"00000000000000ff:7", "00000000000000aa:1");
        let since = "00000000000000ff:7".parse().ok();
        for query in [
            "",
            "history=2",
            "since=start",
            &format!("since={other}"),
            &format!("a=b&since={other}&history=2"),
        ] {
            assert_eq!(of(query, id).map(|wish| wish.since), Ok(since), "{query}");
            let without = read(query);
            assert_eq!(of_events(query, &HeaderMap::new()), without, "{query}");
            assert_eq!(of(query, b""), without, "{query}: an empty id is none");
        }
        for bad in [
            &b"7"[..],
            b" ",
            b"x:7",
            b"00000000000000ff:07",
            b"\xff",
            b"start",
        ] {
            let error = of("since=start", bad);
            assert!(matches!(error, Err(BadWish::EventId(_))), "{bad:?}");
        }
        let bad = of("history=many", id);
        assert_eq!(bad, Err(BadWish::History));
    }
}
