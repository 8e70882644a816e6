//! The elements of `Forwarded`, each written by one proxy: RFC 7239 4.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of the `for` parameters in one line, in their order.
///
/// `None` stands for an element without an address or with invalid syntax. An empty element is
/// skipped (RFC 9110 5.6.1).
///
/// A quote toggles quoted text at any position. So a quote that a client leaves open swallows the
/// text behind it into an element with invalid syntax. If a quote of the proxy closes the client's
/// quote, the proxy's quoted text counts as unquoted: its last element then ends inside quoted
/// text, or has a backslash outside it, and its syntax is invalid, too.
pub(super) fn addresses(line: &[u8]) -> Vec<Option<IpAddr>> {
    let elements = Pieces::of(line, b',').map(<[u8]>::trim_ascii);
    elements
        .filter(|element| !element.is_empty())
        .map(address)
        .collect()
}

/// The address of `for=192.0.2.1;proto=https`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let mut node = None;
    for pair in Pieces::of(element, b';').map(<[u8]>::trim_ascii) {
        // The grammar allows `;;`.
        if pair.is_empty() {
            continue;
        }
        let (name, value) = parameter(pair)?;
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
    }
    of_node(str::from_utf8(&node?).ok()?)
}

/// A name and its value, which is a token or a quoted string.
fn parameter(pair: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>)> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&pair[..equals], &pair[equals + 1..]);
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => Cow::Owned(unquoted(quoted)?),
        None => Cow::Borrowed(is_token(value).then_some(value)?),
    };
    is_token(name).then_some((name, value))
}

/// The text of a quoted string, without its opening quote: RFC 9110 5.6.4.
fn unquoted(quoted: &[u8]) -> Option<Vec<u8>> {
    let (last, inside) = quoted.split_last()?;
    let mut text = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => text.push(bytes.next()?),
            byte => text.push(byte),
        }
    }
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    (*last == b'"' && text.iter().all(is_text)).then_some(text)
}

/// Whether the bytes are a token: RFC 9110 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_part)
}

/// The address of `192.0.2.1` or `[2001:db8::1]`, with or without a port: RFC 7239 6.
///
/// `None` for `unknown` and for obfuscated names such as `_hidden`.
fn of_node(node: &str) -> Option<IpAddr> {
    let (address, port) = match node.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (address, port) = node.split_at(node.find(':').unwrap_or(node.len()));
            (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    (port.is_empty() || is_port(port)).then_some(address)
}

/// Whether the text is a port, such as `:8080`, or an obfuscated port, such as `:_a`.
fn is_port(port: &str) -> bool {
    let Some(port) = port.strip_prefix(':') else {
        return false;
    };
    match port.strip_prefix('_') {
        Some(name) => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part)
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// The parts between the separators outside quoted text.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Pieces<'a> {
    fn of(bytes: &'a [u8], separator: u8) -> Self {
        Self {
            rest: Some(bytes),
            separator,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some(end) = end(rest, self.separator) else {
            return Some(rest);
        };
        self.rest = Some(&rest[end + 1..]);
        Some(&rest[..end])
    }
}

/// The position of the first separator outside quoted text.
fn end(bytes: &[u8], separator: u8) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    bytes.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            byte => return !is_quoted && *byte == separator,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<String> {
        let addresses = addresses(line.as_bytes()).into_iter();
        let told =
            addresses.map(|address| address.map_or_else(|| "-".to_owned(), |at| at.to_string()));
        told.collect()
    }

    #[test]
    fn an_element_names_the_address_that_its_proxy_has_heard_from() {
        for (element, address) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("FOR=192.0.2.1", "192.0.2.1"),
            ("for=\"192.0.2.1\"", "192.0.2.1"),
            ("for=\"192.0.2.1:80\"", "192.0.2.1"),
            ("for=\"192.0.2.1:_port.1\"", "192.0.2.1"),
            ("for=\"1\\92.0.2.1\"", "192.0.2.1"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=192.0.2.1;", "192.0.2.1"),
            (";;for=192.0.2.1;;by=_a", "192.0.2.1"),
            ("proto=https; for=192.0.2.1 ; by=_a", "192.0.2.1"),
            ("for=192.0.2.1;host=\"a;for=192.0.2.2\"", "192.0.2.1"),
            ("host=\"a,for=192.0.2.2\";for=192.0.2.1", "192.0.2.1"),
            ("host=\"a\\\",for=192.0.2.2\";for=192.0.2.1", "192.0.2.1"),
            ("host=\"a\\\\\";for=192.0.2.1", "192.0.2.1"),
            ("host=\"\u{e9}\";for=192.0.2.1", "192.0.2.1"),
            ("host=\"\";for=192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(read(element), [address], "{element}");
        }
    }

    #[test]
    fn an_element_without_an_address_names_none() {
        for element in [
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "proto=https",
            ";",
            "for=\"\"",
        ] {
            assert_eq!(read(element), ["-"], "{element}");
        }
    }

    #[test]
    fn an_element_that_breaks_the_grammar_names_none() {
        for element in [
            "192.0.2.1",
            "for",
            "for=",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 192.0.2.2",
            "for=192.0.2.1:80",
            "for=[2001:db8::1]",
            "for=\"2001:db8::1\"",
            "for=\"[2001:db8::1\"",
            "for=\"[192.0.2.1]\"",
            "for=\"[2001:db8::1]80\"",
            "for=\"192.0.2.1:\"",
            "for=\"192.0.2.1:123456\"",
            "for=\"192.0.2.1:x\"",
            "for=\"192.0.2.1:_\"",
            "for=\" 192.0.2.1\"",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\\"",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\"\"\"",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;For=192.0.2.2",
            "for=192.0.2.1;host=a:80",
            "for=192.0.2.1;host",
            "for=192.0.2.1;host=\"a",
            "for=192.0.2.1;\"host\"=a",
            "for=192.0.2.1;ho\u{e9}t=a",
            "for=192.0.2.1;host=a\\",
        ] {
            assert_eq!(read(element), ["-"], "{element}");
        }
    }

    #[test]
    fn elements_are_told_apart_outside_of_quoted_text_only() {
        for (line, addresses) in [
            (
                "for=192.0.2.1,for=192.0.2.2",
                &["192.0.2.1", "192.0.2.2"][..],
            ),
            (
                "for=192.0.2.1;host=\"a,b\", x, for=192.0.2.2",
                &["192.0.2.1", "-", "192.0.2.2"],
            ),
            (
                "for=192.0.2.1, for=\"192.0.2.2, for=192.0.2.3",
                &["192.0.2.1", "-"],
            ),
            (" , for=192.0.2.1 ,\t,", &["192.0.2.1"]),
            ("", &[]),
            (",", &[]),
        ] {
            assert_eq!(read(line), addresses, "{line}");
        }
    }
}
