//! The stream between a session and its client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};

/// The stream between a session and its client; of any other stream [`Plain`] makes one.
pub trait Socket: AsyncRead + AsyncWrite {
    /// Whether a read would find nothing, and the task that has read last is woken once it would
    /// find something.
    ///
    /// `false`, as by default, where that is not known: then it is read.
    fn is_silent(&self) -> bool {
        false
    }

    /// Whether there is something to be read, an end or an error among it, of which the reading
    /// task was not told yet: the system itself is asked, before the peer is taken for dead and
    /// before a session that leaves takes its peer for heard out.
    ///
    /// `false`, as by default, for a stream of which each read asks the system.
    fn has_news(&self) -> bool {
        false
    }
}

/// A stream that is read to know whether there is something to be read.
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
