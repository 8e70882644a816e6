//! Listening sockets for addresses as people write them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::TcpListener;
use tracing::warn;

use super::socket::{Address, Socket};
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::Tls;

/// Pause of the accept loop when the system is out of something, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// One or more listening sockets, served as one.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Socket>,
    /// The one that is asked first, so that a busy one cannot keep the others waiting.
    first: usize,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
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
    let mut sockets = Vec::new();
    for address in addresses {
        match address {
            Address::Tcp { host, port } => sockets.extend(bind_tcp(host, *port).await?),
            #[cfg(unix)]
            Address::Unix(path) => sockets.push(Socket::unix(path, address)?),
        }
    }
    Ok(Listeners::new(sockets))
}

async fn bind_tcp(host: &str, port: u16) -> Result<Vec<Socket>, BindError> {
    let address = format!("{host}:{port}");
    let failed = |source| BindError::new(&address, source);
    let addresses = resolve(host, port).await.map_err(failed)?;
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
        Some(_) | None => Ok(listeners.into_iter().map(Socket::Tcp).collect()),
    }
}

impl BindError {
    pub(super) fn new(address: impl ToString, source: io::Error) -> Self {
        let address = address.to_string();
        Self::Io { address, source }
    }
}

impl Listeners {
    fn new(sockets: Vec<Socket>) -> Self {
        Self {
            sockets,
            first: 0,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

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

    /// Speaks TLS on the TCP sockets.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        let tls = Some(tls);
        Self { tls, ..self }
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

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
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

    /// The connection with TLS, where that is spoken.
    fn secured(&self, stream: Stream) -> Stream {
        #[cfg(feature = "tls")]
        let stream = match (&self.tls, stream) {
            (Some(tls), Stream::Tcp(stream)) => Stream::TlsHandshake(Box::new(tls.accept(stream))),
            (_, stream) => stream,
        };
        stream
    }
}

/// The address of a client; a Unix socket has none.
type Peer = Option<SocketAddr>;

impl Listener for Listeners {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, peer)) => return (self.secured(stream), peer),
                Err(error) if is_peer_gone(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(self.addresses()?.first().copied())
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
