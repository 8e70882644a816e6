//! The event loop of a thread: its sockets report readiness, and its tasks run.

use std::io;
use std::task::Context;

use super::executor::{Executor, Spawner};
#[cfg(target_os = "linux")]
use super::reactor::{Reactor, Sources};

/// The number of times that an iteration asks epoll before the thread does anything else.
#[cfg(target_os = "linux")]
const EPOLL_CALLS_MAX: usize = 8;

/// The number of sockets ready at once from which more are likely to be ready after their tasks
/// have run.
#[cfg(target_os = "linux")]
const MANY: usize = 2;

/// The tasks of a thread, and the reactor of its sockets.
pub(super) struct EventLoop {
    executor: Executor,
    #[cfg(target_os = "linux")]
    reactor: Reactor,
}

impl EventLoop {
    /// Makes an event loop; on Linux the caller's runtime watches the reactor.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            executor: Executor::new(),
            #[cfg(target_os = "linux")]
            reactor: Reactor::new()?,
        })
    }

    pub(super) fn spawner(&self) -> Spawner {
        self.executor.spawner()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn sources(&self) -> &std::sync::Arc<Sources> {
        self.reactor.sources()
    }

    /// Runs an iteration; the task is woken when there is more to do.
    #[cfg(target_os = "linux")]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let mut events = self.collect_wakes(|reactor| reactor.poll(cx));
        for _ in 1..EPOLL_CALLS_MAX {
            // With many sockets ready, more may be by now: asking epoll directly spares a pass
            // through tokio.
            if self.executor.run_ready(cx).is_pending() || events < MANY {
                return;
            }
            events = self.collect_wakes(|reactor| reactor.poll_epoll(cx));
        }
        let _is_woken = self.executor.run_ready(cx);
    }

    /// Collects the tasks whose sockets are ready; returns the number of these sockets.
    #[cfg(target_os = "linux")]
    fn collect_wakes(&mut self, poll: impl FnOnce(&mut Reactor) -> usize) -> usize {
        self.executor.collect_wakes(|| poll(&mut self.reactor))
    }

    /// Runs an iteration; the task is woken when there is more to do.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let _is_woken = self.executor.run_ready(cx);
    }
}

#[cfg(all(test, target_os = "linux", not(feature = "loom")))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    use super::*;
    use crate::rt::{self, Spawn, Tokio};

    /// The bytes sent back and forth between two sockets; the test never reaches their end.
    const BYTES: usize = 200_000;

    async fn bounce(mut stream: rt::TcpStream, count: Arc<AtomicUsize>) {
        while let Ok(byte) = stream.read_u8().await {
            if count.fetch_add(1, Ordering::Relaxed) >= BYTES
                || stream.write_u8(byte).await.is_err()
            {
                return;
            }
        }
    }

    #[tokio::test]
    async fn all_else_goes_on_while_sockets_always_have_something_to_tell() {
        Tokio::start_worker().expect("there are descriptors");
        let (rt, sources) = (
            Tokio::current(),
            rt::sources().expect("the thread is a worker"),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 * MANY {
            let there = TcpStream::connect(listener.local_addr().unwrap());
            let (here, there) = futures::join!(listener.accept(), there);
            let mut there = there.unwrap();
            there.write_u8(0).await.unwrap();
            for stream in [here.unwrap().0, there] {
                let stream = rt::TcpStream::new(stream, &sources).unwrap();
                rt.spawn(Box::pin(bounce(stream, Arc::clone(&count))));
            }
        }
        for _ in 0..100 {
            let before = count.load(Ordering::Relaxed);
            while count.load(Ordering::Relaxed) == before {
                yield_now().await;
            }
        }
        assert!(
            count.load(Ordering::Relaxed) < BYTES,
            "nothing else had a turn"
        );
    }
}
