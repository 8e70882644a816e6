//! Which pages may connect: those of the server's own host, and those of an allow-list.

use std::fmt;
use std::str::FromStr;

/// Longest origin or pattern, in bytes.
const BYTES_MAX: usize = 300;

/// The pages of other hosts that may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Pattern>);

/// Origins by a pattern: `https://app.example.com`, `https://*.example.com:8443`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Allowed);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    /// A site whose host may have one `*`.
    Sites(Site),
}

/// A scheme, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    scheme: String,
    host: String,
    /// `None` for the scheme's own.
    port: Option<u16>,
}

/// The text is no pattern of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no pattern of origins, such as https://*.example.com")]
pub struct PatternError;

impl Origins {
    /// Those of these patterns.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether a page of this origin may connect to a server it calls by this name.
    ///
    /// `host` is the `Host` of the request. A page of the same host and port is the server's own,
    /// whatever its scheme: behind a proxy that ends TLS the server does not know its own.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        if self.0.iter().any(|pattern| pattern.0 == Allowed::All) {
            return true;
        }
        let Some(site) = Site::parse(origin) else {
            return false;
        };
        let own = host.and_then(|host| Site::parse(&format!("{}://{host}", site.scheme)));
        own.is_some_and(|own| own == site) || self.0.iter().any(|pattern| pattern.matches(&site))
    }
}

impl Pattern {
    fn matches(&self, site: &Site) -> bool {
        match &self.0 {
            Allowed::All => true,
            Allowed::Sites(sites) => {
                sites.scheme == site.scheme
                    && sites.port == site.port
                    && host_matches(&sites.host, &site.host)
            }
        }
    }
}

/// Whether a host is one of a pattern, in which a `*` stands for one character or more.
fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == host,
        Some((start, end)) => {
            host.len() > start.len() + end.len() && host.starts_with(start) && host.ends_with(end)
        }
    }
}

impl Site {
    /// Reads `scheme://host` or `scheme://host:port`, in any case; a host may have a `*`.
    fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://")?;
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            Some(_) | None => (rest, None),
        };
        let of_scheme = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte);
        let of_host = |byte: u8| letter(byte) || b"[]:*".contains(&byte);
        let valid = !scheme.is_empty()
            && !host.is_empty()
            && scheme.bytes().all(letter)
            && host.bytes().all(of_host);
        valid.then(|| Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port: port.filter(|port| Some(*port) != of_scheme),
        })
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(Allowed::All));
        }
        let site = Site::parse(text).ok_or(PatternError)?;
        // More than one would be a pattern that nobody can read; one at the end allows everybody
        // who can register a name.
        let stars = site.host.matches('*').count();
        let open = site.host.ends_with('*') || site.host.ends_with("*.");
        if stars > 1 || open {
            return Err(PatternError);
        }
        Ok(Self(Allowed::Sites(site)))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Allowed::All => f.write_str("*"),
            Allowed::Sites(site) => {
                write!(f, "{}://{}", site.scheme, site.host)?;
                site.port.map_or(Ok(()), |port| write!(f, ":{port}"))
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
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(PatternError), "{text}");
        }
        for text in ["*", "https://a.com", "https://*.a.com:8443"] {
            assert_eq!(
                text.parse::<Pattern>().map(|p| p.to_string()),
                Ok(text.to_owned())
            );
        }
    }
}
