//! The server to measure: its URL, its address, and the local addresses of the clients.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::problem::Problem;

/// Connections from one local address to one port: fewer than the system has ephemeral ports.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// A server, from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
    path: Option<String>,
}

impl Target {
    /// Parses `ws://host[:port][/path]`.
    ///
    /// # Errors
    ///
    /// Why the URL is invalid.
    pub(super) fn parse(url: &str) -> Result<Self, Problem> {
        let wrong = |why| Problem::Url(url.to_owned(), why);
        if url.starts_with("wss://") {
            return Err(Problem::Tls);
        }
        let rest = url.strip_prefix("ws://");
        let rest = rest.ok_or_else(|| wrong("it does not start with ws://"))?;
        if rest.contains(|c: char| c.is_control() || c == ' ' || c == '#' || c == '@') {
            return Err(wrong("it has a space, a control character, a # or an @"));
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = match path.trim_start_matches('/') {
            "" => None,
            _ if path.starts_with('?') => return Err(wrong("it has a query but no path")),
            _ => Some(path.to_owned()),
        };
        let (host, port) = split_port(authority).ok_or_else(|| wrong("its port is no number"))?;
        match host {
            "" => Err(wrong("it has no host")),
            host => Ok(Self {
                host: host.to_owned(),
                port,
                path,
            }),
        }
    }

    /// The path of the URL, if it has one.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Host and port, for the `Host` header.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The first address of the host that accepts a connection. IPv4 is tried first, because it has
    /// many loopback addresses to connect from. Each address has `timeout` to accept.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreachable`] if no address accepts.
    pub(super) fn reach(&self, timeout: Duration) -> Result<SocketAddr, Problem> {
        let unreachable = |error| Problem::Unreachable(self.authority(), error);
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, self.port).to_socket_addrs().map_err(unreachable)?;
        let mut addresses: Vec<_> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(_stream) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }
}

/// Splits host and port; the default is port 80, and `None` means an invalid port.
fn split_port(authority: &str) -> Option<(&str, u16)> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, port.parse().ok()?)),
        Some(_) | None => Some((authority, 80)),
    }
}

/// The local addresses for `clients` clients; if empty, the system chooses.
///
/// The addresses begin at the server's own address, so that two generators that measure servers at
/// different addresses do not take each other's ports.
pub(super) fn sources(server: SocketAddr, clients: usize) -> Vec<IpAddr> {
    let count = clients.div_ceil(CONNECTIONS_PER_SOURCE);
    let first = match server.ip() {
        IpAddr::V4(own) if own.is_loopback() && count > 1 => u32::from(own),
        IpAddr::V4(_) | IpAddr::V6(_) => return Vec::new(),
    };
    let addresses = (first..).take(count).map(Ipv4Addr::from);
    let near = addresses.filter(Ipv4Addr::is_loopback);
    near.map(IpAddr::V4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, authority, path) in [
            ("ws://localhost:8080", "localhost:8080", None),
            ("ws://localhost:8080/", "localhost:8080", None),
            (
                "ws://example.com/ws/a?b=c",
                "example.com:80",
                Some("/ws/a?b=c"),
            ),
            ("ws://[::1]:9/x", "[::1]:9", Some("/x")),
            ("ws://[::1]/x", "[::1]:80", Some("/x")),
        ] {
            let target = Target::parse(url).expect("it is valid");
            assert_eq!(target.authority(), authority);
            assert_eq!(target.path(), path);
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, why) in [
            ("wss://example.com", "TLS"),
            ("http://localhost", "ws://"),
            ("localhost:8080", "ws://"),
            ("ws://", "no host"),
            ("ws://:8080", "no host"),
            ("ws://host:port", "no number"),
            ("ws://host:99999", "no number"),
            ("ws://user@host", "@"),
            ("ws://host/a\r\nb", "control"),
            ("ws://host?a", "query"),
        ] {
            let problem = Target::parse(url).expect_err(url).to_string();
            assert!(problem.contains(why), "{problem}");
        }
    }

    #[test]
    fn many_clients_come_from_several_loopback_addresses() {
        let near: SocketAddr = ([127, 0, 0, 1], 1).into();
        assert!(sources(near, 10_000).is_empty());
        let many = sources(near, 100_000);
        assert_eq!(many.len(), 10);
        assert_eq!(many[9], IpAddr::from([127, 0, 0, 10]));
        let beside: SocketAddr = ([127, 0, 1, 1], 1).into();
        assert!(sources(beside, 100_000).iter().all(|at| !many.contains(at)));
        let last: SocketAddr = ([127, 255, 255, 255], 1).into();
        assert_eq!(sources(last, 100_000), [last.ip()]);
        let far: SocketAddr = ([192, 0, 2, 1], 1).into();
        assert!(sources(far, 100_000).is_empty());
    }
}
