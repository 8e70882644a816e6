//! The binary's threads: each accepts connections, and serves the sessions that are placed on it.

use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::thread::Builder;

use busline::rt::Tokio;
use busline::server::{Acceptor, Listeners};
use futures::channel::oneshot;
use futures::future::select;
use tokio::runtime::{self, Runtime};

/// The threads besides the first; dropping the value drops everything that they serve.
///
/// Dropping does not join the threads: a thread that a service blocks would keep the server from
/// exiting.
pub(crate) struct Threads {
    _alive: Vec<oneshot::Sender<()>>,
}

/// A runtime for one thread.
///
/// A runtime of a single thread serves together the sockets that become ready together, with fewer
/// and larger writes.
pub(crate) fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
}

impl Threads {
    /// Starts the threads that are missing to `count`, each with its own copy of the listeners.
    pub(crate) async fn start(
        count: NonZeroUsize,
        listeners: &Listeners,
        acceptor: &Acceptor<Tokio>,
    ) -> io::Result<Self> {
        let mut alive = Vec::new();
        for number in 1..count.get() {
            let runtime = runtime()?;
            let entered = runtime.enter();
            let listeners = listeners.again()?;
            drop(entered);
            let acceptor = acceptor.clone();
            let (sender, end) = oneshot::channel::<()>();
            let (tell, is_ready) = oneshot::channel();
            let thread = Builder::new().name(format!("busline-{number}"));
            thread.spawn(move || {
                let accept = pin!(acceptor.accept(listeners));
                runtime.block_on(async {
                    let started = Tokio::start_worker();
                    let is_worker = started.is_ok();
                    // The first thread waits for the message.
                    let _told = tell.send(started);
                    if is_worker {
                        drop(select(accept, end).await);
                    }
                });
            })?;
            is_ready.await.map_err(io::Error::other)??;
            alive.push(sender);
        }
        Ok(Self { _alive: alive })
    }
}
