//! A connection as the listeners have it: TCP, with TLS or without, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "tls")]
use tokio_rustls::{Accept, server::TlsStream};

/// One accepted connection.
///
/// The handshake of TLS is made by the first read, so that it is inside the deadline and the bounds
/// of a request's head.
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TCP whose client has not finished the handshake of TLS.
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
    /// Finishes the handshake of TLS, if there is one.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(feature = "tls")]
        if let Self::TlsHandshake(accept) = self {
            let stream = ready!(Pin::new(accept.as_mut()).poll(cx))?;
            *self = Self::Tls(Box::new(stream));
        }
        let _waits_only_for_tls = cx;
        Poll::Ready(Ok(()))
    }

    /// The stream behind the handshake.
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

/// Both halves of a stream.
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
        // Before the end of the handshake nothing was written.
        self.open()
            .map_or(Poll::Ready(Ok(())), |stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A client that did not finish its handshake hears nothing of us anyway.
        self.open()
            .map_or(Poll::Ready(Ok(())), |stream| stream.poll_shutdown(cx))
    }
}
