//! The address of a client behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::client::address::Network;

mod element;

/// The client's address: the address of the connection, or the rightmost address in the proxies'
/// headers that is not a trusted proxy.
///
/// Any client can write these headers, so an entry counts only if a trusted proxy has written it:
/// each proxy appends the address of its own client. `X-Forwarded-For` takes precedence over
/// `Forwarded`, whatever its content; a proxy must set, or remove, both.
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
    for hop in hops(headers) {
        // A hop without an address hides all hops before it.
        let Some(address) = hop else {
            break;
        };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    Some(nearest)
}

/// Parses one line of a header into its addresses, in their order.
type Read = fn(&[u8]) -> Vec<Option<IpAddr>>;

/// The client of each proxy, nearest proxy first; `None` if a proxy gives no address.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    const X_FORWARDED_FOR: &str = "x-forwarded-for";
    // `X-Forwarded-For` hides `Forwarded` even if it cannot be parsed: a proxy that writes the
    // first may pass on the second as its client wrote it.
    let (name, read): (_, Read) = if headers.contains_key(X_FORWARDED_FOR) {
        (X_FORWARDED_FOR, listed)
    } else {
        (header::FORWARDED.as_str(), element::addresses)
    };
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(move |line| read(line.as_bytes()).into_iter().rev())
}

/// The addresses in one line of `X-Forwarded-For`, in their order; empty elements are skipped (RFC
/// 9110 5.6.1).
fn listed(line: &[u8]) -> Vec<Option<IpAddr>> {
    let elements = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements
        .filter(|element| !element.is_empty())
        .map(|element| address(str::from_utf8(element).ok()?))
        .collect()
}

/// Parses `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, with or without a port.
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// The client's address for a connection from a trusted proxy, unless another connection is
    /// given.
    fn seen<V: AsRef<[u8]>>(connection: &str, lines: &[(&'static str, V)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_ref());
            headers.append(*name, value.expect("a header's value"));
        }
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
        let connection = connection.parse().expect("an address");
        let address = client_address(Some(connection), &headers, &proxies);
        address.expect("there is a connection").to_string()
    }

    const XFF: &str = "x-forwarded-for";
    const FORWARDED: &str = "forwarded";

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
        // The client itself wrote the entries to the left.
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
        assert_eq!(seen::<&str>("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[(XFF, "10.0.0.9, 10.0.0.2")]), "10.0.0.9");
    }

    #[test]
    fn a_hop_without_an_address_hides_what_is_before_it() {
        for hop in [
            "unknown",
            "\u{e9}",
            "_hidden",
            "198.51.100",
            "[::2",
            "198.51.100.1:x",
        ] {
            let line = format!("198.51.100.1, {hop}, 10.0.0.2");
            assert_eq!(seen("10.0.0.1", &[(XFF, &line)]), "10.0.0.2", "{hop}");
            let line = format!("for=198.51.100.1, for={hop}, for=10.0.0.2");
            assert_eq!(seen("10.0.0.1", &[(FORWARDED, line)]), "10.0.0.2", "{hop}");
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

    #[test]
    fn an_empty_element_is_no_hop() {
        for line in [
            "198.51.100.1,",
            "198.51.100.1, ,\t,10.0.0.2,,",
            ",198.51.100.1",
        ] {
            assert_eq!(seen("10.0.0.1", &[(XFF, line)]), "198.51.100.1", "{line}");
        }
        let lines = [(XFF, "198.51.100.1"), (XFF, ""), (XFF, ",")];
        assert_eq!(seen("10.0.0.1", &lines), "198.51.100.1");
        let lines = [(FORWARDED, "for=198.51.100.1,,"), (FORWARDED, " ")];
        assert_eq!(seen("10.0.0.1", &lines), "198.51.100.1");
    }

    /// A proxy that writes `X-Forwarded-For` may pass on a `Forwarded` invented by its client.
    #[test]
    fn a_clients_forwarded_never_beats_the_proxys_x_forwarded_for() {
        let made_up = (FORWARDED, &b"for=203.0.113.7"[..]);
        for (line, address) in [
            (&b"198.51.100.1"[..], "198.51.100.1"),
            (b"unknown", "10.0.0.1"),
            (b"", "10.0.0.1"),
            (b" , ,", "10.0.0.1"),
            // Bytes of an encoding other than UTF-8.
            (b"\xe9", "10.0.0.1"),
            (b"198.51.100.1, \xff", "10.0.0.1"),
            (b"\xff, 198.51.100.1", "198.51.100.1"),
        ] {
            for lines in [[(XFF, line), made_up], [made_up, (XFF, line)]] {
                assert_eq!(seen("10.0.0.1", &lines), address, "{lines:?}");
            }
        }
        let lines = [(XFF, &b"198.51.100.1"[..]), (XFF, b"\xe9"), made_up];
        assert_eq!(seen("10.0.0.1", &lines), "10.0.0.1");
    }

    /// Headers that proxies append when the nearest one has the address 10.0.0.1, and the client
    /// that they name. Some of the headers repeat a name chosen by the client, as a quoted string.
    fn appended(name: &str) -> [(String, &'static str); 5] {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        [
            ("for=198.51.100.1".to_owned(), "198.51.100.1"),
            (
                "for=\"[2001:db8::7]:80\";proto=https".to_owned(),
                "2001:db8::7",
            ),
            (
                format!("for=198.51.100.1;host=\"{escaped}\""),
                "198.51.100.1",
            ),
            (
                format!("host=\"{escaped}\";for=\"198.51.100.1\""),
                "198.51.100.1",
            ),
            (
                format!("for=198.51.100.1;host=\"{escaped}\", for=10.0.0.2;host=\"{escaped}\""),
                "198.51.100.1",
            ),
        ]
    }

    /// Asserts that a client with this name that writes this header cannot choose its address.
    fn chooses_nothing(own: &[u8], name: &str) {
        for (appended, client) in appended(name) {
            let mut line = own.to_vec();
            line.extend(b", ");
            line.extend(appended.as_bytes());
            let seen_as = seen("10.0.0.1", &[(FORWARDED, line)]);
            // If its own address is lost, the client counts as the nearest known proxy.
            let allowed = [client, "10.0.0.1", "10.0.0.2"];
            let told = format!("{} | {appended}", own.escape_ascii());
            assert!(allowed.contains(&seen_as.as_str()), "{told}: {seen_as}");
            if !own.contains(&b'"') {
                assert_eq!(seen_as, client, "{told}");
            }
            // A line of the proxy is read whatever the lines before it contain.
            let lines = [(FORWARDED, own), (FORWARDED, appended.as_bytes())];
            assert_eq!(seen("10.0.0.1", &lines), client, "{told}");
        }
    }

    /// Fragments for headers invented by a client, which its proxy does not remove.
    const PIECES: [&str; 9] = [
        "for=203.0.113.7",
        "for=\"203.0.113.7\"",
        "\"",
        "\\",
        ",",
        ";",
        "host=",
        "a",
        " ",
    ];

    #[test]
    fn no_few_pieces_that_a_client_writes_choose_its_address() {
        let texts = |pieces: usize| {
            let count = PIECES.len().pow(u32::try_from(pieces).expect("few"));
            (0..count).map(move |number| {
                let places = (0..pieces).scan(number, |rest, _| {
                    let piece = PIECES[*rest % PIECES.len()];
                    *rest /= PIECES.len();
                    Some(piece)
                });
                places.collect::<String>()
            })
        };
        for own in (0..=4).flat_map(texts) {
            chooses_nothing(own.as_bytes(), "a,for=203.0.113.7");
        }
        for name in (0..=3).flat_map(texts) {
            for own in ["\"", "host=\"a", "host=\"\\", "a"] {
                chooses_nothing(own.as_bytes(), &name);
            }
        }
    }

    proptest! {
        #![proptest_config(crate::cases::cases())]

        #[test]
        fn whatever_a_client_writes_it_does_not_choose_its_address(
            own in prop_oneof![
                vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
                vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..40),
            ],
            name in prop_oneof![
                vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat()),
                "[ -~]{0,30}",
            ],
        ) {
            chooses_nothing(&own, &name);
        }
    }
}
