//! The network of the crate turmoil: hosts with runtimes of their own, stepped in turn.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use turmoil::net::{TcpListener, TcpStream};

use super::{Dial, Fault, Net, Wire};
use crate::plan::Network;
use crate::trace::HostClock;

const SERVER: &str = "server";
const PORT: u16 = 8080;

/// Segments in flight on a stream, and connections that wait to be accepted; turmoil panics when
/// more clients than this connect in one tick.
const TCP_CAPACITY: usize = 8192;

/// A simulation of the crate turmoil.
///
/// Its time comes in ticks, its links carry segments of any size, each with a latency of its own,
/// and what a partition drops is never sent again: a connection that meets one is dead for ever.
pub struct Turmoil {
    sim: turmoil::Sim<'static>,
}

impl Turmoil {
    /// A network without hosts.
    pub fn new(seed: u64, network: &Network) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .tick_duration(Duration::from_millis(network.tick_ms))
            .min_message_latency(Duration::from_millis(network.latency_ms_min))
            .max_message_latency(Duration::from_millis(network.latency_ms_max))
            .simulation_duration(Duration::MAX)
            .tcp_capacity(TCP_CAPACITY)
            .ephemeral_ports(1024..=65535)
            .build();
        Self { sim }
    }
}

fn zone_name(zone: u8) -> String {
    format!("zone-{zone}")
}

impl Net for Turmoil {
    type Dial = TurmoilDial;
    type Listener = TurmoilListener;

    fn server<F, Fut>(&mut self, software: F)
    where
        F: Fn(Self::Listener) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.sim.host(SERVER, move || {
            let software = software.clone();
            async move {
                let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
                software(TurmoilListener(listener)).await;
                Ok(())
            }
        });
    }

    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.sim.client(zone_name(zone), async {
            clients(TurmoilDial).await;
            Ok(())
        });
    }

    fn strike(&mut self, zone: u8, fault: Fault) {
        let zone = zone_name(zone);
        match fault {
            Fault::Hold => self.sim.hold(SERVER, zone),
            Fault::Partition => self.sim.partition(SERVER, zone),
            Fault::Release => self.sim.release(SERVER, zone),
            Fault::Repair => self.sim.repair(SERVER, zone),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim
            .step()
            .map(drop)
            .map_err(|error| format!("a host failed: {error}"))
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn host_clock() -> HostClock {
        turmoil::sim_elapsed
    }
}

/// Connects over turmoil.
#[derive(Clone, Copy, Debug)]
pub struct TurmoilDial;

impl Dial for TurmoilDial {
    type Io = TcpStream;

    async fn dial(&self, _: u32) -> io::Result<TcpStream> {
        TcpStream::connect((SERVER, PORT)).await
    }
}

impl Wire for TcpStream {
    // turmoil resets a stream that is dropped with bytes unread, and ends any other.
    fn reset(self) {}

    // A peer that neither reads nor writes is the nearest there is.
    fn vanish(self) -> Option<Self> {
        Some(self)
    }
}

/// Listens on turmoil.
pub struct TurmoilListener(TcpListener);

impl Listener for TurmoilListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
