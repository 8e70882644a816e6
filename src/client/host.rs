//! Hosts in requests (RFC 9110 7.2), and lists of hosts; without IO.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest name of a host, in bytes, without a dot at its end (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// A host: an IP address, or a name in lower case without a dot at its end.
///
/// An IPv4 address mapped to IPv6 (`::ffff:127.0.0.1`) counts as the IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A name of letters, digits, `-`, `_` and `.`.
    Name(String),
}

/// A host with an optional port, as in the `Host` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port; `None` for the default port of the scheme.
    pub port: Option<u16>,
}

/// The error for a text that is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no host: write a name, an IPv4 address, or an IPv6 address in brackets")]
pub struct HostError;

/// A pattern of hosts: `bus.example`, `10.0.0.7`, `[fd00::7]`, `*.example.com`, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Named);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Any,
    /// The texts before and after the `*`.
    Between(String, String),
    One(Host),
}

/// The error for a text that is no pattern of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no pattern of hosts")]
pub struct PatternError;

/// The hosts by which requests may name a server, beside those that are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Pattern>);

impl Host {
    /// Whether the host is this machine itself: `localhost`, a name below it, a loopback address.
    pub fn means_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Whether the host is an IP address, which no answer of a name server can change.
    pub fn is_address(&self) -> bool {
        matches!(self, Self::Address(_))
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inside = rest.strip_suffix(']').ok_or(HostError)?;
            let address: Ipv6Addr = inside.parse().map_err(|_| HostError)?;
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        // The dot at the end of an absolute name is no part of the name.
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        is_name(&name).then_some(Self::Name(name)).ok_or(HostError)
    }
}

/// Whether a text is a name that resolvers accept. RFC 3986 allows more characters, which no host
/// has.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() <= NAME_BYTES_MAX
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(letter))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Splits a text at the colon after the host; colons inside of brackets belong to an IPv6 address.
pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
    let host = text.find(']').map_or(0, |bracket| bracket + 1);
    match text[host..].find(':') {
        Some(colon) => (&text[..host + colon], Some(&text[host + colon + 1..])),
        None => (text, None),
    }
}

/// Parses a port, of digits only.
pub(crate) fn port(digits: &str) -> Option<u16> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

impl FromStr for Authority {
    type Err = HostError;

    /// Parses `host`, `host:port` or `host:`.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, digits) = split_port(text);
        let port = match digits {
            None | Some("") => None,
            Some(digits) => Some(port(digits).ok_or(HostError)?),
        };
        let host = host.parse()?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Pattern {
    /// Whether the pattern is `*`, which matches every host.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == Named::Any
    }

    /// Whether the pattern matches a host; a `*` stands for at least one character of a name.
    pub fn matches(&self, host: &Host) -> bool {
        match &self.0 {
            Named::Any => true,
            Named::Between(start, end) => {
                let host = host.to_string();
                host.len() > start.len() + end.len()
                    && host.starts_with(start)
                    && host.ends_with(end)
            }
            Named::One(one) => one == host,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some((start, end)) = text.split_once('*') else {
            let host = text.parse().or_else(|_| format!("[{text}]").parse());
            return host
                .map(|host| Self(Named::One(host)))
                .map_err(|HostError| PatternError);
        };
        if text == "*" {
            return Ok(Self(Named::Any));
        }
        let end = end.strip_suffix('.').unwrap_or(end);
        // A second `*` would make the pattern hard to read. A `*` at the end would match every
        // host, as anybody can register a name.
        let is_whole = !end.is_empty() && is_name(&format!("{start}x{end}"));
        let between = Named::Between(start.to_ascii_lowercase(), end.to_ascii_lowercase());
        is_whole.then_some(Self(between)).ok_or(PatternError)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Named::Any => f.write_str("*"),
            Named::Between(start, end) => write!(f, "{start}*{end}"),
            Named::One(host) => host.fmt(f),
        }
    }
}

impl Hosts {
    /// Makes the list of these patterns.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether requests may name this host.
    pub fn allow(&self, host: &Host) -> bool {
        self.0.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether a pattern other than `*` matches this host: the operator has named it.
    pub fn names(&self, host: &Host) -> bool {
        let mut named = self.0.iter().filter(|pattern| !pattern.is_any());
        named.any(|pattern| pattern.matches(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap_or_else(|_| panic!("{text} is no host"))
    }

    fn hosts(patterns: &[&str]) -> Hosts {
        let patterns = patterns.iter().map(|pattern| pattern.parse());
        Hosts::new(patterns.collect::<Result<_, _>>().expect("patterns"))
    }

    #[test]
    fn a_host_is_read_in_any_case_with_a_dot_at_its_end_and_with_a_port() {
        for (text, shown) in [
            ("localhost", "localhost"),
            ("LocalHost:8080", "localhost:8080"),
            ("localhost.", "localhost"),
            ("localhost.:80", "localhost:80"),
            ("localhost:", "localhost"),
            ("localhost:00080", "localhost:80"),
            ("bus_1.example", "bus_1.example"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.1.", "127.0.0.1"),
            ("127.1", "127.1"),
            ("[::1]:8080", "[::1]:8080"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
            (&"a".repeat(253), &"a".repeat(253)),
        ] {
            let read = text.parse::<Authority>().map(|host| host.to_string());
            assert_eq!(read, Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_host_is_none() {
        for text in [
            "",
            ".",
            "..",
            ":80",
            "a..b",
            ".a",
            "a b",
            "a b/../c",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a,b",
            "a@b",
            "user:password@a",
            "http://a",
            "a%20b",
            "*",
            "*.a",
            "<a>",
            "a\t",
            "\u{e9}.example",
            "a:b",
            "a:-1",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a:8 0",
            "::1",
            "[::1",
            "::1]",
            "[::1]80",
            "[::1]x:80",
            "x[::1]",
            "[::1%eth0]",
            "[127.0.0.1]",
            "[]",
            &"a".repeat(254),
        ] {
            assert_eq!(text.parse::<Authority>(), Err(HostError), "{text}");
        }
    }

    #[test]
    fn loopback_is_meant_by_its_names_and_its_addresses_and_by_nothing_else() {
        for text in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "a.b.localhost.",
            "127.0.0.1",
            "127.255.255.254",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ] {
            assert!(host(text).means_loopback(), "{text}");
        }
        for text in [
            "localhost.example",
            "notlocalhost",
            "localhost.localdomain",
            "127.0.0.1.example",
            "127.1",
            "0.0.0.0",
            "10.0.0.1",
            "128.0.0.1",
            "[::]",
            "[::2]",
            "[::127.0.0.1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!host(text).means_loopback(), "{text}");
        }
    }

    #[test]
    fn an_address_is_one_only_as_it_is_written() {
        for text in ["10.0.0.1", "[fd00::1]", "0.0.0.0", "[::ffff:10.0.0.1]"] {
            assert!(host(text).is_address(), "{text}");
        }
        for text in [
            "a",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "1.2.3.4.5",
        ] {
            assert!(!host(text).is_address(), "{text}");
        }
    }

    #[test]
    fn a_list_has_the_hosts_of_its_patterns() {
        let listed = hosts(&[
            "Bus.example.",
            "*.example.com",
            "fd00::7",
            "10.0.0.7",
            "a-*.b",
        ]);
        for text in [
            "bus.example",
            "BUS.EXAMPLE.",
            "a.example.com",
            "a.b.example.com",
            "[fd00::7]",
            "10.0.0.7",
            "[::ffff:10.0.0.7]",
            "a-1.b",
        ] {
            assert!(
                listed.allow(&host(text)) && listed.names(&host(text)),
                "{text}"
            );
        }
        for text in [
            "example",
            "a.bus.example",
            "bus.example.evil",
            "example.com",
            "evilexample.com",
            "a.example.com.evil",
            "10.0.0.8",
            "[fd00::8]",
            "a-.b",
            "localhost",
        ] {
            assert!(!listed.allow(&host(text)), "{text}");
        }
        assert!(!Hosts::default().allow(&host("localhost")));
    }

    #[test]
    fn a_star_alone_allows_every_host_and_names_none() {
        let any = hosts(&["*"]);
        assert!(any.allow(&host("evil.example")));
        assert!(!any.names(&host("evil.example")));
    }

    #[test]
    fn what_nobody_could_mean_is_no_pattern() {
        for text in [
            "", "**", "*.", "app.*", "*.*.com", "http://a", "a:80", "[::1]:80", "a/b", "a b",
            "[*]", "\u{e9}",
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(PatternError), "{text}");
        }
        for text in ["*", "a.com", "*.a.com", "[::2]", "10.0.0.1"] {
            let shown = text.parse::<Pattern>().map(|pattern| pattern.to_string());
            assert_eq!(shown, Ok(text.to_owned()));
        }
    }
}
