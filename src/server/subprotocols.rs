//! The subprotocols that a client lists: names of message formats, and possibly its token.

use axum::http::{HeaderMap, header};

/// The names in the client's order of preference; a line that is not text is skipped.
///
/// RFC 6455 4.1 forbids empty and repeated names. Both kinds are harmless: an empty name is skipped
/// (RFC 9110 5.6.1), and at most one name is selected.
pub(super) fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let names = lines.flat_map(|line| line.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty())
}
