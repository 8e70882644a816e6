//! The host that a request names: RFC 9112 3.2 and 3.3; pure.

use axum::http::{HeaderMap, HeaderValue, Uri, Version, header};

use crate::client::host::Authority;

/// The request does not name exactly one valid host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHost {
    #[error("the request names no host: send one Host, as HOST or HOST:PORT")]
    Missing,
    #[error("the request names more than one host: send one Host, as HOST or HOST:PORT")]
    Several,
    #[error("the request names something that is no host: send one Host, as HOST or HOST:PORT")]
    Malformed,
}

/// The host that a request names, in its target or in `Host`; only HTTP/1.0 may omit it.
///
/// By RFC 9112 3.2.2 the target takes precedence over a different `Host`. This function requires
/// them to agree, because a proxy before the server may have used the other.
pub(super) fn host(
    version: Version,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Authority>, BadHost> {
    let field = field(headers)?;
    // In HTTP/2, which a foreign server may speak, the target contains the host.
    if field.is_none() && version == Version::HTTP_11 {
        return Err(BadHost::Missing);
    }
    let Some(authority) = target.authority() else {
        return Ok(field);
    };
    let named: Authority = parse(authority.as_str())?;
    let of_scheme = match target.scheme_str() {
        Some("http" | "ws") => Some(80),
        Some("https" | "wss") => Some(443),
        Some(_) | None => None,
    };
    let whole = |named: &Authority| (named.host.clone(), named.port.or(of_scheme));
    match field {
        Some(field) if whole(&field) != whole(&named) => Err(BadHost::Several),
        Some(_) | None => Ok(Some(named)),
    }
}

fn field(headers: &HeaderMap) -> Result<Option<Authority>, BadHost> {
    let mut fields = headers.get_all(header::HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => parse(text(one)?).map(Some),
        (Some(_), Some(_)) => Err(BadHost::Several),
    }
}

fn text(value: &HeaderValue) -> Result<&str, BadHost> {
    value.to_str().map_err(|_| BadHost::Malformed)
}

fn parse(text: &str) -> Result<Authority, BadHost> {
    text.parse().map_err(|_| BadHost::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(version: Version, target: &str, fields: &[&str]) -> Result<Option<String>, BadHost> {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_bytes(field.as_bytes());
            headers.append(header::HOST, value.expect("no control characters"));
        }
        let target = target.parse().expect("a target");
        let named = host(version, &target, &headers)?;
        Ok(named.map(|named| named.to_string()))
    }

    #[test]
    fn a_request_of_http_1_1_names_one_host_and_one_of_http_1_0_at_most_one() {
        use BadHost::{Malformed, Missing, Several};
        let ok = |text: &str| Ok(Some(text.to_owned()));
        for (fields, new, old) in [
            (&[][..], Err(Missing), Ok(None)),
            (&["localhost:80"], ok("localhost:80"), ok("localhost:80")),
            (&["a", "a"], Err(Several), Err(Several)),
            (&["a", "b"], Err(Several), Err(Several)),
            (&[""], Err(Malformed), Err(Malformed)),
            (&["a b/../c"], Err(Malformed), Err(Malformed)),
            (&["a, b"], Err(Malformed), Err(Malformed)),
            (&["\u{e9}"], Err(Malformed), Err(Malformed)),
        ] {
            assert_eq!(named(Version::HTTP_11, "/", fields), new, "{fields:?}");
            assert_eq!(named(Version::HTTP_10, "/", fields), old, "{fields:?}");
        }
    }

    #[test]
    fn a_target_with_a_host_is_judged_by_it_and_agrees_with_the_field() {
        use BadHost::{Malformed, Missing, Several};
        let ok = |text: &str| Ok(Some(text.to_owned()));
        for (target, fields, expected) in [
            ("http://evil/", &["evil"][..], ok("evil")),
            ("http://evil/", &["evil:80"], ok("evil")),
            ("https://evil:443/", &["evil"], ok("evil:443")),
            ("http://evil/", &["localhost"], Err(Several)),
            ("http://localhost/", &["evil"], Err(Several)),
            ("http://localhost:81/", &["localhost"], Err(Several)),
            ("http://localhost/", &[], Err(Missing)),
            ("http://user@localhost/", &["localhost"], Err(Malformed)),
            ("http://a~b/", &["localhost"], Err(Malformed)),
            ("localhost:81", &["localhost:81"], ok("localhost:81")),
            ("*", &["localhost"], ok("localhost")),
            ("//evil/", &["localhost"], ok("localhost")),
        ] {
            let read = named(Version::HTTP_11, target, fields);
            assert_eq!(read, expected, "{target} {fields:?}");
        }
        assert_eq!(named(Version::HTTP_10, "http://evil/", &[]), ok("evil"));
        assert_eq!(named(Version::HTTP_2, "https://evil/", &[]), ok("evil"));
    }
}
