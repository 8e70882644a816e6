//! The network of the crate turmoil: hosts with runtimes of their own, stepped in turn.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use busline::server::Accept;
use futures::FutureExt;
use futures::future::BoxFuture;
use turmoil::net::{TcpListener, TcpStream};

use super::{Death, Dial, Fault, Net, Wire};
use crate::plan::{Network, Way};
use crate::process::Process;
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
    links: BTreeMap<u8, Link>,
    power: Power,
    latency_least: Duration,
}

/// What is done to a zone's link; turmoil itself knows one thing at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_held: bool,
    cut: Option<Way>,
}

/// Whether the server's machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Off,
    On,
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
        Self {
            sim,
            links: BTreeMap::new(),
            power: Power::On,
            latency_least: Duration::from_millis(network.tick_ms),
        }
    }

    /// Puts a link into the state it should be in.
    fn apply(&self, zone: u8) {
        let link = self.links.get(&zone).copied().unwrap_or_default();
        let zone = zone_name(zone);
        let (sim, zone) = (&self.sim, zone.as_str());
        match (self.power, link.cut, link.is_held) {
            (Power::Off, _, _) | (Power::On, Some(Way::Both), _) => sim.partition(SERVER, zone),
            (Power::On, _, true) => sim.hold(SERVER, zone),
            (Power::On, cut, false) => {
                sim.release(SERVER, zone);
                sim.repair(SERVER, zone);
                match cut {
                    Some(Way::Down) => sim.partition_oneway(SERVER, zone),
                    Some(Way::Up) => sim.partition_oneway(zone, SERVER),
                    Some(Way::Both) | None => {}
                }
            }
        }
    }

    fn set_latency(&self, zone: u8, (least, most): (u64, u64)) {
        let at_least = |ms| Duration::from_millis(ms).max(self.latency_least);
        let zone = zone_name(zone);
        // The first sets both.
        self.sim.set_link_latency(SERVER, &*zone, at_least(least));
        let most = at_least(most.max(least));
        self.sim.set_link_max_message_latency(SERVER, &*zone, most);
    }
}

fn zone_name(zone: u8) -> String {
    format!("zone-{zone}")
}

impl Net for Turmoil {
    type Dial = TurmoilDial;
    type Accept = TurmoilAccept;

    fn server<F, Fut>(&mut self, software: F) -> Result<(), String>
    where
        F: Fn(Self::Accept) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.sim.host(SERVER, move || {
            let software = software.clone();
            async move {
                let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
                software(TurmoilAccept::new(listener)).await;
                Ok(())
            }
        });
        Ok(())
    }

    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.links.insert(zone, Link::default());
        self.sim.client(zone_name(zone), async {
            clients(TurmoilDial).await;
            Ok(())
        });
    }

    fn strike(&mut self, zone: u8, fault: Fault) {
        let link = self.links.entry(zone).or_default();
        match fault {
            // Its links are as fast as their latency.
            Fault::Bandwidth(_) => return,
            Fault::Hold => link.is_held = true,
            Fault::Latency(least, most) => return self.set_latency(zone, (least, most)),
            Fault::Partition(way) => link.cut = Some(way),
            Fault::Release => link.is_held = false,
            Fault::Repair => link.cut = None,
        }
        self.apply(zone);
    }

    fn crash(&mut self, death: Death, _: &Process) {
        if death == Death::PowerLoss {
            self.power = Power::Off;
            let zones: Vec<u8> = self.links.keys().copied().collect();
            zones.into_iter().for_each(|zone| self.apply(zone));
        }
        self.sim.crash(SERVER);
    }

    fn bounce(&mut self) -> Result<(), String> {
        self.power = Power::On;
        let zones: Vec<u8> = self.links.keys().copied().collect();
        zones.into_iter().for_each(|zone| self.apply(zone));
        self.sim.bounce(SERVER);
        Ok(())
    }

    /// One tick, whatever the time.
    fn step(&mut self, _: Duration) -> Result<(), String> {
        self.sim
            .step()
            .map(drop)
            .map_err(|error| format!("a host failed: {error}"))
    }

    // A step is a tick.
    fn at_rest(&mut self, _: impl Fn() + Send + Sync + 'static) {}

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
pub struct TurmoilAccept {
    listener: Arc<TcpListener>,
    /// Its listener knows no polling.
    accepting: Option<Accepting>,
}

type Accepting = BoxFuture<'static, io::Result<(TcpStream, SocketAddr)>>;

impl TurmoilAccept {
    fn new(listener: TcpListener) -> Self {
        Self {
            listener: Arc::new(listener),
            accepting: None,
        }
    }
}

impl Accept for TurmoilAccept {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepting = self.accepting.get_or_insert_with(|| {
            let listener = Arc::clone(&self.listener);
            async move { listener.accept().await }.boxed()
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        Poll::Ready(accepted)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
