//! The pages that may connect: pages of the server's own host, and pages of an allow-list.

use std::fmt;
use std::str::FromStr;

use crate::client::host::{self, Authority, Host, split_port};

/// The longest origin or pattern, in bytes.
const BYTES_MAX: usize = 300;

/// The origin of pages that browsers read from files, in browsers that send it.
const FILE: &str = "file://";

/// The origin of pages without an origin of their own, such as pages in a sandbox.
const NULL: &str = "null";

/// The pages of other hosts that may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Pattern>);

/// A pattern of origins: `https://app.example.com`, `https://*.example.com:8443`,
/// `http://localhost:*`, `file://`, `null`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Allowed);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    /// `file://` or `null`.
    Exactly(&'static str),
    Sites(Sites),
}

/// A pattern of sites.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sites {
    scheme: String,
    hosts: host::Pattern,
    port: Port,
}

/// A scheme, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    scheme: String,
    host: Host,
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Any,
    Number(u16),
    OfScheme,
}

/// The error for a text that is no pattern of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no pattern of origins, such as https://*.example.com")]
pub struct PatternError;

impl Origins {
    /// Makes the list of these patterns.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether a page of this origin may connect to a server that it calls by this name.
    ///
    /// `host` is the `Host` of the request. A page of an equal host and port is the server's own,
    /// with any scheme: behind a proxy that ends TLS, the server does not know its own scheme.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        is_own(origin, host.and_then(|host| host.parse().ok()).as_ref())
            || self.0.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether a pattern with a host matches this host.
    ///
    /// The patterns `*`, `file://` and `null` have no host.
    pub fn names(&self, host: &Host) -> bool {
        self.0.iter().any(|pattern| match &pattern.0 {
            Allowed::All | Allowed::Exactly(_) => false,
            Allowed::Sites(sites) => sites.hosts.matches(host),
        })
    }
}

/// Whether an origin has the host and port of the server that the request names.
pub(crate) fn is_own(origin: &str, host: Option<&Authority>) -> bool {
    let (Some(site), Some(host)) = (Site::parse(origin), host) else {
        return false;
    };
    host.host == site.host && Port::of(host.port, &site.scheme) == site.port
}

/// The host of an origin, if it has one.
pub fn host_of(origin: &str) -> Option<Host> {
    Site::parse(origin).map(|site| site.host)
}

impl Pattern {
    fn matches(&self, origin: &str) -> bool {
        match &self.0 {
            Allowed::All => true,
            Allowed::Exactly(text) => origin.eq_ignore_ascii_case(text),
            Allowed::Sites(sites) => Site::parse(origin).is_some_and(|site| sites.have(&site)),
        }
    }
}

impl Sites {
    fn have(&self, site: &Site) -> bool {
        self.scheme == site.scheme
            && (self.port == Port::Any || self.port == site.port)
            && self.hosts.matches(&site.host)
    }
}

impl Port {
    /// The port as it counts for a scheme: the scheme's default is `OfScheme`.
    fn of(port: Option<u16>, scheme: &str) -> Self {
        let of_scheme = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        port.filter(|port| Some(*port) != of_scheme)
            .map_or(Self::OfScheme, Self::Number)
    }
}

/// Splits `scheme://host` or `scheme://host:port`; the scheme is returned in lower case.
fn parts(text: &str) -> Option<(String, &str, Option<&str>)> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte);
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(letter);
    let (host, port) = split_port(rest);
    is_scheme.then(|| (scheme.to_ascii_lowercase(), host, port))
}

/// Parses an optional port, of at least one digit.
fn port(digits: Option<&str>) -> Result<Option<u16>, PatternError> {
    let port = |digits| host::port(digits).ok_or(PatternError);
    digits.map(port).transpose()
}

impl Site {
    /// Parses an origin, in upper or lower case.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, host, digits) = parts(text)?;
        Some(Self {
            host: host.parse().ok()?,
            port: Port::of(port(digits).ok()?, &scheme),
            scheme,
        })
    }
}

impl Sites {
    /// Parses a pattern: an origin whose host may contain a `*`, and whose port may be `*`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, hosts, digits) = parts(text)?;
        let hosts: host::Pattern = hosts.parse().ok()?;
        let port = match digits {
            Some("*") => Port::Any,
            digits => Port::of(port(digits).ok()?, &scheme),
        };
        // A `*` as the whole host would allow every site of the scheme.
        (!hosts.is_any()).then_some(Self {
            scheme,
            hosts,
            port,
        })
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(Allowed::All));
        }
        let mut exactly = [FILE, NULL].into_iter();
        if let Some(known) = exactly.find(|known| known.eq_ignore_ascii_case(text)) {
            return Ok(Self(Allowed::Exactly(known)));
        }
        let sites = Sites::parse(text).ok_or(PatternError)?;
        Ok(Self(Allowed::Sites(sites)))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Allowed::All => f.write_str("*"),
            Allowed::Exactly(text) => f.write_str(text),
            Allowed::Sites(sites) => {
                write!(f, "{}://{}", sites.scheme, sites.hosts)?;
                match sites.port {
                    Port::Any => f.write_str(":*"),
                    Port::Number(port) => write!(f, ":{port}"),
                    Port::OfScheme => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(patterns: &[&str]) -> Origins {
        let patterns = patterns.iter().map(|pattern| pattern.parse());
        Origins::new(patterns.collect::<Result<_, _>>().expect("patterns"))
    }

    #[test]
    fn a_page_of_the_same_host_and_port_may_connect_and_no_other() {
        let own = origins(&[]);
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://LOCALHOST:8080", "localhost:8080"),
            ("https://bus.example", "bus.example"),
            ("https://bus.example", "bus.example:443"),
            ("http://bus.example:80", "bus.example"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(own.allow(origin, Some(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://localhost:8081", "localhost:8080"),
            ("http://localhost", "localhost:8080"),
            ("https://evil.example", "bus.example"),
            ("https://bus.example.evil", "bus.example"),
            ("https://bus.example:8443", "bus.example"),
            ("null", "null"),
            ("", ""),
            ("https://", ""),
            ("https://a@bus.example", "bus.example"),
            ("https://bus.example/", "bus.example"),
            ("https://bus.example:x", "bus.example:x"),
        ] {
            assert!(!own.allow(origin, Some(host)), "{origin} {host}");
        }
        assert!(!own.allow("https://bus.example", None));
    }

    #[test]
    fn a_star_stands_for_labels_of_the_host_and_for_nothing_else() {
        let listed = origins(&["https://*.example.com", "http://app-*.test:81"]);
        for origin in [
            "https://a.example.com",
            "https://a.b.example.com:443",
            "http://app-7.test:81",
        ] {
            assert!(listed.allow(origin, Some("bus")), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://evilexample.com",
            "https://.example.com",
            "http://a.example.com",
            "https://a.example.com:444",
            "https://a.example.com.evil",
            "https://evil/a.example.com",
            "https://evil?.example.com",
            "https://evil#.example.com",
            "http://app-.test:81",
            "http://app-7.test",
        ] {
            assert!(!listed.allow(origin, Some("bus")), "{origin}");
        }
    }

    #[test]
    fn a_page_of_the_same_host_is_the_servers_own_however_the_host_is_written() {
        let own = origins(&[]);
        for (origin, host) in [
            ("http://localhost.:8080", "localhost:8080"),
            ("http://localhost:8080", "LOCALHOST.:8080"),
            ("http://localhost", "localhost:"),
            ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"),
        ] {
            assert!(own.allow(origin, Some(host)), "{origin} {host}");
        }
        assert!(!own.allow("http://localhost:*", Some("localhost:*")));
        assert!(!own.allow("http://*", Some("*")));
    }

    #[test]
    fn a_star_for_the_port_stands_for_any_port_and_for_no_other_host() {
        let listed = origins(&["http://localhost:*", "https://*.example.com:*"]);
        for origin in [
            "http://localhost",
            "http://localhost:80",
            "http://localhost:3000",
            "https://a.example.com:8443",
        ] {
            assert!(listed.allow(origin, Some("bus")), "{origin}");
        }
        for origin in [
            "https://localhost:3000",
            "http://localhost.evil:3000",
            "http://localhost:3000.evil",
            "http://localhost:",
            "http://localhost:x",
            "http://localhost:*",
            "https://example.com:8443",
        ] {
            assert!(!listed.allow(origin, Some("bus")), "{origin}");
        }
    }

    #[test]
    fn pages_from_files_and_pages_without_an_origin_may_connect_where_they_are_listed() {
        for (pattern, other) in [("file://", "null"), ("null", "file://")] {
            let listed = origins(&[pattern]);
            assert!(listed.allow(pattern, Some("bus")), "{pattern}");
            for origin in [other, "", "file:///a.html", "file://a", "http://null"] {
                assert!(!listed.allow(origin, Some("bus")), "{pattern} {origin}");
            }
        }
    }

    #[test]
    fn the_hosts_of_sites_are_named_and_those_of_stars_files_and_null_are_not() {
        let host = |text: &str| text.parse().expect("a host");
        let listed = origins(&[
            "https://app.test:81",
            "https://*.example.com",
            "null",
            "file://",
        ]);
        for named in ["app.test", "a.example.com"] {
            assert!(listed.names(&host(named)), "{named}");
        }
        for other in ["example.com", "evil.test", "null", "file"] {
            assert!(!listed.names(&host(other)), "{other}");
        }
        assert!(!origins(&["*"]).names(&host("evil.test")));
    }

    #[test]
    fn a_star_alone_allows_everything() {
        let all = origins(&["*"]);
        for origin in ["null", "https://evil.example", "", "nonsense"] {
            assert!(all.allow(origin, None), "{origin}");
        }
    }

    #[test]
    fn what_nobody_could_mean_is_no_pattern() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://*",
            "https://app.*",
            "https://*.*.com",
            "https://a.com/",
            "https://a.com:99999",
            "https://a b",
            "https://a.com:",
            "https://a.com:8*",
            "https://*:*",
            "https://::1",
            "file:///",
            "file:",
            "nul",
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(PatternError), "{text}");
        }
        for text in [
            "*",
            "https://a.com",
            "https://*.a.com:8443",
            "http://localhost:*",
            "http://[::1]:*",
            "file://",
            "null",
        ] {
            assert_eq!(
                text.parse::<Pattern>().map(|p| p.to_string()),
                Ok(text.to_owned())
            );
        }
    }
}
