//! A listening TCP socket, and the address families it accepts.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

/// Length of the queue of connections to accept; the operating system may allow less.
pub(super) const BACKLOG: u32 = 1024;

/// The queue of connections that wait to be accepted by the threads of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Each thread has a queue of its own; the kernel distributes connections over them
    /// (`SO_REUSEPORT`).
    #[cfg(target_os = "linux")]
    Each,
    /// All threads share one queue.
    One,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Whether the IPv6 wildcard, which by default includes IPv4, leaves IPv4 to another socket. If
    /// `false`, the system's default applies.
    leaves_v4: bool,
}

impl Endpoint {
    /// The endpoint of `address`, when sockets for `all` addresses listen at the same time.
    pub(super) fn among(address: SocketAddr, all: &[SocketAddr]) -> Self {
        let is_wildcard = address.is_ipv6() && address.ip().is_unspecified();
        let of_v4 = |other: &SocketAddr| {
            other.port() == address.port() && other.ip().to_canonical().is_ipv4()
        };
        Self {
            address,
            leaves_v4: is_wildcard && all.iter().any(of_v4),
        }
    }

    /// The endpoint of a listening socket.
    #[cfg(target_os = "linux")]
    pub(super) fn of(listener: &TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let leaves_v4 = address.is_ipv6() && SockRef::from(listener).only_v6()?;
        Ok(Self { address, leaves_v4 })
    }

    /// Listens, as the only socket or beside other threads.
    pub(super) fn listen(self, queue: Queue) -> io::Result<TcpListener> {
        let alone = self.listening(Sharing::Alone)?;
        match queue {
            Queue::One => Ok(alone),
            // Binding without `SO_REUSEPORT` first detects another program on the address.
            #[cfg(target_os = "linux")]
            Queue::Each => {
                let address = alone.local_addr()?;
                drop(alone);
                Self { address, ..self }.listen_beside()
            }
        }
    }

    /// Listens beside the other threads of this server; the kernel distributes connections over
    /// them.
    #[cfg(target_os = "linux")]
    pub(super) fn listen_beside(self) -> io::Result<TcpListener> {
        self.listening(Sharing::Beside)
    }

    fn listening(self, sharing: Sharing) -> io::Result<TcpListener> {
        let socket = if self.address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if self.leaves_v4 {
            SockRef::from(&socket).set_only_v6(true)?;
        }
        // On other systems the option would let two programs listen on one address.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        match sharing {
            Sharing::Alone => {}
            #[cfg(target_os = "linux")]
            Sharing::Beside => socket.set_reuseport(true)?,
        }
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

/// Whether other sockets may listen on the same address.
#[derive(Clone, Copy, Debug)]
enum Sharing {
    Alone,
    #[cfg(target_os = "linux")]
    Beside,
}

/// Whether the operating system refuses sockets on both of these addresses; an IPv6 wildcard is
/// assumed to leave IPv4 to the other address.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let [first, second] = [one, other].map(|address| address.ip().to_canonical());
    let is_any = first.is_unspecified() || second.is_unspecified();
    one.port() == other.port() && first.is_ipv4() == second.is_ipv4() && (first == second || is_any)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_wildcard_of_ipv6_leaves_ipv4_to_those_listed_beside_it_and_else_takes_it() {
        for (all, leaves) in [
            (&["[::]:1"][..], false),
            (&["[::]:1", "0.0.0.0:1"], true),
            (&["0.0.0.0:1", "[::]:1"], true),
            (&["[::]:1", "127.0.0.1:1"], true),
            (&["[::]:1", "[::ffff:127.0.0.1]:1"], true),
            (&["[::]:1", "0.0.0.0:2"], false),
            (&["[::]:1", "[::1]:1"], false),
        ] {
            let all: Vec<_> = all.iter().copied().map(address).collect();
            let endpoint = Endpoint::among(address("[::]:1"), &all);
            assert_eq!(endpoint.leaves_v4, leaves, "{all:?}");
        }
    }

    #[test]
    fn no_other_address_is_told_to_leave_ipv4() {
        // A mapped address could not be bound to an IPv6-only socket.
        for text in ["0.0.0.0:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let all = [address(text), address("0.0.0.0:1")];
            assert!(!Endpoint::among(address(text), &all).leaves_v4, "{text}");
        }
    }

    #[test]
    fn addresses_overlap_where_one_takes_the_other_in() {
        for (one, other, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", "[::]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "0.0.0.0:2", false),
        ] {
            let (one, other) = (address(one), address(other));
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
