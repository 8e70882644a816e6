//! The route of a connection: over loopback, from another machine, or through a Unix socket.

use std::any::Any;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::stream::Stream;

/// The route of a connection; stored as an extension of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkPath {
    /// To an address that other machines can reach.
    Elsewhere,
    /// Through the file of a Unix socket, which no page can reach.
    File,
    /// To a loopback address, whatever address the listener has.
    Loopback,
    /// Unknown: the accept loop reports no addresses.
    Unknown,
}

/// The addresses that an accept loop knows of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The listener's address, which may be a wildcard.
    pub(super) listener: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
}

impl NetworkPath {
    /// The route of an accepted stream.
    ///
    /// The local address decides for a known type of stream. For any other type the listener's
    /// address decides, or else the peer's: a connection from loopback goes to loopback.
    pub(super) fn of<Io: 'static>(io: &Io, ends: Ends) -> Self {
        let io: &dyn Any = io;
        if let Some(stream) = io.downcast_ref::<Stream>() {
            return stream.local_addr().map_or(Self::File, Self::at);
        }
        if let Some(stream) = io.downcast_ref::<TcpStream>() {
            return Self::at(stream.local_addr());
        }
        #[cfg(unix)]
        if io.is::<UnixStream>() {
            return Self::File;
        }
        let listener = ends.listener.filter(|own| !own.ip().is_unspecified());
        listener.or(ends.peer).map_or(Self::Unknown, Self::to)
    }

    /// An unknown local address counts as loopback, for which the rules are stricter.
    fn at(local: io::Result<SocketAddr>) -> Self {
        local.map_or(Self::Loopback, Self::to)
    }

    fn to(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Elsewhere
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::net::TcpListener;

    use super::*;

    fn ends(listener: Option<&str>, peer: Option<&str>) -> Ends {
        let address = |text: &str| text.parse().expect("an address");
        Ends {
            listener: listener.map(address),
            peer: peer.map(address),
        }
    }

    #[test]
    fn of_an_unknown_stream_the_listener_tells_it_and_else_the_peer() {
        let (io, _other): (DuplexStream, _) = tokio::io::duplex(1);
        for (listener, peer, network_path) in [
            (
                Some("127.0.0.1:1"),
                Some("10.0.0.1:2"),
                NetworkPath::Loopback,
            ),
            (Some("[::1]:1"), None, NetworkPath::Loopback),
            (
                Some("10.0.0.7:1"),
                Some("10.0.0.1:2"),
                NetworkPath::Elsewhere,
            ),
            (
                Some("0.0.0.0:1"),
                Some("127.0.0.1:2"),
                NetworkPath::Loopback,
            ),
            (
                Some("[::]:1"),
                Some("[::ffff:127.0.0.1]:2"),
                NetworkPath::Loopback,
            ),
            (
                Some("0.0.0.0:1"),
                Some("10.0.0.1:2"),
                NetworkPath::Elsewhere,
            ),
            (None, Some("[::1]:2"), NetworkPath::Loopback),
            (Some("0.0.0.0:1"), None, NetworkPath::Unknown),
            (None, None, NetworkPath::Unknown),
        ] {
            assert_eq!(
                NetworkPath::of(&io, ends(listener, peer)),
                network_path,
                "{listener:?} {peer:?}"
            );
        }
    }

    /// The listener's address is a wildcard, and the peer's may belong to another machine.
    #[tokio::test]
    async fn a_socket_tells_its_own_address_whatever_is_listened_on() {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let other = ends(Some("0.0.0.0:1"), Some("10.0.0.1:2"));
        let connect = TcpStream::connect(("127.0.0.1", port));
        let (accepted, _peer) = futures::join!(listener.accept(), connect);
        let (accepted, _) = accepted.expect("it is connected");
        assert_eq!(NetworkPath::of(&accepted, other), NetworkPath::Loopback);
        assert_eq!(
            NetworkPath::of(&Stream::Tcp(accepted), other),
            NetworkPath::Loopback
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_socket_is_a_file_whatever_else_is_known() {
        let (a, _b) = UnixStream::pair().expect("there are sockets");
        let loopback = ends(Some("127.0.0.1:1"), Some("127.0.0.1:2"));
        assert_eq!(NetworkPath::of(&a, loopback), NetworkPath::File);
        assert_eq!(
            NetworkPath::of(&Stream::Unix(a), loopback),
            NetworkPath::File
        );
    }
}
