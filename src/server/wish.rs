//! The wish of a request for messages of a history: `?since=EPOCH:OFFSET` and `?history=N`.

use percent_encoding::percent_decode_str;

use crate::bus::PositionError;
use crate::session::Wish;

/// The reason why a query has no valid wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadWish {
    #[error("`history` is a number of messages, such as ?history=10")]
    History,
    #[error("`since` is the position that the server has told last, <epoch>:<offset>: {0}")]
    Since(PositionError),
}

/// Reads the wish in a query; the last one counts if there are several.
pub(super) fn read(query: &str) -> Result<Wish, BadWish> {
    let mut wish = Wish::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "since" => wish.since = Some(value.parse().map_err(BadWish::Since)?),
            "history" => wish.last = value.parse().map_err(|_| BadWish::History)?,
            _ => {}
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

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
