//! A thread's turn: its sockets tell what they have, and its tasks do what follows from that.

use std::io;
use std::task::Context;

use super::crew::{Crew, Spawner};
#[cfg(target_os = "linux")]
use super::reactor::{Reactor, Sources};

/// Times in one turn that the sockets are asked, before all else that the thread does.
#[cfg(target_os = "linux")]
const ASKS_MAX: usize = 8;

/// Sockets that have told at once, from which on more will have told by the time all is done.
#[cfg(target_os = "linux")]
const MANY: usize = 2;

/// The tasks of a thread, and what tells of its sockets.
pub(super) struct Turn {
    crew: Crew,
    #[cfg(target_os = "linux")]
    reactor: Reactor,
}

impl Turn {
    /// The runtime of the caller watches its sockets.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            crew: Crew::new(),
            #[cfg(target_os = "linux")]
            reactor: Reactor::new()?,
        })
    }

    pub(super) fn spawner(&self) -> Spawner {
        self.crew.spawner()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn sources(&self) -> &std::sync::Arc<Sources> {
        self.reactor.sources()
    }

    /// Takes a turn; the task is woken when there is more to do.
    #[cfg(target_os = "linux")]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let mut told = self.gather(|reactor| reactor.poll(cx));
        for _ in 1..ASKS_MAX {
            // While those who have told are served, more may: tokio need not be asked for them.
            if self.crew.poll_turn(cx).is_pending() || told < MANY {
                return;
            }
            told = self.gather(|reactor| reactor.ask(cx));
        }
        let _is_woken = self.crew.poll_turn(cx);
    }

    /// Gathers those whose sockets tell something; how many sockets that are.
    #[cfg(target_os = "linux")]
    fn gather(&mut self, ask: impl FnOnce(&mut Reactor) -> usize) -> usize {
        self.crew.gather(|| ask(&mut self.reactor))
    }

    /// Takes a turn; the task is woken when there is more to do.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let _is_woken = self.crew.poll_turn(cx);
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

    /// Bytes that go to and fro between sockets, which is without an end for the test.
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
        Tokio::gather().expect("there are descriptors");
        let (rt, sources) = (Tokio::current(), rt::sources().expect("they are gathered"));
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
