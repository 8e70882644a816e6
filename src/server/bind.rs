//! Resolves and binds the addresses in an operator's configuration.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::binding::{Address, BindError, BindOptions};
use super::listener::Listeners;
use super::socket::Socket;
use super::tcp::{Endpoint, Queue, overlap};

impl BindOptions {
    /// Listens on several addresses, each as for [`bind`], and serves them as one listener.
    ///
    /// # Errors
    ///
    /// When the operating system does not allow one of the addresses.
    pub async fn bind_all(
        &self,
        addresses: impl IntoIterator<Item = &Address>,
    ) -> Result<Listeners, BindError> {
        self.listen(addresses, Queue::One).await
    }

    /// Listens on several addresses for a server with several threads; each further thread gets its
    /// listeners from [`Listeners::again`].
    ///
    /// # Errors
    ///
    /// When the operating system does not allow one of the addresses.
    #[cfg(unix)]
    pub async fn bind_shared(
        &self,
        addresses: impl IntoIterator<Item = &Address>,
    ) -> Result<Listeners, BindError> {
        #[cfg(target_os = "linux")]
        let queue = Queue::Each;
        #[cfg(not(target_os = "linux"))]
        let queue = Queue::One;
        self.listen(addresses, queue).await
    }

    async fn listen(
        &self,
        addresses: impl IntoIterator<Item = &Address>,
        queue: Queue,
    ) -> Result<Listeners, BindError> {
        let mut wanted = Vec::new();
        for address in addresses {
            wanted.push((address, resolve(address).await?));
        }
        // Resolve all addresses before the first is bound: an IPv6 wildcard leaves IPv4 to a later
        // address.
        let all = wanted.iter().flat_map(|(_, found)| found).copied();
        let mut listed = Listed {
            all: all.collect(),
            queue,
            bound: Vec::new(),
        };
        let mut sockets = Vec::new();
        for (address, found) in wanted {
            match address {
                Address::Tcp { .. } => sockets.extend(listed.bind(address, found)?),
                #[cfg(unix)]
                Address::Unix(path) => sockets.push(Socket::unix(path, address, self).await?),
            }
        }
        Ok(Listeners::new(sockets))
    }
}

/// Listens on `host:port`, or on `unix:/path`; `localhost` means both loopback families, as far as
/// the machine has them.
///
/// Port 0 takes a free port, the same port for all families of a name.
///
/// # Errors
///
/// When the text is not an address, or the operating system does not allow it.
pub async fn bind(address: &str) -> Result<Listeners, BindError> {
    bind_all([&address.parse()?]).await
}

/// Listens on several addresses, each as for [`bind`], and serves them as one listener.
///
/// `[::]` includes IPv4 where the operating system does so by default, unless an IPv4 address with
/// the same port is also listed.
///
/// # Errors
///
/// When the operating system does not allow one of the addresses.
pub async fn bind_all(
    addresses: impl IntoIterator<Item = &Address>,
) -> Result<Listeners, BindError> {
    BindOptions::default().bind_all(addresses).await
}

/// Listens on several addresses for a server with several threads; each further thread gets its
/// listeners from [`Listeners::again`].
///
/// # Errors
///
/// When the operating system does not allow one of the addresses.
#[cfg(unix)]
pub async fn bind_shared(
    addresses: impl IntoIterator<Item = &Address>,
) -> Result<Listeners, BindError> {
    BindOptions::default().bind_shared(addresses).await
}

/// The TCP addresses of one call.
struct Listed {
    /// The addresses as requested.
    all: Vec<SocketAddr>,
    queue: Queue,
    /// The addresses as bound.
    bound: Vec<SocketAddr>,
}

impl Listed {
    /// Listens on all addresses of one name, as far as the machine has their families.
    fn bind(
        &mut self,
        address: &Address,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<Socket>, BindError> {
        let failed = |source| BindError::new(address, source);
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut missing = None;
        for socket in found {
            let mut endpoint = Endpoint::among(socket, &self.all);
            if let (0, Some(first)) = (socket.port(), listeners.first()) {
                let port = first.local_addr().map_err(failed)?.port();
                endpoint.address.set_port(port);
            }
            match endpoint.listen(self.queue) {
                Ok(listener) => {
                    self.bound.push(listener.local_addr().map_err(failed)?);
                    listeners.push(listener);
                }
                Err(error) if is_missing_family(&error) => missing = Some(error),
                Err(error) => return Err(self.refused(address, endpoint.address, error)),
            }
        }
        match missing {
            Some(error) if listeners.is_empty() => Err(failed(error)),
            Some(_) | None => Ok(listeners
                .into_iter()
                .map(|listener| Socket::tcp(listener, self.queue))
                .collect()),
        }
    }

    /// The error for an address that the operating system does not allow.
    fn refused(&self, address: &Address, socket: SocketAddr, error: io::Error) -> BindError {
        let mut bound = self.bound.iter();
        match bound.find(|other| overlap(**other, socket)) {
            Some(other) if error.kind() == io::ErrorKind::AddrInUse => BindError::Listed {
                address: address.to_string(),
                other: *other,
            },
            Some(_) | None => BindError::new(address, error),
        }
    }
}

/// Resolves an address to TCP addresses; none for a Unix socket.
async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, BindError> {
    let (host, port) = match address {
        Address::Tcp { host, port } => (host, *port),
        #[cfg(unix)]
        Address::Unix(_) => return Ok(Vec::new()),
    };
    if host.eq_ignore_ascii_case("localhost") {
        let families = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        return Ok(families.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    // The resolver takes a text with an IPv6 address in brackets.
    let found = tokio::net::lookup_host(format!("{host}:{port}")).await;
    let found = found.map_err(|source| BindError::new(address, source))?;
    Ok(found.collect())
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        // EAFNOSUPPORT, of a kernel without IPv6, has no `ErrorKind`.
        || error.raw_os_error() == Some(97)
}
