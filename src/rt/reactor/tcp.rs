//! A TCP stream of which a reactor tells.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sources::{Side, Sources};

/// A TCP stream that costs its thread 32 bytes beside its own.
///
/// It is read and written by one task each, or both by one.
#[derive(Debug)]
pub(crate) struct TcpStream {
    stream: mio::net::TcpStream,
    pub(super) key: u32,
    /// Whether it has taken less than it was given, so that it is to be asked for room.
    is_full: bool,
    sources: Arc<Sources>,
}

impl TcpStream {
    /// Takes a stream over from tokio.
    ///
    /// # Errors
    ///
    /// When the system does not watch one more.
    pub(crate) fn new(stream: tokio::net::TcpStream, sources: &Arc<Sources>) -> io::Result<Self> {
        let mut stream = mio::net::TcpStream::from_std(stream.into_std()?);
        let key = sources.insert(&mut stream)?;
        Ok(Self {
            stream,
            key,
            is_full: false,
            sources: Arc::clone(sources),
        })
    }

    fn poll_read_into(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.sources.poll(cx, self.key, Side::Read));
            match retried(|| self.stream.read(into)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.sources.is_open(self.key, Side::Read);
                }
                read => {
                    // A short read has found all there was; of more, the system tells again.
                    if read.as_ref().is_ok_and(|read| *read == into.len()) {
                        self.sources.is_still_ready(self.key, Side::Read);
                    }
                    return Poll::Ready(read);
                }
            }
        }
    }

    fn poll_write_from(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.is_full {
                ready!(self.sources.poll(cx, self.key, Side::Write));
            }
            match retried(|| self.stream.write(bytes)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_full = true;
                    self.sources.is_open(self.key, Side::Write);
                }
                written => {
                    self.is_full = written.as_ref().is_ok_and(|taken| *taken < bytes.len());
                    return Poll::Ready(written);
                }
            }
        }
    }
}

/// Does it until no signal comes between.
fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.sources.remove(self.key);
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_read_into(cx, into.initialize_unfilled()))?;
        into.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.stream.shutdown(Shutdown::Write) {
            // A peer that broke the connection has ended both of its sides.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended,
        })
    }
}
