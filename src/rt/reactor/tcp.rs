//! TCP streams whose readiness a reactor reports.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sources::{PolledReadiness, ReportCount, Side, Sources};

/// A TCP stream that costs its reactor 32 bytes.
///
/// At most one task reads the stream and at most one task writes it.
#[derive(Debug)]
pub(crate) struct TcpStream {
    stream: mio::net::TcpStream,
    pub(super) key: u32,
    cached: CachedReadiness,
    sources: Arc<Sources>,
}

impl TcpStream {
    /// Takes a stream over from tokio.
    ///
    /// # Errors
    ///
    /// When the system cannot watch a further socket.
    pub(crate) fn new(stream: tokio::net::TcpStream, sources: &Arc<Sources>) -> io::Result<Self> {
        let mut stream = mio::net::TcpStream::from_std(stream.into_std()?);
        let key = sources.insert(&mut stream)?;
        Ok(Self {
            stream,
            key,
            cached: CachedReadiness::UNKNOWN,
            sources: Arc::clone(sources),
        })
    }

    /// Whether a read would find nothing; in this case the task that read last is woken once there
    /// is data.
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        self.cached.drained_at() == self.sources.reports().0 << 1
    }

    /// Asks the system whether there is data to read, without the reactor's reports.
    pub(crate) fn has_data(&self) -> bool {
        let peeked = retried(|| self.stream.peek(&mut [0]));
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn poll_read_into(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let reported = match self.sources.poll_readiness(cx, self.key, Side::Read) {
                PolledReadiness::Closed => None,
                PolledReadiness::Ready(reports) => Some(reports),
                PolledReadiness::Pending(reports) => {
                    self.cached.set_drained(Some(reports));
                    return Poll::Pending;
                }
            };
            match retried(|| self.stream.read(into)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.sources.clear_closed(self.key, Side::Read);
                }
                read => {
                    let bytes = read.as_ref().map_or(0, |bytes| *bytes);
                    if bytes == into.len() {
                        self.sources.set_ready(self.key, Side::Read);
                    }
                    // A short read has emptied the socket; the system reports data that comes
                    // later.
                    let is_short = (1..into.len()).contains(&bytes);
                    self.cached.set_drained(reported.filter(|_| is_short));
                    return Poll::Ready(read);
                }
            }
        }
    }

    fn poll_write_from(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.cached.is_full()
                && let PolledReadiness::Pending(_) =
                    self.sources.poll_readiness(cx, self.key, Side::Write)
            {
                return Poll::Pending;
            }
            match retried(|| self.stream.write(bytes)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.cached.set_full(true);
                    self.sources.clear_closed(self.key, Side::Write);
                }
                written => {
                    let is_short = written.as_ref().is_ok_and(|taken| *taken < bytes.len());
                    if is_short || self.cached.is_full() {
                        self.cached.set_full(is_short);
                    }
                    return Poll::Ready(written);
                }
            }
        }
    }
}

/// The state of a socket that is known without asking, in one word, as each idle connection has it.
///
/// The lowest bit is set if the last write was short, so that the next write must ask for room. The
/// other bits are the number of reports when the socket was last known to be silent.
#[derive(Clone, Copy, Debug)]
struct CachedReadiness(u64);

impl CachedReadiness {
    const FULL: u64 = 1;

    /// A state that is neither full nor silent: the number of reports never gets this large.
    const UNKNOWN: Self = Self(!Self::FULL);

    fn is_full(self) -> bool {
        self.0 & Self::FULL != 0
    }

    fn set_full(&mut self, is_full: bool) {
        self.0 = self.drained_at() | u64::from(is_full);
    }

    /// The number of reports, shifted left by one bit.
    fn drained_at(self) -> u64 {
        self.0 & !Self::FULL
    }

    fn set_drained(&mut self, at: Option<ReportCount>) {
        let at = at.map_or(Self::UNKNOWN.0, |ReportCount(count)| count << 1);
        self.0 = at | self.0 & Self::FULL;
    }
}

/// Repeats a call until no signal interrupts it.
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
            // The peer broke the connection, which ended both sides.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended,
        })
    }
}
