//! One listening socket and its address: TCP or Unix.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::task::{Context, Poll, ready};

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::bind::BindError;
#[cfg(unix)]
use super::bind::BindOptions;
use super::listen_host;
use super::listener::Accept;
use super::stream::Stream;
#[cfg(target_os = "linux")]
use super::tcp::Endpoint;
#[cfg(feature = "tls")]
use super::tls::Tls;
#[cfg(unix)]
use super::unix::{self, OwnFile};

/// An address in the configuration: `HOST:PORT`, or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp {
        /// A name or an IP address; an IPv6 address is in brackets.
        host: String,
        /// The port; 0 for any free port.
        port: u16,
    },
    /// A file.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let bad = || BindError::BadAddress {
            address: text.to_owned(),
        };
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let is_file = path.has_root() && path.file_name().is_some();
            // The operating system limits the length of a path.
            let can_be = is_file && std::os::unix::net::SocketAddr::from_pathname(&path).is_ok();
            return can_be.then_some(Self::Unix(path)).ok_or_else(bad);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        if !listen_host::can_be(host) {
            return Err(bad());
        }
        let host = host.to_owned();
        Ok(Self::Tcp { host, port })
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

/// The queue of connections that wait to be accepted by the threads of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Each thread has a queue of its own; the kernel distributes connections over them
    /// (`SO_REUSEPORT`).
    #[cfg(target_os = "linux")]
    Each,
    /// All threads share one queue.
    One,
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
