//! The caller of a request, by the key in its headers.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};

use crate::app::App;
use crate::caller::Rights;
use crate::rt::Runtime;

/// The header of a key, as Centrifugo has it.
const API_KEY: &str = "x-api-key";

/// The scheme of a key in the header `Authorization`.
const SCHEME: &[u8] = b"apikey ";

/// The path of the API, and the beginning of the paths below it.
pub(super) const API: &str = "/api";

/// The caller of a request, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The request shows a key that is known.
    Known(Arc<Rights>),
    /// The request shows no key where one may be.
    NoKey,
    /// The request shows a key that is not known, or more than one.
    WrongKey,
}

/// The caller of a request.
pub(super) fn of<R: Runtime>(app: &App<R>, request: &Request) -> Caller {
    let Some(shown) = shown(request.headers()) else {
        return Caller::NoKey;
    };
    let policies = app.policies();
    let known = shown.and_then(|key| policies.api_keys.find(key));
    known.map_or(Caller::WrongKey, |rights| Caller::Known(Arc::clone(rights)))
}

/// Whether a request for the API shows a key, known or not.
pub(super) fn shows_key(request: &Request) -> bool {
    let path = request.uri().path().strip_prefix(API);
    let is_call = path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_call && shown(request.headers()).is_some()
}

/// The key in the headers; `Some(None)` if there is more than one.
fn shown(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    let named = headers.get_all(API_KEY).into_iter();
    let named = named.map(HeaderValue::as_bytes);
    let authorized = headers.get_all(header::AUTHORIZATION).into_iter();
    let authorized = authorized.filter_map(|value| key_of(value.as_bytes()));
    let mut keys = named.chain(authorized);
    let first = keys.next()?;
    Some(keys.all(|key| key == first).then_some(first))
}

/// The key in a field of `Authorization`; `None` for another scheme.
fn key_of(field: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = field.split_at_checked(SCHEME.len())?;
    let is_ours = scheme.eq_ignore_ascii_case(SCHEME);
    is_ours.then(|| key.trim_ascii())
}

/// Whether the query has a key, where none may be: proxies log it.
pub(super) fn has_key_in_query(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let mut names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default());
    names.any(|name| name.eq_ignore_ascii_case("api_key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(*name, value);
        }
        headers
    }

    #[test]
    fn a_key_is_in_either_header_and_two_different_ones_are_none() {
        for (fields, expected) in [
            (&[][..], None),
            (&[("x-api-key", "k")][..], Some(Some("k"))),
            (&[("authorization", "apikey k")], Some(Some("k"))),
            (&[("authorization", "APIKEY  k ")], Some(Some("k"))),
            (&[("authorization", "Bearer k")], None),
            (&[("authorization", "apikey")], None),
            (
                &[("x-api-key", "k"), ("authorization", "apikey k")],
                Some(Some("k")),
            ),
            (&[("x-api-key", "k"), ("x-api-key", "l")], Some(None)),
            (
                &[("x-api-key", "k"), ("authorization", "Bearer l")],
                Some(Some("k")),
            ),
        ] {
            let headers = headers(fields);
            let expected = expected.map(|key: Option<&str>| key.map(str::as_bytes));
            assert_eq!(shown(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_seen_wherever_it_is() {
        for (query, expected) in [
            ("", false),
            ("?api_key=k", true),
            ("?a=b&API_KEY", true),
            ("?xapi_key=k", false),
            ("?a=api_key", false),
        ] {
            let uri = format!("/api/publish{query}");
            let request = axum::http::Request::builder().uri(uri);
            let request = request.body(axum::body::Body::empty()).expect("a request");
            assert_eq!(has_key_in_query(&request), expected, "{query}");
        }
    }
}
