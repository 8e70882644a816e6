//! Syntax check for hosts to listen on; pure.

use std::net::SocketAddrV6;

/// Maximum length of a host name and of a label in it, in bytes (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Whether the text may be a host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn can_be(host: &str) -> bool {
    if host.starts_with('[') {
        // `SocketAddrV6` accepts a scope, which `Ipv6Addr` does not.
        return format!("{host}:0").parse::<SocketAddrV6>().is_ok();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    // A host name never ends with a number, so that it cannot be mistaken for an address.
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        is_ipv4(host)
    } else {
        is_name(name)
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label =
        |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_plain);
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

/// Whether the operating system accepts the text as an IPv4 address; short forms such as `127.1`
/// are allowed.
fn is_ipv4(host: &str) -> bool {
    let mut parts: Vec<_> = host.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let bits = 32 - 8 * parts.len().min(4);
    let is_last = last.parse::<u64>().is_ok_and(|number| number < 1 << bits);
    parts.len() < 4 && parts.iter().all(|part| part.parse::<u8>().is_ok()) && is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_can_be_listened_on_and_what_is_neither_cannot() {
        let long = "a".repeat(LABEL_BYTES_MAX);
        let longest = [long.as_str(); 3].join(".") + "." + &"a".repeat(61);
        for host in [
            "localhost",
            "example.com",
            "example.com.",
            "a-b_c.d2",
            "127.0.0.1",
            "127.1",
            "0",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1%2]",
            &long,
            &longest,
        ] {
            assert!(can_be(host), "{host}");
        }
        for host in [
            "",
            ".",
            "256.1.1.1",
            "1.2.3.4.5",
            "1.2.3.256",
            "4294967296",
            "a.1",
            "a..b",
            "a b",
            "http://localhost",
            "user@localhost",
            "::1",
            "[::1",
            "[1.2.3.4]",
            "[::g]",
            "[::1]x",
            "h\u{f6}st",
            "*",
            &format!("{long}a"),
            &format!("{longest}a"),
        ] {
            assert!(!can_be(host), "{host}");
        }
    }
}
