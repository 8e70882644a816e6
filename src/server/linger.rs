//! A connection that is closed in two steps, so that its client receives the response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::places::Mark;
use crate::scratch;

/// Time without a write after which an endless response is abandoned, if its client has ended its
/// own side.
const QUIET: Duration = Duration::from_secs(1);

/// A stream whose client receives its response even if it has ended its own side or sends more than
/// its request (RFC 9112 9.6).
///
/// Between two requests of a kept connection, the end of the client's stream is reported at once.
/// While a request is served, the end is not reported: most clients end
/// their side without closing the connection, but the end may also mean a close. A client that is
/// gone is therefore noticed by a failing write, by a reset, by the deadline of the connection, or,
/// after an endless response has begun, by a time without writes.
///
/// Closing a socket with unread bytes sends a reset, which can overtake the response. So a shutdown
/// ends the server's side first, and then reads and discards until the client ends its side, for a
/// limited time.
#[derive(Debug)]
pub(super) struct Lingering<Io> {
    io: Io,
    mark: Mark,
    limit: Duration,
    /// Whether the response to the present request has begun.
    has_begun: bool,
    /// Whether the client has ended its side, which is not reported to the reader.
    has_ended: bool,
    /// Whether the server has ended its side.
    is_over: bool,
    /// Whether the response waits for the client to read: a write is blocked, or the flush of bytes
    /// that a layer such as TLS holds back.
    is_blocked: [bool; 2],
    /// The deadline for the client.
    until: Option<Pin<Box<Sleep>>>,
}

impl<Io> Lingering<Io> {
    /// A connection with this slot; `limit` bounds the time for reading and discarding at its end.
    pub(super) fn new(io: Io, mark: Mark, limit: Duration) -> Self {
        Self {
            io,
            mark,
            limit,
            has_begun: false,
            has_ended: false,
            is_over: false,
            is_blocked: [false; 2],
            until: None,
        }
    }

    pub(super) fn into_inner(self) -> Io {
        self.io
    }

    /// Sets the deadline for the client to `limit` from now.
    fn wait(&mut self, limit: Duration, cx: &mut Context<'_>) {
        let mut until = Box::pin(sleep(limit));
        // A `Sleep` registers its waker when it is polled.
        let _later = until.as_mut().poll(cx);
        self.until = Some(until);
    }

    /// Notes the result of a write.
    fn wrote<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.has_begun = true;
        self.is_blocked[0] = written.is_pending();
        self.report(cx);
        self.go_on(cx);
        written
    }

    /// Reports whether the response is blocked; wakes the task once it is not any more, as the body
    /// of the response may wait for that.
    fn report(&self, cx: &Context<'_>) {
        let is_blocked = self.is_blocked.contains(&true);
        if self.mark.blocked(is_blocked) && !is_blocked {
            cx.waker().wake_by_ref();
        }
    }

    /// Makes a kept connection ready for its next request, as its response is written.
    fn next(&mut self, cx: &Context<'_>) {
        self.has_begun = false;
        self.until = None;
        if self.has_ended {
            // The end is reported from now on, for which nothing else wakes the reader.
            cx.waker().wake_by_ref();
        }
    }

    /// Restarts the time without writes after the client has ended its side; a response that is
    /// blocked by the client has no deadline here.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        if self.has_begun && self.has_ended {
            if self.is_blocked.contains(&true) {
                self.until = None;
            } else {
                self.wait(QUIET, cx);
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Lingering<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_ended {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            if buffer.filled().len() > before {
                this.mark.arrived();
                return Poll::Ready(Ok(()));
            }
            this.has_ended = true;
            this.go_on(cx);
        }
        // An end before the whole request head is reported.
        if !this.mark.is_served() {
            return Poll::Ready(Ok(()));
        }
        match &mut this.until {
            Some(until) => until.as_mut().poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bytes);
        this.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        // A flush without buffered bytes is not progress.
        if this.is_blocked[1] != flushed.is_pending() {
            this.is_blocked[1] = flushed.is_pending();
            this.report(cx);
            this.go_on(cx);
        }
        if flushed.is_ready() && this.mark.wrote() {
            this.next(cx);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_over {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.mark.answered();
            this.is_over = true;
            this.wait(this.limit, cx);
        }
        let until = this.until.as_mut().expect("it was set then");
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = scratch::acquire();
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {
                // Let other tasks run before the next read.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // The end, whether orderly or not.
            Ok(()) | Err(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::rt::{Clock, Instant, Tokio};
    use crate::server::places::{Place, Places};
    use crate::server::waiting::{Bounds, Newcomer};
    use crate::wakes::Wakes;

    /// Measures the virtual time since this call.
    fn stopwatch() -> impl Fn() -> Duration {
        let clock = Tokio::current();
        move || clock.now().saturating_since(Instant::ZERO)
    }

    const LIMIT: Duration = Duration::from_secs(5);

    /// The server's end of a connection with its slot, and the client's end.
    fn pair() -> (Lingering<DuplexStream>, Place, DuplexStream) {
        let places = Places::new(Bounds {
            in_all: 1,
            per_address: 1,
        });
        let taken = places.take(Newcomer::of(None, false)).now_or_never();
        let taken = taken.expect("it is free").expect("it has no address");
        let (server, client) = duplex(64);
        let server = Lingering::new(server, taken.place.mark(), LIMIT);
        (server, taken.place, client)
    }

    /// Reads to the end.
    async fn read_to_end(server: &mut Lingering<DuplexStream>) -> Vec<u8> {
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.expect("nothing fails");
        read
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_what_is_no_request_is_told_at_once() {
        let (mut server, _place, client) = pair();
        drop(client);
        let elapsed = stopwatch();
        assert_eq!(read_to_end(&mut server).await, b"");
        assert_eq!(elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_not_told_before_the_answer_and_a_while_after_it() {
        for answer_first in [false, true] {
            let (mut server, place, mut client) = pair();
            assert!(place.mark().serve());
            client.write_all(b"rest").await.expect("there is room");
            client.shutdown().await.expect("nothing fails");
            let mut rest = [0; 4];
            server.read_exact(&mut rest).await.expect("nothing fails");
            if answer_first {
                server.write_all(b"begin").await.expect("there is room");
            }
            let hour = Duration::from_secs(3600);
            if !answer_first {
                // The decision about a request may take any time.
                let read = tokio::time::timeout(hour, read_to_end(&mut server)).await;
                assert!(read.is_err(), "it is decided about: {read:?}");
                server.write_all(b"begin").await.expect("there is room");
            }
            // Each write restarts the time.
            for _ in 0..3 {
                let soon = QUIET - Duration::from_millis(1);
                let read = tokio::time::timeout(soon, read_to_end(&mut server)).await;
                assert!(read.is_err(), "it goes on: {read:?}");
                server.write_all(b"more").await.expect("there is room");
            }
            let elapsed = stopwatch();
            assert_eq!(read_to_end(&mut server).await, b"");
            assert_eq!(elapsed(), QUIET);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_request_is_decided_about_as_long_as_a_first_one() {
        let hour = Duration::from_secs(3600);
        for ends_in in [1, 2] {
            let (mut server, place, mut client) = pair();
            let mark = place.mark();
            for request in [1, 2] {
                assert!(mark.serve(), "a kept connection needs no slot");
                if request == ends_in {
                    client.shutdown().await.expect("nothing fails");
                }
                let read = tokio::time::timeout(hour, read_to_end(&mut server)).await;
                assert!(read.is_err(), "it is decided about: {read:?}");
                mark.keep();
                server.write_all(b"answer").await.expect("there is room");
                server.flush().await.expect("nothing fails");
            }
            let elapsed = stopwatch();
            let before = elapsed();
            assert_eq!(read_to_end(&mut server).await, b"");
            assert_eq!(
                elapsed(),
                before,
                "the end is told at once where none is served"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_to_whom_the_end_was_not_told_is_woken_after_a_kept_response() {
        let (mut server, place, mut client) = pair();
        assert!(place.mark().serve());
        client.shutdown().await.expect("nothing fails");
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut bytes = [0; 9];
        let mut read = ReadBuf::new(&mut bytes);
        let server = &mut server;
        assert!(
            Pin::new(&mut *server)
                .poll_read(&mut cx, &mut read)
                .is_pending()
        );
        place.mark().keep();
        assert!(
            Pin::new(&mut *server)
                .poll_write(&mut cx, b"answer")
                .is_ready()
        );
        assert_eq!(wakes.count(), 0);
        assert!(Pin::new(&mut *server).poll_flush(&mut cx).is_ready());
        assert_eq!(wakes.count(), 1);
        assert!(Pin::new(server).poll_read(&mut cx, &mut read).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_ended_its_side_and_reads_slowly_gets_all() {
        let (mut server, place, mut client) = pair();
        assert!(place.mark().serve());
        client.shutdown().await.expect("nothing fails");
        server.write_all(&[0; 60]).await.expect("there is room");
        let slow = async {
            let written = server.write_all(&[1; 60]);
            let mut written = std::pin::pin!(written);
            assert!(
                futures::poll!(written.as_mut()).is_pending(),
                "there is no room"
            );
            tokio::time::advance(10 * QUIET).await;
            assert!(
                futures::poll!(written.as_mut()).is_pending(),
                "there is no room"
            );
        };
        slow.await;
        let read = tokio::time::timeout(10 * QUIET, read_to_end(&mut server)).await;
        assert!(read.is_err(), "the client has not taken all: {read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_has_its_answer_and_its_end() {
        let (mut server, _place, mut client) = pair();
        let elapsed = stopwatch();
        let serve = async {
            server.write_all(b"answer").await?;
            server.shutdown().await
        };
        let ask = async {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await?;
            assert_eq!(answer, b"answer");
            // The bytes exceed the buffer between the two ends, so that the server waits for the
            // client to read.
            client.write_all(&[0; 100_000]).await?;
            client.shutdown().await
        };
        let both = async { futures::try_join!(serve, ask) };
        let both = tokio::time::timeout(LIMIT, both).await;
        let both = both.expect("what the client sends is read");
        both.expect("neither is cut off");
        assert_eq!(elapsed(), Duration::ZERO, "it waits for nothing else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_its_side_is_waited_for_so_long() {
        let (mut server, _place, _client) = pair();
        let elapsed = stopwatch();
        server.shutdown().await.expect("nothing fails");
        assert_eq!(elapsed(), LIMIT);
        // A client that continues to send is cut off as well.
        let (mut server, _place, mut noisy) = pair();
        let noise = async {
            loop {
                if noisy.write_all(b"x").await.is_err() {
                    return;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        };
        let elapsed = stopwatch();
        futures::future::select(Box::pin(server.shutdown()), Box::pin(noise)).await;
        assert_eq!(elapsed(), LIMIT);
    }
}
