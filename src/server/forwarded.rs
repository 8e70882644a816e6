//! Where a client is, if proxies that one trusts stand in between.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::address::Network;

/// The client's address: that of the connection, or the rightmost one in the proxies' words that is
/// not a trusted proxy's.
///
/// Anybody can write the headers, so a word counts only if a trusted proxy has said it: each proxy
/// appends whom it has heard from. `X-Forwarded-For` comes before `Forwarded`; a proxy must set, or
/// remove, both.
pub(super) fn client_address(
    connection: Option<IpAddr>,
    headers: &HeaderMap,
    proxies: &[Network],
) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut nearest = connection?;
    if !is_trusted(nearest) {
        return Some(nearest);
    }
    for hop in hops(headers).iter().rev() {
        // A hop without an address hides everything before it.
        let Some(address) = address(hop) else {
            break;
        };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    Some(nearest)
}

/// Whom each proxy has heard from, the nearest one last.
fn hops(headers: &HeaderMap) -> Vec<&str> {
    let hops = elements(headers, "x-forwarded-for");
    if !hops.is_empty() {
        return hops;
    }
    let elements = elements(headers, header::FORWARDED.as_str());
    elements.into_iter().map(forwarded_for).collect()
}

/// The elements of a header's comma-separated lists; a list that is not text has one that is empty.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lists = headers.get_all(name).into_iter();
    let lists = lists.map(|value| value.to_str().unwrap_or_default());
    lists
        .flat_map(|list| list.split(',').map(str::trim))
        .collect()
}

/// The node of `for=192.0.2.1;proto=https` (RFC 7239 4).
fn forwarded_for(element: &str) -> &str {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let node = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    node.map_or("", |(_, value)| value.trim().trim_matches('"'))
}

/// `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let with_port = || hop.parse().ok().map(|socket: SocketAddr| socket.ip());
    bare.unwrap_or(hop).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The client's address for a connection from a trusted proxy, unless another one is given.
    fn seen(connection: &str, lines: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
        let connection = connection.parse().expect("an address");
        let address = client_address(Some(connection), &headers, &proxies);
        address.expect("there is a connection").to_string()
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(seen("192.0.2.9", &[(XFF, "198.51.100.1")]), "192.0.2.9");
        assert_eq!(
            seen("192.0.2.9", &[("forwarded", "for=198.51.100.1")]),
            "192.0.2.9"
        );
        assert_eq!(client_address(None, &HeaderMap::new(), &[]), None);
    }

    #[test]
    fn the_rightmost_that_is_no_proxy_counts() {
        assert_eq!(seen("10.0.0.1", &[(XFF, "198.51.100.1")]), "198.51.100.1");
        // What stands to the left of it the client has written itself.
        assert_eq!(
            seen("10.0.0.1", &[(XFF, "1.1.1.1, 198.51.100.1")]),
            "198.51.100.1"
        );
        assert_eq!(
            seen("10.0.0.1", &[(XFF, "198.51.100.1, 10.0.0.2,10.0.0.3")]),
            "198.51.100.1"
        );
        assert_eq!(
            seen("10.0.0.1", &[(XFF, "1.1.1.1"), (XFF, "198.51.100.1")]),
            "198.51.100.1"
        );
        assert_eq!(seen("::1", &[(XFF, "2001:db8::7")]), "2001:db8::7");
        assert_eq!(
            seen("::ffff:10.0.0.1", &[(XFF, "198.51.100.1")]),
            "198.51.100.1"
        );
    }

    #[test]
    fn where_there_are_proxies_only_the_farthest_counts() {
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[(XFF, "10.0.0.9, 10.0.0.2")]), "10.0.0.9");
    }

    #[test]
    fn a_hop_without_an_address_hides_what_is_before_it() {
        for hop in [
            "unknown",
            "",
            "_hidden",
            "198.51.100",
            "[::2",
            "198.51.100.1:x",
        ] {
            let line: &'static str = format!("198.51.100.1, {hop}, 10.0.0.2").leak();
            assert_eq!(seen("10.0.0.1", &[(XFF, line)]), "10.0.0.2", "{hop}");
        }
    }

    #[test]
    fn ports_brackets_and_quotes_are_taken_off() {
        for (hop, address) in [
            ("198.51.100.1:80", "198.51.100.1"),
            ("[2001:db8::7]:80", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
        ] {
            assert_eq!(seen("10.0.0.1", &[(XFF, hop)]), address);
        }
        for (element, address) in [
            ("for=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
            ("proto=https; For=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=1.1.1.1, for=198.51.100.1", "198.51.100.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(
                seen("10.0.0.1", &[("forwarded", element)]),
                address,
                "{element}"
            );
        }
    }
}
