//! A thread's turn: its sockets tell what they have, and its tasks do what follows from that.

use std::io;
use std::task::Context;

use super::crew::{Crew, Spawner};
#[cfg(target_os = "linux")]
use super::crew::{forget_burst, has_written_burst};
#[cfg(target_os = "linux")]
use super::reactor::{AtOnce, Reactor, Sources};

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
        let mut told = self.gather(|reactor| reactor.poll(cx, at_once));
        for _ in 1..ASKS_MAX {
            // While those who have told are served, more may: tokio need not be asked for them.
            if self.crew.poll_turn(cx).is_pending() || told < MANY {
                return;
            }
            told = self.gather(|reactor| reactor.ask(cx, at_once()));
        }
        let _is_woken = self.crew.poll_turn(cx);
    }

    /// Gathers those whose sockets tell something; how many sockets that are.
    #[cfg(target_os = "linux")]
    fn gather(&mut self, ask: impl FnOnce(&mut Reactor) -> usize) -> usize {
        let told = self.crew.gather(|| ask(&mut self.reactor));
        if told > 0 {
            forget_burst();
        }
        told
    }

    /// Takes a turn; the task is woken when there is more to do.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let _is_woken = self.crew.poll_turn(cx);
    }
}

/// Of how many sockets the next news is to be, after what came of the last one.
#[cfg(target_os = "linux")]
fn at_once() -> AtOnce {
    if has_written_burst() {
        AtOnce::Many
    } else {
        AtOnce::Few
    }
}

#[cfg(all(test, target_os = "linux", not(feature = "loom")))]
#[expect(
    clippy::unwrap_used,
    reason = "sockets of this machine, of which none is to fail"
)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use futures::task::AtomicWaker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    use super::*;
    use crate::rt::{self, Spawn, Tokio};
    use crate::sync::Mutex;

    /// How many are heard before somebody who is woken by each of them has a turn.
    struct Heard {
        since: AtomicUsize,
        by: AtomicWaker,
        counts: Mutex<Vec<usize>>,
    }

    async fn hear(mut stream: rt::TcpStream, heard: Arc<Heard>) {
        while stream.read_u8().await.is_ok() {
            heard.since.fetch_add(1, Ordering::Relaxed);
            heard.by.wake();
        }
    }

    /// Hears so many three times, of which none says anything before all are there; who follows
    /// answers with a burst the first time, or never.
    async fn hear_all(many: usize, is_burst: bool) -> Vec<usize> {
        let mut turn = Turn::new().unwrap();
        let heard = Arc::new(Heard {
            since: AtomicUsize::new(0),
            by: AtomicWaker::new(),
            counts: Mutex::new(Vec::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..many {
            let peer = TcpStream::connect(listener.local_addr().unwrap());
            let (here, there) = futures::join!(listener.accept(), peer);
            let here = here.unwrap().0.into_std().unwrap();
            ours.push(TcpStream::from_std(here.try_clone().unwrap()).unwrap());
            let here = TcpStream::from_std(here).unwrap();
            let here = rt::TcpStream::new(here, turn.sources()).unwrap();
            let hear = Box::pin(hear(here, Arc::clone(&heard)));
            turn.spawner().spawn(hear);
            peers.push(there.unwrap());
        }
        let (rt, told) = (Tokio::current(), Arc::clone(&heard));
        turn.spawner().spawn(Box::pin(poll_fn(move |cx| {
            told.by.register(cx.waker());
            let since = told.since.swap(0, Ordering::Relaxed);
            let mut counts = told.counts.lock();
            let is_first = counts.iter().sum::<usize>() < many;
            if since > 0 && is_first && is_burst {
                rt.writes_burst();
            }
            counts.extend(Some(since).filter(|since| *since > 0));
            Poll::Pending
        })));
        poll_fn(|cx| {
            turn.poll(cx);
            Poll::Ready(())
        })
        .await;
        // What was written before is no matter of this.
        forget_burst();
        for wave in 1..=3 {
            for (here, there) in ours.iter().zip(&mut peers) {
                there.write_u8(0).await.unwrap();
                here.peek(&mut [0]).await.unwrap();
            }
            poll_fn(|cx| {
                turn.poll(cx);
                let heard: usize = heard.counts.lock().iter().sum();
                if heard < wave * many {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
        }
        heard.counts.lock().clone()
    }

    #[tokio::test]
    async fn what_few_have_said_is_dealt_with_first_unless_what_all_say_is_written_together() {
        let alone = [32, 32, 16].repeat(3);
        assert_eq!(hear_all(80, false).await, alone);
        // A burst tells what the next news is to be, and that what comes after it.
        assert_eq!(hear_all(80, true).await, [32, 48, 80, 32, 32, 16]);
    }

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
