//! Finds the token of a request: in a header, a subprotocol, or the URL.

use axum::http::{HeaderMap, Uri, header};

use crate::client::identity::Token;
use crate::server::subprotocols;

/// The prefix of a subprotocol that carries a token, which a browser can send.
const SUBPROTOCOL: &str = "bearer.";

/// The beginning of the pair in a query that carries a token.
const IN_QUERY: &str = "token=";

/// The token in the headers of a request: from `Authorization: Bearer`, or the subprotocol
/// `bearer.<token>`, in this order.
pub(in crate::server) fn in_headers(headers: &HeaderMap) -> Option<Token> {
    let header = headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| bearer(value.to_str().ok()?));
    let subprotocol =
        || subprotocols::listed(headers).find_map(|name| name.strip_prefix(SUBPROTOCOL));
    header.or_else(subprotocol).map(Token::new)
}

/// The token in the query of a request, `?token=`, which counts if there is none in the headers.
pub(in crate::server) fn in_query(uri: &Uri) -> Option<Token> {
    let mut pairs = uri.query()?.split('&');
    let token = pairs.find_map(|pair| pair.strip_prefix(IN_QUERY));
    token.map(Token::new)
}

/// The query of a request without its token, which is a secret; `None` if nothing else is in it.
pub(in crate::server) fn query_without_token(uri: &Uri) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let others: Vec<_> = pairs.filter(|pair| !pair.starts_with(IN_QUERY)).collect();
    let query = others.join("&");
    (!query.is_empty()).then_some(query)
}

/// The token in a value of `Authorization`; the scheme is case-insensitive.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_token = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    is_token.then_some(token)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(headers: &[(&'static str, &'static str)], uri: &str) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let uri = uri.parse().expect("an address");
        let token = in_headers(&map).or_else(|| in_query(&uri))?;
        Some(token.reveal().to_owned())
    }

    #[test]
    fn a_query_is_told_without_its_token() {
        for (uri, expected) in [
            ("/ws/x", None),
            ("/ws/x?", None),
            ("/ws/x?token=a.b.c", None),
            ("/ws/x?nick=ann", Some("nick=ann")),
            ("/ws/x?a=1&token=a.b.c&b=2&token=d", Some("a=1&b=2")),
            ("/ws/x?tokens=1", Some("tokens=1")),
        ] {
            let query = query_without_token(&uri.parse().expect("an address"));
            assert_eq!(query.as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn a_token_is_found_in_each_place_and_the_header_goes_first() {
        let header = ("authorization", "Bearer a.b.c");
        let protocol = ("sec-websocket-protocol", "chat, bearer.d.e.f");
        for (headers, uri, token) in [
            (&[header][..], "/ws/x", Some("a.b.c")),
            (&[protocol], "/ws/x", Some("d.e.f")),
            (&[], "/ws/x?a=1&token=g.h.i&b=2", Some("g.h.i")),
            (&[protocol, header], "/ws/x?token=g.h.i", Some("a.b.c")),
            (&[protocol], "/ws/x?token=g.h.i", Some("d.e.f")),
            (
                &[("sec-websocket-protocol", ", chat,,bearer.x ,chat, bearer.y")],
                "/",
                Some("x"),
            ),
            (
                &[("sec-websocket-protocol", "Bearer.x, BEARER.y")],
                "/",
                None,
            ),
            (&[("authorization", "bearer  x ")], "/", Some("x")),
            (&[("authorization", "Basic x")], "/?token=t", Some("t")),
            (&[("authorization", "Bearer ")], "/", None),
            (&[], "/?tokens=1&mytoken=2", None),
            (&[], "/", None),
        ] {
            assert_eq!(found(headers, uri).as_deref(), token, "{headers:?} {uri}");
        }
    }
}
