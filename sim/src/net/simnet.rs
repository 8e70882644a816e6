//! Our own network: event-driven, exact to the byte, all of a run in one tokio runtime.
//!
//! ```text
//!   write -> send buffer -> segments -> receive buffer -> read
//!            of N bytes     latency,    of M bytes, sent into only as far
//!                           bandwidth   as the reader has told there is room
//! ```
//!
//! Nothing is lost and sent again: what would be late by a retransmission is a hold, what would
//! never arrive is a partition or a peer that vanished, which is for ever.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use busline::server::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::{begin, elapsed};
use super::{Death, Dial, Fault, Net, Wire};
use crate::plan::Network;
use crate::process::Process;
use crate::shared::Shared;
use crate::trace::HostClock;
use crate::wild::Tcp;

mod link;
mod pipe;
mod world;

use self::world::{Side, World};

/// The port of the server, which its address shows.
const PORT: u16 = 8080;

/// A network in one paused runtime.
pub struct Simnet {
    runtime: Runtime,
    tasks: LocalSet,
    world: Shared<World>,
    launch: Launch,
    now: Duration,
    tick: Duration,
}

/// Starts the server's software.
type Launch = Box<dyn Fn(&LocalSet, SimAccept)>;

impl Simnet {
    /// A network without hosts.
    ///
    /// # Panics
    ///
    /// When there is no runtime to be had.
    pub fn new(seed: u64, network: &Network, tcp: &Tcp) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        let start = begin(&runtime);
        let world = Shared::new(World::new(seed, network, tcp));
        let tasks = LocalSet::new();
        tasks.spawn_local(drive(world.clone(), start));
        Self {
            runtime,
            tasks,
            world,
            launch: Box::new(|_, _| {}),
            now: Duration::ZERO,
            tick: Duration::from_millis(network.tick_ms),
        }
    }
}

/// Delivers what is under way at its time.
async fn drive(world: Shared<World>, start: Instant) {
    let mut timer = Box::pin(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let now = elapsed().unwrap_or_default();
            let Some(next) = touch(&world, |world| world.deliver(now, cx.waker())) else {
                return Poll::<()>::Pending;
            };
            timer.set(sleep_until(start + next));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Does something in the world, and wakes whom it concerns when that is done.
fn touch<T>(world: &Shared<World>, visit: impl FnOnce(&mut World) -> T) -> T {
    let (out, [wakes, replaced]) = world.with(|world| (visit(world), world.take_wakes()));
    for waker in wakes {
        waker.wake();
    }
    drop(replaced);
    out
}

impl Net for Simnet {
    type Dial = SimDial;
    type Accept = SimAccept;

    fn server<F, Fut>(&mut self, software: F) -> Result<(), String>
    where
        F: Fn(Self::Accept) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.launch = Box::new(move |tasks, accept| {
            let software = software.clone();
            tasks.spawn_local(async move { software(accept).await });
        });
        self.bounce()
    }

    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let world = self.world.clone();
        let dial = SimDial { world, zone };
        self.tasks.spawn_local(async move { clients(dial).await });
    }

    fn strike(&mut self, zone: u8, fault: Fault) {
        touch(&self.world, |world| world.strike(zone, fault));
    }

    fn crash(&mut self, death: Death, process: &Process) {
        if death == Death::PowerLoss {
            self.world.with(World::darken);
        }
        // What is dropped asks for the time.
        let _inside = self.runtime.enter();
        drop(process.kill());
    }

    fn bounce(&mut self) -> Result<(), String> {
        let _inside = self.runtime.enter();
        let now = self.now;
        touch(&self.world, |world| world.listen(now));
        let world = self.world.clone();
        (self.launch)(&self.tasks, SimAccept { world });
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let tick = self.tick;
        self.tasks
            .block_on(&self.runtime, async move { sleep(tick).await });
        self.now += tick;
        Ok(())
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn host_clock() -> HostClock {
        elapsed
    }
}

/// Connects from a zone.
#[derive(Clone)]
pub struct SimDial {
    world: Shared<World>,
    zone: u8,
}

impl Dial for SimDial {
    type Io = SimIo;

    async fn dial(&self, client: u32) -> io::Result<SimIo> {
        let now = elapsed().unwrap_or_default();
        let zone = self.zone;
        let conn = touch(&self.world, |world| world.dial(now, zone, client));
        let io = SimIo {
            world: self.world.clone(),
            conn,
            side: Side::Client,
        };
        poll_fn(|cx| touch(&io.world, |world| world.poll_connected(cx, conn))).await?;
        Ok(io)
    }
}

/// Accepts the connections of all zones.
pub struct SimAccept {
    world: Shared<World>,
}

impl Accept for SimAccept {
    type Io = SimIo;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(SimIo, SocketAddr)>> {
        let world = &self.world;
        let (conn, zone) = ready!(touch(world, |world| world.poll_accept(cx)));
        let io = SimIo {
            world: world.clone(),
            conn,
            side: Side::Server,
        };
        let port = 1024 + u16::try_from(conn % 60_000).unwrap_or(0);
        Poll::Ready(Ok((io, SocketAddr::from(([192, 168, 0, zone], port)))))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([192, 168, 1, 1], PORT)))
    }
}

impl Drop for SimAccept {
    fn drop(&mut self) {
        let now = elapsed().unwrap_or_default();
        touch(&self.world, |world| world.unlisten(now));
    }
}

/// One end of a connection.
pub struct SimIo {
    world: Shared<World>,
    conn: usize,
    side: Side,
}

impl SimIo {
    fn touch<T>(&self, visit: impl FnOnce(&mut World, Duration) -> T) -> T {
        let now = elapsed().unwrap_or_default();
        touch(&self.world, |world| visit(world, now))
    }
}

impl Wire for SimIo {
    fn reset(self) {
        self.touch(|world, now| world.reset(now, self.conn, self.side));
    }

    fn vanish(self) -> Option<Self> {
        self.touch(|world, _| world.vanish(self.conn));
        None
    }
}

impl AsyncRead for SimIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (conn, side) = (self.conn, self.side);
        self.touch(|world, now| world.poll_read(cx, now, (conn, side), buffer))
    }
}

impl AsyncWrite for SimIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (conn, side) = (self.conn, self.side);
        self.touch(|world, now| world.poll_write(cx, now, (conn, side), bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.touch(|world, now| world.finish(now, self.conn, self.side));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        self.touch(|world, now| world.close(now, self.conn, self.side));
    }
}

#[cfg(test)]
mod tests;
