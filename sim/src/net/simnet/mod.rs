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

use std::cell::Cell;
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

use super::{Death, Dial, Fault, Net, Wire};
use crate::entropy;
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

thread_local! {
    /// When the network of this thread began.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The virtual time of this thread's network: it stands but while the runtime is parked.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The virtual time of this thread's network.
fn elapsed() -> Duration {
    NOW.get()
}

/// Takes the time from the runtime, which has let some pass.
fn take_time() {
    if let Some(start) = START.get() {
        #[expect(clippy::disallowed_methods, reason = "tokio's clock is paused")]
        let now = Instant::now() - start;
        NOW.set(now);
        entropy::pass(now);
    }
}

/// A network in one paused runtime.
pub struct Simnet {
    runtime: Runtime,
    tasks: LocalSet,
    world: Shared<World>,
    launch: Launch,
    look: Look,
}

/// Starts the server's software.
type Launch = Box<dyn Fn(&LocalSet, SimAccept)>;

/// What is called when everything is at rest.
type Look = Shared<Option<Box<dyn Fn() + Send>>>;

impl Simnet {
    /// A network without hosts.
    ///
    /// # Panics
    ///
    /// When there is no runtime to be had.
    pub fn new(seed: u64, network: &Network, tcp: &Tcp) -> Self {
        let look = Look::default();
        let looking = look.clone();
        let look_around = move || looking.with(|look| look.iter().for_each(|look| look()));
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(look_around)
            .on_thread_unpark(take_time)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        #[expect(clippy::disallowed_methods, reason = "tokio's clock is paused")]
        let start = runtime.block_on(async { Instant::now() });
        START.set(Some(start));
        NOW.set(Duration::ZERO);
        let world = Shared::new(World::new(seed, network, tcp));
        let tasks = LocalSet::new();
        tasks.spawn_local(drive(world.clone(), start));
        Self {
            runtime,
            tasks,
            world,
            launch: Box::new(|_, _| {}),
            look,
        }
    }
}

impl Drop for Simnet {
    fn drop(&mut self) {
        // The runtime keeps what looks around, and that may keep a handle of the runtime: neither
        // would ever be gone.
        drop(self.look.with(Option::take));
    }
}

/// Delivers what is under way at its time.
async fn drive(world: Shared<World>, start: Instant) {
    let mut timer = Box::pin(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let now = elapsed();
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
        touch(&self.world, |world| world.listen(elapsed()));
        let world = self.world.clone();
        (self.launch)(&self.tasks, SimAccept { world });
        Ok(())
    }

    fn step(&mut self, until: Duration) -> Result<(), String> {
        if let Some(start) = START.get() {
            let passing = async move { sleep_until(start + until).await };
            self.tasks.block_on(&self.runtime, passing);
        }
        Ok(())
    }

    fn at_rest(&mut self, look: impl Fn() + Send + Sync + 'static) {
        self.look.with(|place| *place = Some(Box::new(look)));
    }

    fn now(&self) -> Duration {
        elapsed()
    }

    fn host_clock() -> HostClock {
        || Some(elapsed())
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
        let now = elapsed();
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
    type Addr = SocketAddr;

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
        touch(&self.world, |world| world.unlisten(elapsed()));
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
        touch(&self.world, |world| visit(world, elapsed()))
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
