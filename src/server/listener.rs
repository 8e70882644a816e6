//! TCP listeners for an address as people write it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

/// Pause of the accept loop when the system is out of something, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// One or more listening sockets, served as one, which an error of the system does not stop.
///
/// What is wrong with one connection costs that one; what the system is short of is waited for.
#[derive(Debug)]
pub struct Listeners<A = TcpListener> {
    sockets: Vec<A>,
    /// The one that is asked first, so that a busy family cannot keep the others waiting.
    first: usize,
}

/// A listening socket, which may fail to accept now and do so later.
pub trait Accept: Send + 'static {
    /// An accepted connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection with the address of its peer.
    ///
    /// # Errors
    ///
    /// When that connection is gone already, or the system is out of something.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, SocketAddr)>>;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(Self::poll_accept(self, cx))?;
        // A socket that cannot be set is about to fail anyway.
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "cannot set TCP_NODELAY");
        }
        Poll::Ready(Ok((stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// An address as people write it: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host: a name or an IP address, one of IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let bad = || BindError::BadAddress {
            address: text.to_owned(),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() {
            return Err(bad());
        }
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is no address.
    #[error("`{address}` is no address to listen on: write HOST:PORT, such as localhost:8080")]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// The operating system said no.
    #[error("cannot listen on {address}: {}", hint(source))]
    Io {
        /// What was given.
        address: String,
        /// What it said.
        source: io::Error,
    },
}

/// Listens on `host:port`; `localhost` is both loopback families, as far as the machine has them.
///
/// Port 0 takes a free port, the same for all.
///
/// # Errors
///
/// When the text is no address, or the operating system does not allow it.
pub async fn bind(address: &str) -> Result<Listeners, BindError> {
    bind_all([&address.parse()?]).await
}

/// Listens on several addresses, each as for [`bind`], and serves them as one.
///
/// # Errors
///
/// When the operating system does not allow one of them.
pub async fn bind_all(
    addresses: impl IntoIterator<Item = &Address>,
) -> Result<Listeners, BindError> {
    let mut sockets = Vec::new();
    for address in addresses {
        sockets.extend(bind_one(address).await?);
    }
    Ok(Listeners { sockets, first: 0 })
}

async fn bind_one(address: &Address) -> Result<Vec<TcpListener>, BindError> {
    let failed = |source| BindError::Io {
        address: address.to_string(),
        source,
    };
    let addresses = resolve(address).await?;
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for mut socket in addresses {
        if let (0, Some(first)) = (socket.port(), listeners.first()) {
            socket.set_port(first.local_addr().map_err(failed)?.port());
        }
        match TcpListener::bind(socket).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_family(&error) => missing = Some(error),
            Err(error) => return Err(failed(error)),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(failed(error)),
        Some(_) | None => Ok(listeners),
    }
}

impl<A: Accept> Listeners<A> {
    /// Serves these sockets as one; of none, nothing is ever accepted.
    pub fn new(sockets: Vec<A>) -> Self {
        Self { sockets, first: 0 }
    }

    /// The addresses that are listened on, at least one.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(A::local_addr).collect()
    }

    /// Whether other machines can reach one of the addresses.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell.
    pub fn is_public(&self) -> io::Result<bool> {
        let mut addresses = self.addresses()?.into_iter();
        Ok(addresses.any(|address| !address.ip().to_canonical().is_loopback()))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(A::Io, SocketAddr)>> {
        let count = self.sockets.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            if let Poll::Ready(accepted) = self.sockets[index].poll_accept(cx) {
                self.first = (index + 1) % count;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl<A: Accept> Listener for Listeners<A> {
    type Io = A::Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (A::Io, SocketAddr) {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) if is_peer_gone(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let none = || io::Error::from(io::ErrorKind::NotConnected);
        self.sockets.first().ok_or_else(none)?.local_addr()
    }
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, BindError> {
    let port = address.port;
    if address.host.eq_ignore_ascii_case("localhost") {
        let families = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        return Ok(families.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = tokio::net::lookup_host(address.to_string()).await;
    let found = found.map_err(|source| BindError::Io {
        address: address.to_string(),
        source,
    })?;
    Ok(found.collect())
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        // EAFNOSUPPORT of a kernel without IPv6 has no kind of its own.
        || error.raw_os_error() == Some(97)
}

fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

fn hint(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        "another program listens there; stop it, or choose another port with --listen".into()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "not permitted; ports below 1024 need a privilege, choose another with --listen".into()
    } else {
        error.to_string()
    }
}
