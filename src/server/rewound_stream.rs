//! The stream of an upgraded connection, for a session.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::SessionTransport;
use crate::session::Socket;

/// A stream, preceded by bytes that arrived together with the request head.
///
/// There is no further layer between a session and its socket: each layer would cost memory for
/// every idle connection.
pub(super) struct RewoundStream<Io> {
    io: Io,
    /// The bytes that are not read yet; `None` for nearly every client from the beginning.
    ahead: Option<Box<Bytes>>,
}

impl<Io> RewoundStream<Io> {
    /// A stream whose first bytes, `ahead`, were already read from `io`.
    pub(super) fn new(io: Io, ahead: &[u8]) -> Self {
        // Copied, because the bytes are a small part of a large buffer that can then be freed.
        let ahead = (!ahead.is_empty()).then(|| Box::new(Bytes::copy_from_slice(ahead)));
        Self { io, ahead }
    }
}

impl<Io: AsyncRead + Unpin> futures::io::AsyncRead for RewoundStream<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(ahead) = &mut self.ahead {
            let taken = ahead.len().min(into.len());
            ahead.copy_to_slice(&mut into[..taken]);
            if ahead.is_empty() {
                self.ahead = None;
            }
            return Poll::Ready(Ok(taken));
        }
        let mut into = ReadBuf::new(into);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl<Io: AsyncWrite + Unpin> futures::io::AsyncWrite for RewoundStream<Io> {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Socket for RewoundStream<SessionTransport> {
    #[inline]
    fn is_silent(&self) -> bool {
        self.ahead.is_none() && self.io.is_silent()
    }

    fn has_data(&self) -> bool {
        self.ahead.is_some() || self.io.has_data()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_came_with_the_head_is_read_first_in_pieces_of_any_size() {
        for room in 1..=5 {
            let mut stream = RewoundStream::new(&b"efg"[..], b"abcd");
            let (mut read, mut piece) = (Vec::new(), [0; 5]);
            loop {
                let taken = stream.read(&mut piece[..room]).now_or_never();
                let taken = taken.expect("it is there").expect("no error");
                if taken == 0 {
                    break;
                }
                read.extend_from_slice(&piece[..taken]);
            }
            assert_eq!(read, b"abcdefg", "{room} bytes at a time");
            assert!(stream.ahead.is_none(), "nothing is kept");
        }
    }

    #[test]
    fn without_bytes_ahead_nothing_is_kept_and_what_is_written_goes_through() {
        let mut stream = RewoundStream::new(Vec::new(), b"");
        assert!(stream.ahead.is_none());
        let parts = [IoSlice::new(b"c"), IoSlice::new(b"d")];
        let written = async {
            stream.write_all(b"ab").await?;
            assert_eq!(stream.write_vectored(&parts).await?, 2);
            stream.close().await
        };
        let written = written.now_or_never().expect("there is room");
        assert!(written.is_ok());
        assert_eq!(stream.io, b"abcd");
    }
}
