//! Listening sockets, served as one.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::socket::Socket;
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

fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}
