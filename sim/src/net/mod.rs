//! The network of a run: one server, and zones of clients, each with a link of its own.
//!
//! What is done to a network, and what each makes of it:
//!
//! | | simnet | turmoil | loopback |
//! |---|---|---|---|
//! | hold, release | as it is | as it is | clients neither read nor write |
//! | partition | what passes is lost, the connection too | the same | at the client's end |
//! | one way | as it is | as it is | at the client's end |
//! | latency | as it is | at least a tick | that of the machine |
//! | bandwidth, buffers, short reads | as it is | none | those of the kernel |
//! | reset | as it is | an end, unless something is unread | as it is |
//! | vanish | says nothing more | neither reads nor writes | neither reads nor writes |
//! | crash, bounce | as it is | as it is | as it is, but the process stays |
//! | power loss | as it is | a partition, then a crash | it stands still up to the bounce |

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use busline::server::Accept;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::plan::Way;
use crate::process::Process;
use crate::trace::HostClock;

mod clock;
mod exhausted;
mod loopback;
mod simnet;
mod traced;
mod turmoil;

pub(crate) use self::exhausted::{Descriptors, Exhausted};
pub use self::loopback::Loopback;
pub use self::simnet::Simnet;
pub use self::traced::{TracedIo, TracedListener};
pub use self::turmoil::Turmoil;

/// A network with the software of its hosts; it alone makes time pass.
pub trait Net {
    /// How clients connect.
    type Dial: Dial;
    /// What the server listens on.
    type Accept: Accept<Addr = SocketAddr>;

    /// Puts the server's software on its host; a host that is started again calls it again.
    ///
    /// # Errors
    ///
    /// When there is nothing to listen on.
    fn server<F, Fut>(&mut self, software: F) -> Result<(), String>
    where
        F: Fn(Self::Accept) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static;

    /// Puts the software of all clients of a zone on that zone's host.
    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static;

    /// Does something to the link of a zone.
    fn strike(&mut self, zone: u8, fault: Fault);

    /// The server's process is gone.
    fn crash(&mut self, death: Death, process: &Process);

    /// Starts the server again that has crashed, on the same address.
    ///
    /// # Errors
    ///
    /// When there is nothing to listen on.
    fn bounce(&mut self) -> Result<(), String>;

    /// Lets time pass, at most to this time.
    ///
    /// # Errors
    ///
    /// When the software of a host panicked; the network is of no use then.
    fn step(&mut self, until: Duration) -> Result<(), String>;

    /// Calls `look` whenever all that is due at one time was done, before time passes on.
    ///
    /// A network of ticks need not: it is looked at after every step.
    fn at_rest(&mut self, look: impl Fn() + Send + Sync + 'static);

    /// The time of the run.
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
    /// It sends this many bytes a second in each direction.
    Bandwidth(Option<u64>),
    /// Nothing passes, nothing is lost.
    Hold,
    /// One direction takes this many milliseconds, at least and at most.
    Latency(u64, u64),
    /// Everything is lost.
    Partition(Way),
    /// The end of a hold.
    Release,
    /// The end of a partition.
    Repair,
}

/// How a server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is gone, and its system ends the connections.
    Crash,
    /// The machine is dark, and says nothing.
    PowerLoss,
}
