//! A TCP stream of which a reactor tells.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sources::{Asked, Side, Sources, Tellings};

/// A TCP stream that costs its thread 32 bytes beside its own.
///
/// It is read and written by one task each, or both by one.
#[derive(Debug)]
pub(crate) struct TcpStream {
    stream: mio::net::TcpStream,
    pub(super) key: u32,
    known: Known,
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
            known: Known::NOTHING,
            sources: Arc::clone(sources),
        })
    }

    /// Whether a read would find nothing; the task that has read last is woken once it would find
    /// something.
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        self.known.silent_at() == self.sources.tellings().0 << 1
    }

    /// Whether the system has something to be read, whatever it has told of that.
    pub(crate) fn has_news(&self) -> bool {
        let peeked = retried(|| self.stream.peek(&mut [0]));
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn poll_read_into(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let told = match self.sources.ask(cx, self.key, Side::Read) {
                Asked::Closed => None,
                Asked::Ready(tellings) => Some(tellings),
                Asked::Silent(tellings) => {
                    self.known.set_silent(Some(tellings));
                    return Poll::Pending;
                }
            };
            match retried(|| self.stream.read(into)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.sources.is_open(self.key, Side::Read);
                }
                read => {
                    let bytes = read.as_ref().map_or(0, |bytes| *bytes);
                    if bytes == into.len() {
                        self.sources.is_still_ready(self.key, Side::Read);
                    }
                    // A short read has found all there was; of more, the system tells again.
                    let is_short = (1..into.len()).contains(&bytes);
                    self.known.set_silent(told.filter(|_| is_short));
                    return Poll::Ready(read);
                }
            }
        }
    }

    fn poll_write_from(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.known.is_full()
                && let Asked::Silent(_) = self.sources.ask(cx, self.key, Side::Write)
            {
                return Poll::Pending;
            }
            match retried(|| self.stream.write(bytes)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.known.set_full(true);
                    self.sources.is_open(self.key, Side::Write);
                }
                written => {
                    let is_short = written.as_ref().is_ok_and(|taken| *taken < bytes.len());
                    if is_short || self.known.is_full() {
                        self.known.set_full(is_short);
                    }
                    return Poll::Ready(written);
                }
            }
        }
    }
}

/// What is known of a socket without asking: one word, as an idle connection has it as well.
///
/// Its lowest bit is whether the socket has taken less than it was given, so that it is to be asked
/// for room. The others are how often something had been told of any socket when this one was last
/// known to be silent.
#[derive(Clone, Copy, Debug)]
struct Known(u64);

impl Known {
    const FULL: u64 = 1;

    /// That it is not full, and more tellings than there ever are.
    const NOTHING: Self = Self(!Self::FULL);

    fn is_full(self) -> bool {
        self.0 & Self::FULL != 0
    }

    fn set_full(&mut self, is_full: bool) {
        self.0 = self.silent_at() | u64::from(is_full);
    }

    /// Twice the tellings.
    fn silent_at(self) -> u64 {
        self.0 & !Self::FULL
    }

    fn set_silent(&mut self, at: Option<Tellings>) {
        let at = at.map_or(Self::NOTHING.0, |Tellings(count)| count << 1);
        self.0 = at | self.0 & Self::FULL;
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
