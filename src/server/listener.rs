//! Listening sockets for addresses as people write them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

#[cfg(target_os = "linux")]
use super::socket::listen_beside;
use super::socket::{Address, Queue, Socket};
#[cfg(feature = "tls")]
use super::tls::Tls;

/// Pause of the accept loop when the system is out of something, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// One or more listening sockets, served as one, which an error of the system does not stop.
///
/// What is wrong with one connection costs that one; what the system is short of is waited for.
#[derive(Debug)]
pub struct Listeners<A = Socket> {
    sockets: Vec<A>,
    /// The one that is asked first, so that a busy one cannot keep the others waiting.
    first: usize,
}

/// A listening socket, which may fail to accept now and do so later.
pub trait Accept: Send + 'static {
    /// An accepted connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is known of where a connection comes from.
    type Addr: Send + 'static;

    /// The next connection with the address of its peer.
    ///
    /// # Errors
    ///
    /// When that connection is gone already, or the system is out of something.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl Accept for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

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

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is no address.
    #[error(
        "`{address}` is no address to listen on: write HOST:PORT, such as localhost:8080, or \
         unix:/PATH"
    )]
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

/// Listens on `host:port`, or on `unix:/path`; `localhost` is both loopback families, as far as the
/// machine has them.
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
    listen(addresses, Queue::One).await
}

/// The same for a server of several threads: each further one gets its own by
/// [`Listeners::again`].
///
/// # Errors
///
/// When the operating system does not allow one of the addresses.
#[cfg(unix)]
pub async fn bind_shared(
    addresses: impl IntoIterator<Item = &Address>,
) -> Result<Listeners, BindError> {
    #[cfg(target_os = "linux")]
    let queue = Queue::Each;
    #[cfg(not(target_os = "linux"))]
    let queue = Queue::One;
    listen(addresses, queue).await
}

async fn listen(
    addresses: impl IntoIterator<Item = &Address>,
    queue: Queue,
) -> Result<Listeners, BindError> {
    let mut sockets = Vec::new();
    for address in addresses {
        match address {
            Address::Tcp { host, port } => sockets.extend(bind_tcp(host, *port, queue).await?),
            #[cfg(unix)]
            Address::Unix(path) => sockets.push(Socket::unix(path, address)?),
        }
    }
    Ok(Listeners::new(sockets))
}

async fn bind_tcp(host: &str, port: u16, queue: Queue) -> Result<Vec<Socket>, BindError> {
    let address = format!("{host}:{port}");
    let failed = |source| BindError::new(&address, source);
    let addresses = resolve(host, port).await.map_err(failed)?;
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for mut socket in addresses {
        if let (0, Some(first)) = (socket.port(), listeners.first()) {
            socket.set_port(first.local_addr().map_err(failed)?.port());
        }
        match listen_on(socket, queue).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_family(&error) => missing = Some(error),
            Err(error) => return Err(failed(error)),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(failed(error)),
        Some(_) | None => Ok(listeners
            .into_iter()
            .map(|listener| Socket::tcp(listener, queue))
            .collect()),
    }
}

async fn listen_on(address: SocketAddr, queue: Queue) -> io::Result<TcpListener> {
    let alone = TcpListener::bind(address).await?;
    match queue {
        Queue::One => Ok(alone),
        // Only one that is alone is told that another program listens there.
        #[cfg(target_os = "linux")]
        Queue::Each => {
            let address = alone.local_addr()?;
            drop(alone);
            listen_beside(address)
        }
    }
}

impl BindError {
    pub(super) fn new(address: impl ToString, source: io::Error) -> Self {
        let address = address.to_string();
        Self::Io { address, source }
    }
}

impl Listeners {
    /// The sockets that systemd hands to this process, if it does (`LISTEN_FDS`).
    ///
    /// To be called once, before there are threads: it takes them out of the environment.
    ///
    /// # Errors
    ///
    /// When one is neither a TCP nor a Unix socket that listens.
    #[cfg(feature = "cli")]
    pub fn from_systemd() -> io::Result<Option<Self>> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            sockets.extend(Socket::from_systemd(&mut handed, index)?);
        }
        Ok((!sockets.is_empty()).then(|| Self::new(sockets)))
    }

    /// The same sockets for another thread, whose runtime must have been entered.
    ///
    /// # Errors
    ///
    /// When the operating system does not allow it.
    #[cfg(unix)]
    pub fn again(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(Socket::again);
        Ok(Self::new(sockets.collect::<io::Result<_>>()?))
    }

    /// Speaks TLS on the TCP sockets.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: &Tls) -> Self {
        for socket in &mut self.sockets {
            socket.speak(tls);
        }
        self
    }

    /// The TCP addresses that are listened on.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.sockets.iter().filter_map(Socket::address);
        addresses.collect()
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
}

impl<A: Accept> Listeners<A> {
    /// Serves these sockets as one; of none, nothing is ever accepted.
    pub fn new(sockets: Vec<A>) -> Self {
        Self { sockets, first: 0 }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(A::Io, A::Addr)>> {
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
    type Addr = A::Addr;

    async fn accept(&mut self) -> (A::Io, A::Addr) {
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

    fn local_addr(&self) -> io::Result<A::Addr> {
        let none = || io::Error::from(io::ErrorKind::NotConnected);
        self.sockets.first().ok_or_else(none)?.local_addr()
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let families = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        return Ok(families.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    // As a text, so that an IPv6 address may stand in its brackets.
    let found = tokio::net::lookup_host(format!("{host}:{port}")).await?;
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
