//! Listening sockets, served as one listener.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tracing::warn;

use super::socket::{Accept, Socket};
#[cfg(feature = "tls")]
use super::tls::Tls;

/// Pause of the accept loop when the system has run out of a resource, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// One or more listening sockets, served as one listener; errors do not stop it.
///
/// An error of one connection affects that connection alone; after an exhausted resource the
/// listener tries again.
#[derive(Debug)]
pub struct Listeners<A = Socket> {
    sockets: Vec<A>,
    /// The socket that is polled first; it rotates, so that a busy socket does not starve the
    /// others.
    first: usize,
}

impl Listeners {
    /// The sockets that systemd passes to this process (`LISTEN_FDS`); `None` if there are none.
    ///
    /// The function must be called once, before other threads exist: it removes the variables from
    /// the environment.
    ///
    /// # Errors
    ///
    /// When a socket is neither a TCP nor a Unix socket that listens.
    #[cfg(feature = "cli")]
    pub fn from_systemd() -> io::Result<Option<Self>> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            sockets.extend(Socket::from_systemd(&mut handed, index)?);
        }
        Ok((!sockets.is_empty()).then(|| Self::new(sockets)))
    }

    /// Creates listeners for another thread, whose runtime must have been entered.
    ///
    /// # Errors
    ///
    /// When the operating system does not allow it.
    #[cfg(unix)]
    pub fn again(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(Socket::again);
        Ok(Self::new(sockets.collect::<io::Result<_>>()?))
    }

    /// Speaks TLS on the TCP sockets.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: &Tls) -> Self {
        for socket in &mut self.sockets {
            socket.speak(tls);
        }
        self
    }

    /// The local TCP addresses.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell them.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.sockets.iter().filter_map(Socket::address);
        addresses.collect()
    }

    /// Whether other machines can reach one of the addresses.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell the addresses.
    pub fn is_public(&self) -> io::Result<bool> {
        let mut addresses = self.addresses()?.into_iter();
        Ok(addresses.any(|address| !address.ip().to_canonical().is_loopback()))
    }
}

impl<A: Accept> Listeners<A> {
    /// Serves these sockets as one listener; without sockets it never accepts a connection.
    pub fn new(sockets: Vec<A>) -> Self {
        Self { sockets, first: 0 }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(A::Io, A::Addr)>> {
        let count = self.sockets.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            if let Poll::Ready(accepted) = self.sockets[index].poll_accept(cx) {
                self.first = (index + 1) % count;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl<A: Accept> Listener for Listeners<A> {
    type Io = A::Io;
    type Addr = A::Addr;

    async fn accept(&mut self) -> (A::Io, A::Addr) {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) if is_peer_gone(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<A::Addr> {
        let none = || io::Error::from(io::ErrorKind::NotConnected);
        self.sockets.first().ok_or_else(none)?.local_addr()
    }
}

/// Whether the error concerns one connection, which was gone before it was accepted. Linux reports
/// pending network errors of the new connection here, too. A connection's own error causes no
/// pause.
fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
    )
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::rt::{Clock, Instant, Tokio};

    /// Measures the virtual time since this call.
    fn stopwatch() -> impl Fn() -> Duration {
        let clock = Tokio::current();
        move || clock.now().saturating_since(Instant::ZERO)
    }

    /// A socket with a script of results, one for each poll, and then none.
    struct Script {
        name: &'static str,
        told: VecDeque<io::Result<()>>,
    }

    impl Script {
        fn new<const N: usize>(name: &'static str, told: [io::Result<()>; N]) -> Self {
            let told = told.into();
            Self { name, told }
        }
    }

    impl Accept for Script {
        type Io = DuplexStream;
        type Addr = &'static str;

        fn poll_accept(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<(DuplexStream, &'static str)>> {
            match self.told.pop_front() {
                Some(Ok(())) => Poll::Ready(Ok((duplex(1).0, self.name))),
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        }

        fn local_addr(&self) -> io::Result<&'static str> {
            Ok(self.name)
        }
    }

    /// EMFILE and ENOMEM of Unix.
    const EXHAUSTED: [i32; 2] = [24, 12];

    #[tokio::test(start_paused = true)]
    async fn a_socket_with_many_connections_keeps_no_other_waiting() {
        let busy = Script::new("busy", [(); 6].map(Ok));
        let other = Script::new("other", [(); 2].map(Ok));
        let last = Script::new("last", [Ok(())]);
        let mut listeners = Listeners::new(vec![busy, other, last]);
        let mut order = Vec::new();
        for _ in 0..9 {
            order.push(listeners.accept().await.1);
        }
        let expected = ["busy", "other", "last", "busy", "other"];
        assert_eq!(order[..5], expected, "each in its turn");
        assert_eq!(order[5..], ["busy"; 4]);
        let mut none = pin!(listeners.accept());
        assert!(
            none.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_before_it_is_accepted_costs_the_next_no_time() {
        let told = [
            Err(io::ErrorKind::ConnectionAborted.into()),
            Err(io::ErrorKind::ConnectionReset.into()),
            Err(io::ErrorKind::HostUnreachable.into()),
            Ok(()),
        ];
        let mut listeners = Listeners::new(vec![Script::new("all", told)]);
        let elapsed = stopwatch();
        assert_eq!(listeners.accept().await.1, "all");
        assert_eq!(elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_system_is_short_of_is_waited_for() {
        for error in EXHAUSTED {
            let told = [Err(io::Error::from_raw_os_error(error)), Ok(())];
            let mut listeners = Listeners::new(vec![Script::new("short", told)]);
            let elapsed = stopwatch();
            assert_eq!(listeners.accept().await.1, "short");
            assert_eq!(elapsed(), EXHAUSTED_PAUSE, "{error}");
        }
    }
}
