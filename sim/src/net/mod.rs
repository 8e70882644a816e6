//! The network of a run: one server, and zones of clients, each with a link of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::trace::HostClock;

mod simnet;
mod traced;
mod turmoil;

pub use self::simnet::Simnet;
pub use self::traced::{TracedIo, TracedListener};
pub use self::turmoil::Turmoil;

/// A simulated network with the software of its hosts; it alone makes time pass.
pub trait Net {
    /// How clients connect.
    type Dial: Dial;
    /// What the server listens on.
    type Listener: Listener<Addr = SocketAddr>;

    /// Puts the server's software on its host; a host that is started again calls it again.
    fn server<F, Fut>(&mut self, software: F)
    where
        F: Fn(Self::Listener) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static;

    /// Puts the software of all clients of a zone on that zone's host.
    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static;

    /// Does something to the link of a zone.
    fn strike(&mut self, zone: u8, fault: Fault);

    /// Lets a little time pass.
    ///
    /// # Errors
    ///
    /// When the software of a host panicked; the network is of no use then.
    fn step(&mut self) -> Result<(), String>;

    /// The virtual time.
    fn now(&self) -> Duration;

    /// The clock of the host that is running.
    fn host_clock() -> HostClock;
}

/// Connects clients to the server.
pub trait Dial: Clone + 'static {
    /// A connection.
    type Io: Wire + 'static;

    /// A new connection of this client, whose number decides what is drawn for it.
    fn dial(&self, client: u32) -> impl Future<Output = io::Result<Self::Io>>;
}

/// A client's end of a connection.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Resets the connection, where the network can.
    fn reset(self);

    /// Is gone without a trace, and returns what must be kept for that.
    fn vanish(self) -> Option<Self>
    where
        Self: Sized;
}

/// What can be done to the link between a zone and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes, nothing is lost.
    Hold,
    /// Everything is lost.
    Partition,
    /// The end of a hold.
    Release,
    /// The end of a partition.
    Repair,
}
