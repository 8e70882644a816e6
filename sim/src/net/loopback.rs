//! Real sockets on the loopback interface, in real time: the kernel's TCP below the same plans.
//!
//! Nothing here repeats itself. Faults are made at the client's end of a socket: the kernel of this
//! machine delivers whatever it is given, at once, through buffers of its own size.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use super::clock::{begin, elapsed};
use super::{Death, Dial, Fault, Net, Wire};
use crate::plan::{Network, Way};
use crate::process::{Corpse, Process};
use crate::trace::HostClock;

/// One runtime with real sockets and the real clock.
pub struct Loopback {
    // First, so that all sockets are closed before what keeps some of them open.
    tasks: LocalSet,
    runtime: Runtime,
    links: BTreeMap<u8, Rc<RefCell<Link>>>,
    address: SocketAddr,
    launch: Launch,
    /// A server without power: it stands still, and its sockets are open.
    dark: Option<Corpse>,
    start: Instant,
    now: Duration,
    tick: Duration,
}

/// Starts the server's software.
type Launch = Box<dyn Fn(&LocalSet, TcpListener)>;

/// What is done to a zone's link.
#[derive(Default)]
struct Link {
    is_held: bool,
    cut: Option<Way>,
    /// Who waits for the release.
    wakers: Vec<Waker>,
    /// Dropped while the link was held, to be closed at the release.
    late: Vec<TcpStream>,
    /// Dropped on a link that lost what they sent, and so never closed.
    lost: Vec<TcpStream>,
}

impl Link {
    fn loses(&self, way: Way) -> bool {
        self.cut.is_some_and(|cut| cut == Way::Both || cut == way)
    }

    fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_held {
            self.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Loopback {
    /// A network without hosts.
    ///
    /// # Errors
    ///
    /// When the system has no runtime for it.
    pub fn new(network: &Network) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let start = begin(&runtime);
        let link = |zone| (zone, Rc::default());
        Ok(Self {
            tasks: LocalSet::new(),
            runtime,
            links: (0..network.zones).map(link).collect(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            launch: Box::new(|_, _| {}),
            dark: None,
            start,
            now: Duration::ZERO,
            tick: Duration::from_millis(network.tick_ms),
        })
    }

    fn link(&mut self, zone: u8) -> &Rc<RefCell<Link>> {
        self.links.entry(zone).or_default()
    }
}

impl Net for Loopback {
    type Dial = LoopbackDial;
    type Accept = TcpListener;

    fn server<F, Fut>(&mut self, software: F) -> Result<(), String>
    where
        F: Fn(Self::Accept) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.launch = Box::new(move |tasks, listener| {
            let software = software.clone();
            tasks.spawn_local(async move { software(listener).await });
        });
        self.bounce()
    }

    fn zone<F, Fut>(&mut self, zone: u8, clients: F)
    where
        F: FnOnce(Self::Dial) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let dial = LoopbackDial {
            address: self.address,
            link: Rc::clone(self.link(zone)),
        };
        self.tasks.spawn_local(async move { clients(dial).await });
    }

    fn strike(&mut self, zone: u8, fault: Fault) {
        let mut link = self.link(zone).borrow_mut();
        let mut released = (Vec::new(), Vec::new());
        match fault {
            // Those of the loopback interface.
            Fault::Bandwidth(_) | Fault::Latency(..) => {}
            Fault::Hold => link.is_held = true,
            Fault::Partition(way) => link.cut = Some(way),
            Fault::Release => {
                link.is_held = false;
                released = (
                    std::mem::take(&mut link.wakers),
                    std::mem::take(&mut link.late),
                );
            }
            Fault::Repair => link.cut = None,
        }
        drop(link);
        released.0.into_iter().for_each(Waker::wake);
        drop(released.1);
    }

    fn crash(&mut self, death: Death, process: &Process) {
        let _inside = self.runtime.enter();
        let corpse = process.kill();
        match death {
            Death::Crash => drop(corpse),
            Death::PowerLoss => self.dark = Some(corpse),
        }
    }

    fn bounce(&mut self) -> Result<(), String> {
        let inside = self.runtime.enter();
        drop(self.dark.take());
        drop(inside);
        let bound = self.runtime.block_on(TcpListener::bind(self.address));
        let listening = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = listening.map_err(|error| format!("no listener: {error}"))?;
        self.address = address;
        (self.launch)(&self.tasks, listener);
        Ok(())
    }

    /// One tick, whatever the time.
    fn step(&mut self, _: Duration) -> Result<(), String> {
        let next = self.start + self.now + self.tick;
        let sleep = async move { sleep_until(next).await };
        self.tasks.block_on(&self.runtime, sleep);
        self.now += self.tick;
        Ok(())
    }

    // A step is a tick.
    fn at_rest(&mut self, _: impl Fn() + Send + Sync + 'static) {}

    fn now(&self) -> Duration {
        self.now
    }

    fn host_clock() -> HostClock {
        elapsed
    }
}

/// Connects from a zone.
#[derive(Clone)]
pub struct LoopbackDial {
    address: SocketAddr,
    link: Rc<RefCell<Link>>,
}

impl Dial for LoopbackDial {
    type Io = LoopbackIo;

    async fn dial(&self, _: u32) -> io::Result<LoopbackIo> {
        poll_fn(|cx| self.link.borrow_mut().poll_released(cx)).await;
        if self.link.borrow().cut.is_some() {
            // What is sent to connect is lost, or the answer to it is.
            std::future::pending::<()>().await;
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(LoopbackIo {
            stream: Some(stream),
            link: Rc::clone(&self.link),
            hears: Use::Alive,
            says: Use::Alive,
        })
    }
}

/// A client's end of a real connection.
pub struct LoopbackIo {
    /// `None` once it is closed.
    stream: Option<TcpStream>,
    link: Rc<RefCell<Link>>,
    hears: Use,
    says: Use,
}

/// Whether a direction of a connection has lost something, and is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Alive,
    Dead,
}

impl LoopbackIo {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(closed)
    }

    /// Whether what is sent now is lost, and everything after it.
    fn is_lost(&mut self) -> bool {
        if self.link.borrow().loses(Way::Up) {
            self.says = Use::Dead;
        }
        self.says == Use::Dead
    }
}

impl Wire for LoopbackIo {
    fn reset(mut self) {
        if let Some(stream) = &self.stream
            && let Err(error) = stream.set_zero_linger()
        {
            // Then it ends in another way.
            drop(error);
        }
        self.is_lost();
    }

    fn vanish(self) -> Option<Self> {
        Some(self)
    }
}

impl AsyncRead for LoopbackIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.link.borrow_mut().poll_released(cx));
        if self.hears == Use::Dead {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = ready!(self.stream()?.poll_read(cx, buffer));
        if self.link.borrow().loses(Way::Down) {
            self.hears = Use::Dead;
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for LoopbackIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.link.borrow_mut().poll_released(cx));
        if self.is_lost() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.link.borrow_mut().poll_released(cx));
        if self.is_lost() {
            return Poll::Ready(Ok(()));
        }
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for LoopbackIo {
    fn drop(&mut self) {
        let is_lost = self.is_lost();
        let mut link = self.link.borrow_mut();
        if is_lost {
            link.lost.extend(self.stream.take());
        } else if link.is_held {
            link.late.extend(self.stream.take());
        }
    }
}
