//! The addresses of connections, as listeners report them.

use std::net::SocketAddr;

/// The address of the other end of a connection.
pub trait PeerAddress: Send + 'static {
    /// The IP address and port; `None` for a peer without an IP address.
    fn socket_address(&self) -> Option<SocketAddr>;
}

impl PeerAddress for SocketAddr {
    fn socket_address(&self) -> Option<SocketAddr> {
        Some(*self)
    }
}

impl PeerAddress for Option<SocketAddr> {
    fn socket_address(&self) -> Option<SocketAddr> {
        *self
    }
}

#[cfg(unix)]
impl PeerAddress for tokio::net::unix::SocketAddr {
    fn socket_address(&self) -> Option<SocketAddr> {
        None
    }
}
