//! The wishes of a request in its query: for messages of a history by `?since=EPOCH:OFFSET` and
//! `?history=N`, for joins and leaves by `?join_leave=true`.

use percent_encoding::percent_decode_str;

use crate::bus::PositionError;
use crate::limits::{ServicePolicy, Tell};
use crate::session::Wish;

/// The reason why a query has no valid wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadWish {
    #[error("`join_leave` is true or false")]
    JoinLeave,
    #[error("`history` is a number of messages, such as ?history=10")]
    History,
    #[error("`since` is the position that the server has told last, <epoch>:<offset>: {0}")]
    Since(PositionError),
}

/// The wishes in a query.
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
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

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
        assert_eq!(read("since=:3").map(|wish| wish.since.is_some()), Ok(true));
        for query in ["history=", "history=-1", "history=many"] {
            assert_eq!(read(query), Err(BadWish::History), "{query}");
        }
        for query in [
            "since=",
            "since=7",
            "since=x:7",
            "since=00000000000000ff:07",
        ] {
            assert!(matches!(read(query), Err(BadWish::Since(_))), "{query}");
        }
    }
}
