//! The accept loop, and the connections that it serves up to their upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

mod life;
mod requests;

use self::life::{Life, Ties};
use self::requests::{Facts, Keeper, Requests};
use crate::admission::bucket::Bucket;
use crate::app::App;
use crate::rt::{Instant, Runtime};
use crate::server::address::PeerAddress;
use crate::server::deadline::Deadline;
use crate::server::epilogue::Epilogue;
use crate::server::linger::Lingering;
use crate::server::network_path::{Ends, NetworkPath};
use crate::server::places::{Places, Taken};
use crate::server::routes::Shell;
use crate::server::upgrade::Kind;
use crate::server::waiting::{Bounds, Newcomer};
use crate::sync::Mutex;

/// Accepts connections and serves requests on them; clones share their bounds.
#[derive(Clone)]
pub(super) struct Connections<R: Runtime> {
    shell: Shell<R>,
    router: Router,
    http: http1::Builder,
    /// The slots of connections that are not upgraded yet.
    places: Places,
    accepts: Arc<Mutex<Bucket>>,
}

impl<R: Runtime> Connections<R> {
    /// Connections that serve these routes.
    pub(super) fn of(shell: &Shell<R>, router: Router) -> Self {
        let limits = shell.app().limits();
        let mut http = http1::Builder::new();
        // The deadline of the connection bounds the time of each head.
        http.header_read_timeout(None)
            .max_buf_size(limits.request_head_bytes.max(REQUEST_HEAD_BYTES_MIN));
        Self {
            router,
            shell: shell.clone(),
            http,
            places: Places::new(Bounds {
                in_all: limits.handshakes.get(),
                per_address: limits.handshakes_per_address.get(),
            }),
            accepts: Arc::new(Mutex::new(Bucket::new(
                limits.accepts,
                shell.app().rt().now(),
            ))),
        }
    }

    pub(super) fn app(&self) -> &App<R> {
        self.shell.app()
    }

    /// Accepts connections forever; the number of connections without an upgrade is bounded.
    ///
    /// At the bound, the oldest connection without a whole request head is closed in favour of the
    /// new one. If all connections are being served, the new connection waits here for its slot. A
    /// listener that waits for a connection holds no slot that another listener could use.
    pub(super) async fn accept<L>(&self, mut listener: L) -> Infallible
    where
        L: Listener<Addr: PeerAddress>,
    {
        let metrics = self.app().metrics();
        let own = listener.local_addr().ok();
        let own = own.and_then(|address| address.socket_address());
        loop {
            if self.room_at() > self.app().rt().now() {
                metrics.accepts_delayed.add(1);
                self.room().await;
            }
            let (io, address) = listener.accept().await;
            self.turn().await;
            metrics.accepted.add(1);
            let address = address.socket_address();
            // A connection above the bound of its address is dropped: a response would cost more
            // than it is worth.
            let Ok(taken) = self.places.take(self.newcomer(address)).await else {
                metrics.accepts_refused.add(1);
                continue;
            };
            if let Some(reason) = taken.instead {
                metrics.displaced.add(reason);
            }
            let ends = Ends {
                listener: own,
                peer: address,
            };
            self.serve(io, ends, taken);
        }
    }

    /// When one more connection may be accepted.
    fn room_at(&self) -> Instant {
        let now = self.app().rt().now();
        self.accepts.lock().room_at(now, 1)
    }

    /// Waits until one more connection may be accepted.
    async fn room(&self) {
        self.app().rt().sleep_until(self.room_at()).await;
    }

    /// Takes a token for one connection; waits again if another listener has taken the token
    /// meanwhile.
    async fn turn(&self) {
        while !self.accepts.lock().take(self.app().rt().now(), 1) {
            self.room().await;
        }
    }

    /// The owner that a connection is counted for; a proxy may have any number of connections.
    fn newcomer(&self, address: Option<SocketAddr>) -> Newcomer {
        let proxies = &self.app().limits().proxies;
        let address = address.map(|address| address.ip());
        let is_proxy = |ip| proxies.iter().any(|proxy| proxy.contains(ip));
        Newcomer::of(address, address.is_some_and(is_proxy))
    }

    /// Serves one connection until it is upgraded, refused, finished or displaced, and holds its
    /// slot until then, or until it counts as a session or as one that is kept.
    fn serve<Io>(&self, io: Io, ends: Ends, taken: Taken)
    where
        Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let Taken {
            place, displaced, ..
        } = taken;
        let app = self.app();
        let deadline = Deadline::until(app.rt().now() + app.limits().handshake_timeout);
        let mark = place.mark();
        let epilogue = Epilogue::default();
        let service = Requests::new(
            self.router.clone(),
            Keeper::new(app.clone(), mark.clone()),
            Facts {
                address: ends.peer,
                network_path: NetworkPath::of(&io, ends),
                deadline: deadline.clone(),
                kind: Kind::<R>::of::<Io>(),
                epilogue: epilogue.clone(),
            },
        );
        let io = Lingering::new(io, mark.clone(), app.limits().close_timeout);
        let http = self.http.serve_connection(TokioIo::new(io), service);
        let life = Life::new(
            http.with_upgrades(),
            Ties {
                app: app.clone(),
                end: self.shell.end(),
                displaced,
                mark,
                deadline,
                epilogue,
            },
        );
        let task = async move {
            life.await;
            drop(place);
        };
        app.rt().spawn(task.boxed());
    }
}

/// The smallest read buffer that hyper allows.
const REQUEST_HEAD_BYTES_MIN: usize = 8 * 1024;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
