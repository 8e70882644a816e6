//! The hosts that a request may name, and the pages that operators' listeners answer; pure.
//!
//! A page of a foreign host whose name resolves to this machine (DNS rebinding) sends an `Origin`
//! and a `Host` that agree. The host gives the page away: it is neither an address nor a configured
//! name.

use crate::client::host::{Authority, Host, Hosts};
use crate::client::origin::{Origins, host_of, is_own};
use crate::server::network_path::NetworkPath;

/// The audience of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Audience {
    /// Clients of services.
    Clients,
    /// Operators, and programs that collect their metrics.
    Operators,
}

impl Audience {
    /// The name for log lines and responses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Operators => "operators",
        }
    }
}

/// The facts that decide about the requests of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    pub(super) audience: Audience,
    pub(super) network_path: NetworkPath,
    pub(super) hosts: &'a Hosts,
    pub(super) origins: &'a Origins,
}

/// The headers about the page that a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// The `Origin`; the empty text if it is invalid or repeated.
    pub(super) origin: Option<&'a str>,
    /// Whether the `Sec-Fetch-Site` is `cross-site`.
    pub(super) is_cross_site: bool,
}

impl Rule<'_> {
    /// Whether a request may name this host.
    pub(super) fn takes(&self, host: &Host) -> bool {
        let is_ours = host.means_loopback() || self.hosts.allow(host);
        match (self.audience, self.network_path) {
            (Audience::Clients, NetworkPath::Loopback) => is_ours || self.origins.names(host),
            (
                Audience::Operators,
                NetworkPath::Elsewhere | NetworkPath::Loopback | NetworkPath::Unknown,
            ) => is_ours || host.is_address(),
            (
                Audience::Clients,
                NetworkPath::Elsewhere | NetworkPath::File | NetworkPath::Unknown,
            )
            | (Audience::Operators, NetworkPath::File) => true,
        }
    }

    /// Whether a request to operators' listeners comes from a foreign page. The browser keeps
    /// responses from pages of another origin, but such a page could occupy all taps.
    pub(super) fn is_foreign(&self, page: Page<'_>, host: Option<&Authority>) -> bool {
        let is_known = |origin: &str| {
            is_own(origin, host) || host_of(origin).is_some_and(|host| self.hosts.names(&host))
        };
        page.is_cross_site || page.origin.is_some_and(|origin| !is_known(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [NetworkPath; 4] = [
        NetworkPath::Elsewhere,
        NetworkPath::File,
        NetworkPath::Loopback,
        NetworkPath::Unknown,
    ];

    fn hosts(patterns: &[&str]) -> Hosts {
        let patterns = patterns.iter().map(|pattern| pattern.parse());
        Hosts::new(patterns.collect::<Result<_, _>>().expect("patterns"))
    }

    fn origins(patterns: &[&str]) -> Origins {
        let patterns = patterns.iter().map(|pattern| pattern.parse());
        Origins::new(patterns.collect::<Result<_, _>>().expect("patterns"))
    }

    fn host(text: &str) -> Host {
        text.parse().expect("a host")
    }

    fn rule<'a>(
        audience: Audience,
        network_path: NetworkPath,
        lists: &'a (Hosts, Origins),
    ) -> Rule<'a> {
        Rule {
            audience,
            network_path,
            hosts: &lists.0,
            origins: &lists.1,
        }
    }

    const OURS: [&str; 6] = [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ];

    #[test]
    fn clients_over_loopback_name_loopback_what_is_listed_and_the_hosts_of_origins() {
        let lists = (
            hosts(&["bus.example"]),
            origins(&["https://*.app.example:81", "*", "null"]),
        );
        let rule = rule(Audience::Clients, NetworkPath::Loopback, &lists);
        for text in OURS.into_iter().chain(["bus.example", "a.app.example"]) {
            assert!(rule.takes(&host(text)), "{text}");
        }
        for text in [
            "evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[fd00::1]",
            "app.example",
        ] {
            assert!(!rule.takes(&host(text)), "{text}");
        }
    }

    #[test]
    fn clients_on_every_other_way_name_what_they_like() {
        let lists = (Hosts::default(), Origins::default());
        for network_path in [
            NetworkPath::Elsewhere,
            NetworkPath::File,
            NetworkPath::Unknown,
        ] {
            for text in ["evil.example", "10.0.0.1", "localhost"] {
                assert!(rule(Audience::Clients, network_path, &lists).takes(&host(text)));
            }
        }
    }

    #[test]
    fn operators_name_addresses_loopback_and_what_is_listed_on_every_way_but_a_file() {
        let lists = (
            hosts(&["bus.example"]),
            origins(&["https://app.example", "*"]),
        );
        for network_path in WAYS {
            let rule = rule(Audience::Operators, network_path, &lists);
            let more = ["bus.example", "10.0.0.1", "[fd00::1]", "0.0.0.0"];
            for text in OURS.into_iter().chain(more) {
                assert!(rule.takes(&host(text)), "{network_path:?} {text}");
            }
            for text in ["evil.example", "app.example", "127.1"] {
                assert_eq!(
                    rule.takes(&host(text)),
                    network_path == NetworkPath::File,
                    "{network_path:?} {text}"
                );
            }
        }
    }

    #[test]
    fn a_star_in_hosts_takes_every_host() {
        let lists = (hosts(&["*"]), Origins::default());
        for audience in [Audience::Clients, Audience::Operators] {
            for network_path in WAYS {
                assert!(rule(audience, network_path, &lists).takes(&host("evil.example")));
            }
        }
    }

    #[test]
    fn operators_answer_their_own_pages_and_those_of_listed_hosts() {
        let lists = (hosts(&["ops.example", "*"]), origins(&["*"]));
        let rule = rule(Audience::Operators, NetworkPath::Loopback, &lists);
        let foreign = |origin, host: &str, is_cross_site| {
            let page = Page {
                origin,
                is_cross_site,
            };
            rule.is_foreign(page, host.parse().ok().as_ref())
        };
        for (origin, host) in [
            (None, "localhost:8081"),
            (Some("http://localhost:8081"), "localhost:8081"),
            (Some("https://ops.example"), "127.0.0.1:8081"),
            (Some("http://10.0.0.1"), "10.0.0.1:80"),
        ] {
            assert!(!foreign(origin, host, false), "{origin:?} {host}");
            assert!(foreign(origin, host, true), "cross-site: {origin:?} {host}");
        }
        for (origin, host) in [
            (Some("http://evil.example:8081"), "localhost:8081"),
            (Some("http://localhost:3000"), "localhost:8081"),
            (Some("http://203.0.113.5:8081"), "10.0.0.1:8081"),
            (Some("null"), "localhost:8081"),
            (Some("file://"), "localhost:8081"),
            (Some(""), "localhost:8081"),
            (Some("http://localhost:8081"), ""),
        ] {
            assert!(foreign(origin, host, false), "{origin:?} {host}");
        }
    }
}
