//! The stream of an accepted connection: TCP, with or without TLS, or a Unix socket.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "tls")]
use tokio_rustls::{Accept, server::TlsStream};

#[cfg(target_os = "linux")]
use crate::rt;

/// One accepted connection.
///
/// The first read performs the TLS handshake, so that the deadline and the bounds of a request's
/// head also apply to the handshake.
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TCP whose client has not finished the TLS handshake.
    #[cfg(feature = "tls")]
    TlsHandshake(Box<Accept<TcpStream>>),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Finishes the TLS handshake, if there is one.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Self::TlsHandshake(accept) = self {
            let stream = ready!(Pin::new(accept.as_mut()).poll(cx))?;
            *self = Self::Tls(Box::new(stream));
        }
        let _waits_only_for_tls = cx;
        Poll::Ready(Ok(()))
    }

    /// The local address of the connection, if it is TCP.
    pub(super) fn local_addr(&self) -> Option<io::Result<SocketAddr>> {
        match self {
            Self::Tcp(stream) => Some(stream.local_addr()),
            #[cfg(feature = "tls")]
            Self::TlsHandshake(accept) => {
                let gone = || Err(io::ErrorKind::NotConnected.into());
                Some(accept.get_ref().map_or_else(gone, TcpStream::local_addr))
            }
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Some(stream.get_ref().0.local_addr()),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Whether a session on another thread of this server can take the stream: the readiness of
    /// other streams comes from tokio, on the thread that accepted them.
    pub(super) fn is_movable(&self) -> bool {
        #[cfg(target_os = "linux")]
        return matches!(self, Self::Tcp(_)) && rt::sources().is_some();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// The part of the stream that a session keeps.
    ///
    /// # Errors
    ///
    /// When the operating system cannot watch one more socket.
    pub(super) fn into_transport(self) -> io::Result<SessionTransport> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => match rt::sources() {
                Some(sources) => rt::TcpStream::new(stream, &sources).map(SessionTransport::Tcp),
                None => Ok(SessionTransport::Any(Box::new(Self::Tcp(stream)))),
            },
            any => Ok(SessionTransport::Any(Box::new(any))),
        }
    }

    /// Whether a read would return something; asks the operating system.
    fn has_data(&self) -> bool {
        match self {
            Self::Tcp(stream) => has_data(&SockRef::from(stream)),
            #[cfg(feature = "tls")]
            Self::TlsHandshake(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => has_data(&SockRef::from(stream.get_ref().0)),
            #[cfg(unix)]
            Self::Unix(stream) => has_data(&SockRef::from(stream)),
        }
    }

    /// The stream after the handshake.
    fn open(&mut self) -> Option<Pin<&mut dyn Duplex>> {
        match self {
            Self::Tcp(stream) => Some(Pin::new(stream)),
            #[cfg(feature = "tls")]
            Self::TlsHandshake(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Some(Pin::new(stream.as_mut())),
            #[cfg(unix)]
            Self::Unix(stream) => Some(Pin::new(stream)),
        }
    }
}

/// The transport of a session, of minimal size because every idle connection has one.
pub(super) enum SessionTransport {
    /// TCP without TLS, whose readiness comes from the thread's own reactor.
    #[cfg(target_os = "linux")]
    Tcp(rt::TcpStream),
    /// Any other stream, whose readiness comes from tokio.
    Any(Box<Stream>),
}

impl SessionTransport {
    /// Whether a read would return nothing, as far as the cached readiness tells; the task that
    /// read last is woken when this changes.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => stream.is_silent(),
            Self::Any(_) => false,
        }
    }

    /// Whether data, an end or an error is pending that the task has not been woken for yet.
    pub(super) fn has_data(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => stream.has_data(),
            Self::Any(stream) => stream.has_data(),
        }
    }
}

/// Whether the operating system has something to read, whether or not it has reported readiness.
fn has_data(socket: &Socket) -> bool {
    let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A stream for reading and writing.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        let stream = self.open().expect("the handshake is over");
        stream.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        let stream = self.open().expect("the handshake is over");
        stream.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing was written before the end of the handshake.
        self.open()
            .map_or(Poll::Ready(Ok(())), |stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A client that has not finished its handshake cannot read anything.
        self.open()
            .map_or(Poll::Ready(Ok(())), |stream| stream.poll_shutdown(cx))
    }
}

impl AsyncRead for SessionTransport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Any(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for SessionTransport {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Any(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Any(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Any(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::rt::Tokio;

    /// A session's transport and the other end of its connection.
    async fn pair() -> io::Result<(SessionTransport, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = TcpStream::connect(listener.local_addr()?);
        let ((stream, _), peer) = futures::try_join!(listener.accept(), peer)?;
        Ok((Stream::Tcp(stream).into_transport()?, peer))
    }

    /// Writes to the peer, and reads its data to the end.
    async fn talk(mut transport: SessionTransport, mut peer: TcpStream) -> io::Result<()> {
        let ours = async {
            transport.write_all(b"ab").await?;
            transport.flush().await?;
            transport.shutdown().await?;
            let mut read = Vec::new();
            transport.read_to_end(&mut read).await?;
            assert_eq!(read, b"cd");
            Ok(())
        };
        let theirs = async {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).await?;
            assert_eq!(read, b"ab");
            peer.write_all(b"cd").await?;
            peer.shutdown().await
        };
        futures::try_join!(ours, theirs).map(drop)
    }

    #[tokio::test]
    async fn a_session_reads_and_writes_a_stream_whoever_tells_of_it() {
        let (transport, peer) = pair().await.expect("sockets");
        assert!(
            matches!(transport, SessionTransport::Any(_)),
            "this thread has no turns yet"
        );
        talk(transport, peer).await.expect("both are there");
        Tokio::start_worker().expect("there are descriptors");
        let (transport, peer) = pair().await.expect("sockets");
        #[cfg(target_os = "linux")]
        assert!(matches!(transport, SessionTransport::Tcp(_)));
        talk(transport, peer).await.expect("both are there");
    }

    /// Waits until data is readable, without waking a task.
    async fn until_news(transport: &SessionTransport) {
        let patience = Duration::from_secs(10);
        let news = async {
            while !transport.has_data() {
                tokio::task::yield_now().await;
            }
        };
        let known = tokio::time::timeout(patience, news).await;
        known.expect("it was sent");
    }

    async fn check_news(mut transport: SessionTransport, mut peer: impl AsyncWrite + Unpin) {
        assert!(!transport.has_data(), "nothing was sent");
        peer.write_all(b"a").await.expect("it is connected");
        until_news(&transport).await;
        assert!(transport.has_data(), "it was not read");
        assert_eq!(transport.read_u8().await.expect("it was sent"), b'a');
        assert!(!transport.has_data(), "it was read");
        drop(peer);
        until_news(&transport).await;
    }

    #[tokio::test]
    async fn what_may_be_read_is_known_before_anybody_is_told() {
        let (transport, peer) = pair().await.expect("sockets");
        check_news(transport, peer).await;
        #[cfg(unix)]
        {
            let (stream, peer) = UnixStream::pair().expect("sockets");
            let transport = Stream::Unix(stream).into_transport().expect("as it is");
            check_news(transport, peer).await;
        }
        Tokio::start_worker().expect("there are descriptors");
        let (transport, peer) = pair().await.expect("sockets");
        check_news(transport, peer).await;
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_session_keeps_little_of_its_stream() {
        // In test builds mio stores 8 bytes more about the registry, and the fields move
        // accordingly.
        let bytes = size_of::<SessionTransport>();
        assert!(bytes <= 40, "{bytes} bytes");
    }
}
