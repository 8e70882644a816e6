//! One listening socket: TCP or Unix.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(unix)]
use std::path::Path;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

#[cfg(unix)]
use super::binding::{Address, BindError, BindOptions};
use super::stream::Stream;
#[cfg(target_os = "linux")]
use super::tcp::Endpoint;
use super::tcp::Queue;
#[cfg(feature = "tls")]
use super::tls::Tls;
#[cfg(unix)]
use super::unix::{self, OwnFile};

/// A listening socket; an error of accept may be temporary.
pub trait Accept: Send + 'static {
    /// An accepted connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The address of a connection's peer.
    type Addr: Send + 'static;

    /// The next connection with the address of its peer.
    ///
    /// # Errors
    ///
    /// When that connection is already gone, or the system has run out of a resource.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// The local address.
    ///
    /// # Errors
    ///
    /// When the system cannot tell it.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl Accept for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(Self::poll_accept(self, cx))?;
        // A socket whose options cannot be set is about to fail anyway.
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "cannot set TCP_NODELAY");
        }
        Poll::Ready(Ok((stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// A listening socket of the operating system: TCP, with or without TLS, or a Unix socket.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Tcp {
        listener: TcpListener,
        queue: Queue,
        #[cfg(feature = "tls")]
        tls: Option<Tls>,
    },
    #[cfg(unix)]
    Unix {
        /// `None` for a file that systemd owns. The field is declared before `listener`, so that
        /// the file is removed before the socket is closed.
        _file: Option<OwnFile>,
        listener: UnixListener,
    },
}

impl Socket {
    pub(super) fn tcp(listener: TcpListener, queue: Queue) -> Self {
        Self(Kind::Tcp {
            listener,
            queue,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// Speaks TLS, if the socket is TCP.
    #[cfg(feature = "tls")]
    pub(super) fn speak(&mut self, with: &Tls) {
        match &mut self.0 {
            Kind::Tcp { tls, .. } => *tls = Some(with.clone()),
            #[cfg(unix)]
            Kind::Unix { .. } => {}
        }
    }

    /// Listens on a file; a socket file that a dead server has left behind is replaced.
    #[cfg(unix)]
    pub(super) async fn unix(
        path: &Path,
        address: &Address,
        options: &BindOptions,
    ) -> Result<Self, BindError> {
        let (file, listener) = unix::listen(path, address, options).await?;
        let _file = Some(file);
        Ok(Self(Kind::Unix { _file, listener }))
    }

    /// Takes the socket with this index that systemd has passed.
    #[cfg(feature = "cli")]
    pub(super) fn from_systemd(
        handed: &mut listenfd::ListenFd,
        index: usize,
    ) -> io::Result<Option<Self>> {
        #[cfg(unix)]
        if let Ok(Some(listener)) = handed.take_unix_listener(index) {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            let _file = None;
            return Ok(Some(Self(Kind::Unix { _file, listener })));
        }
        let Some(listener) = handed.take_tcp_listener(index)? else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        Ok(Some(Self::tcp(
            TcpListener::from_std(listener)?,
            Queue::One,
        )))
    }

    /// Creates the socket for another thread.
    #[cfg(unix)]
    pub(super) fn again(&self) -> io::Result<Self> {
        let kind = match &self.0 {
            Kind::Tcp {
                listener,
                queue,
                #[cfg(feature = "tls")]
                tls,
            } => Kind::Tcp {
                listener: match queue {
                    #[cfg(target_os = "linux")]
                    Queue::Each => Endpoint::of(listener)?.listen_beside()?,
                    Queue::One => {
                        let same = listener.as_fd().try_clone_to_owned()?;
                        TcpListener::from_std(same.into())?
                    }
                },
                queue: *queue,
                #[cfg(feature = "tls")]
                tls: tls.clone(),
            },
            Kind::Unix { listener, .. } => {
                let same = listener.as_fd().try_clone_to_owned()?;
                let listener = UnixListener::from_std(same.into())?;
                // The first thread's socket removes the file.
                let _file = None;
                Kind::Unix { _file, listener }
            }
        };
        Ok(Self(kind))
    }

    /// The local address, if the socket is TCP.
    pub(super) fn address(&self) -> Option<io::Result<SocketAddr>> {
        match &self.0 {
            Kind::Tcp { listener, .. } => Some(listener.local_addr()),
            #[cfg(unix)]
            Kind::Unix { .. } => None,
        }
    }
}

impl Accept for Socket {
    type Io = Stream;
    /// A client of a Unix socket has no address.
    type Addr = Option<SocketAddr>;

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.address().transpose()
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match &mut self.0 {
            Kind::Tcp {
                listener,
                queue: _,
                #[cfg(feature = "tls")]
                tls,
            } => {
                let (stream, peer) = ready!(Accept::poll_accept(listener, cx))?;
                #[cfg(feature = "tls")]
                let stream = match tls {
                    Some(tls) => Stream::TlsHandshake(Box::new(tls.accept(stream))),
                    None => Stream::Tcp(stream),
                };
                #[cfg(not(feature = "tls"))]
                let stream = Stream::Tcp(stream);
                Poll::Ready(Ok((stream, Some(peer))))
            }
            #[cfg(unix)]
            Kind::Unix { listener, .. } => {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(stream, _)| (Stream::Unix(stream), None))
            }
        }
    }
}
