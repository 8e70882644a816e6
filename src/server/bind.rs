//! Resolves and binds the addresses in an operator's configuration.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::listener::Listeners;
use super::socket::{Address, Queue, Socket};
use super::tcp::{Endpoint, overlap};
use super::unix::{UnixGroup, UnixMode};

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text is not an address.
    #[error(
        "`{address}` is no address to listen on: write HOST:PORT, such as localhost:8080, or \
         unix:/PATH"
    )]
    BadAddress {
        /// The text given.
        address: String,
    },
    /// The file of a Unix socket could not be given to its group.
    #[error(
        "cannot listen on {address}: its file cannot be given to the group `{group}`: {reason}"
    )]
    Group {
        /// The address given.
        address: String,
        /// The group given.
        group: UnixGroup,
        /// The cause, and what to do.
        reason: String,
    },
    /// The operating system reported an error.
    #[error("cannot listen on {address}: {}", hint(address, source))]
    Io {
        /// The address given.
        address: String,
        /// The error.
        source: io::Error,
    },
    /// Another address of the same list includes this one.
    #[error(
        "cannot listen on {address}: {other}, which is listed as well, takes it in; leave one of \
         them out"
    )]
    Listed {
        /// The address given.
        address: String,
        /// The other address.
        other: SocketAddr,
    },
    /// The path of a Unix socket is occupied by a file that no server has left behind.
    #[error(
        "cannot listen on {address}: there is {found}, and busline does not remove it; move it \
         away, or choose another path"
    )]
    Occupied {
        /// The address given.
        address: String,
        /// The kind of file at the path.
        found: &'static str,
    },
}

impl BindError {
    pub(super) fn new(address: impl ToString, source: io::Error) -> Self {
        let address = address.to_string();
        Self::Io { address, source }
    }
}

/// Options for sockets; [`bind_all`] and [`bind_shared`] use the default options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Permissions of the file of a Unix socket, whatever the umask. A client may connect if it may
    /// write. Default 0660.
    pub unix_mode: UnixMode,
    /// Group of the file of a Unix socket. Default `None`: the group that the operating system
    /// gives to the file, mostly the group of the server.
    pub unix_group: Option<UnixGroup>,
}

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

fn hint(address: &str, error: &io::Error) -> String {
    let is_file = address.starts_with("unix:");
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse && is_file {
        "another program listens there; stop it, or choose another path".into()
    } else if kind == io::ErrorKind::AddrInUse {
        "another program listens there; stop it, or choose another port with --listen".into()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address".into()
    } else if kind == io::ErrorKind::NotFound && is_file {
        "there is no such directory; create it".into()
    } else if kind == io::ErrorKind::PermissionDenied && is_file {
        "not permitted; the directory must let this user create and remove files".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "not permitted; ports below 1024 need a privilege, choose another with --listen".into()
    } else {
        error.to_string()
    }
}
