//! The stream between a session and its client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};

/// The stream between a session and its client; [`Plain`] wraps any other stream.
pub trait Socket: AsyncRead + AsyncWrite {
    /// Whether a read would return nothing, and the task that read last is woken as soon as there
    /// is something to read.
    ///
    /// The default is `false`, for a stream that does not know: the session then tries a read.
    fn is_silent(&self) -> bool {
        false
    }

    /// Whether data, an end or an error is pending that the reading task has not been woken for
    /// yet.
    ///
    /// The implementation asks the operating system. The session calls this before it declares the
    /// peer dead, and before it leaves on the assumption that everything the peer sent was read.
    ///
    /// The default is `false`, for a stream of which each read asks the operating system.
    fn has_data(&self) -> bool {
        false
    }
}

/// A stream without readiness of its own: only a read shows whether there is data.
#[derive(Clone, Copy, Debug)]
pub struct Plain<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for Plain<S> {}

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
