//! Connects to the first address of a host that accepts (RFC 8305, "happy eyeballs").
//!
//! `hyper-util` does this across two families of addresses only: within one family, it tries the
//! second address after a whole share of the deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

/// Time for an address before the next address is tried in parallel.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that accepts, and returns that address.
///
/// The addresses are tried in order, each as soon as the one before has failed or has had its head
/// start. An attempt continues until another one has succeeded: the caller sets the deadline.
///
/// # Errors
///
/// When no address accepts, with the error of the last attempt that failed; or when there is no
/// address.
///
/// # Cancel safety
///
/// Dropping the future ends all attempts.
pub(super) async fn dial<S, F>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(SocketAddr, S)>
where
    F: Future<Output = io::Result<S>>,
{
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut untried = addresses.iter().copied();
    loop {
        if let Some(address) = untried.next() {
            let attempt = connect(address);
            attempts.push(async move { (address, attempt.await) });
        } else if attempts.is_empty() {
            return Err(failure);
        }
        let is_last = untried.len() == 0;
        let head_start = if is_last { Duration::MAX } else { HEAD_START };
        match timeout(head_start, attempts.next()).await {
            Ok(Some((address, Ok(stream)))) => return Ok((address, stream)),
            Ok(Some((address, Err(error)))) => {
                failure = io::Error::new(error.kind(), format!("{address}: {error}"));
            }
            Ok(None) | Err(_) => {}
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::future::pending;

    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::rt::{Clock, Tokio};
    use crate::sync::Mutex;

    /// Addresses that differ by their port, which decides the fate of a connection.
    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        let address = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        ports.iter().map(address).collect()
    }

    const SWALLOWS: u16 = 1;
    const REFUSES: u16 = 2;
    const TAKES: u16 = 3;

    async fn connect(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            SWALLOWS => pending().await,
            REFUSES => Err(io::ErrorKind::ConnectionRefused.into()),
            port => Ok(port),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_connections_does_not_keep_the_others_from_being_tried() {
        for (ports, millis) in [
            (&[TAKES, SWALLOWS][..], 0),
            (&[SWALLOWS, TAKES], 250),
            (&[SWALLOWS, SWALLOWS, REFUSES, TAKES], 500),
            (&[REFUSES, TAKES], 0),
            (&[SWALLOWS, REFUSES, SWALLOWS, TAKES], 500),
        ] {
            let rt = Tokio::current();
            let began = rt.now();
            let dialled = dial(&addresses(ports), connect).await;
            let (address, _) = dialled.expect("one takes it");
            assert_eq!(address.port(), TAKES, "{ports:?}");
            let took = rt.now().saturating_since(began);
            // The runtime's timers have a resolution of a millisecond.
            assert!(took >= Duration::from_millis(millis), "{ports:?}: {took:?}");
            let late = Duration::from_millis(millis + 5);
            assert!(took < late, "{ports:?}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_slow_is_not_given_up_for_one_that_fails() {
        let tried = Mutex::new(Vec::new());
        let connect = |address: SocketAddr| {
            tried.lock().push(address.port());
            async move {
                if address.port() == REFUSES {
                    return connect(address).await;
                }
                let rt = Tokio::current();
                rt.sleep_until(rt.now() + Duration::from_secs(3)).await;
                Ok(address.port())
            }
        };
        let dialled = dial(&addresses(&[TAKES, REFUSES, REFUSES]), connect).await;
        let (address, _) = dialled.expect("one takes it");
        assert_eq!(address.port(), TAKES);
        assert_eq!(*tried.lock(), [TAKES, REFUSES, REFUSES]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_last_address_says_is_told_if_none_takes_a_connection() {
        let refused = dial(&addresses(&[REFUSES, REFUSES]), connect).await;
        let error = refused.expect_err("none takes it");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("127.0.0.1:2: "), "{error}");
        let none = dial(&[], connect).await.expect_err("there is none");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    /// A listener with a full queue, and the connections that fill it.
    async fn full() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("there are descriptors");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("there are free ports");
        let listener = socket.listen(1).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut taken = Vec::new();
        let patience = Duration::from_secs(1);
        while let Ok(stream) = timeout(patience, TcpStream::connect(address)).await {
            taken.push(stream.expect("it listens"));
        }
        (listener, taken)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_real_listener_that_is_full_is_passed_over() {
        let (swallows, _taken) = full().await;
        let takes = TcpListener::bind("127.0.0.1:0").await;
        let takes = takes.expect("there are free ports");
        let address = |of: &TcpListener| of.local_addr().expect("it is bound");
        let both = [address(&swallows), address(&takes)];
        let dialled = dial(&both, TcpStream::connect).await;
        assert_eq!(dialled.expect("one takes it").0, both[1]);
    }
}
