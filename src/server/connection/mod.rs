//! The accept loop and the life of a connection up to its upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::serve::Listener;
use futures::FutureExt;
use futures::future::{Either, Pending, pending, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;

use crate::admission::bucket::Bucket;
use crate::app::App;
use crate::rt::{Instant, Runtime};
use crate::server::address::PeerAddress;
use crate::server::deadline::Deadline;
use crate::server::epilogue::Epilogue;
use crate::server::linger::Lingering;
use crate::server::network_path::{Ends, NetworkPath};
use crate::server::places::{Mark, Places, Taken};
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
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.handshake_timeout)
            .max_buf_size(limits.request_head_bytes.max(REQUEST_HEAD_BYTES_MIN));
        Self {
            router: router.layer(map_response(close)),
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

    /// The deadline by which a connection that begins now must be upgraded or have its response.
    fn deadline(&self) -> Deadline {
        let app = self.app();
        let limit = app.limits().handshake_timeout.saturating_mul(2);
        Deadline::until(app.rt().now() + limit)
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
    /// slot until then, or until it counts as a session.
    fn serve<Io>(&self, io: Io, ends: Ends, taken: Taken)
    where
        Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = self.deadline();
        let Taken {
            place, displaced, ..
        } = taken;
        let epilogue = Epilogue::default();
        let service = Addressed {
            inner: TowerToHyperService::new(self.router.clone()),
            address: ends.peer,
            network_path: NetworkPath::of(&io, ends),
            deadline: deadline.clone(),
            kind: Kind::<R>::of::<Io>(),
            epilogue: epilogue.clone(),
            mark: place.mark(),
        };
        let io = Lingering::new(io, place.mark(), self.app().limits().close_timeout);
        let connection = self
            .http
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let over = deadline.passed(self.app().rt().clone());
        let end = select(self.shell.end(), Box::pin(over));
        let end = select(end, displaced);
        let task = async move {
            let connection = async {
                // The result is dropped: however the connection ends, it is done. A failed
                // handshake concerns its client, which got a response if HTTP allows one.
                drop(connection.await);
                epilogue.run().await;
            };
            // `end` is polled before `connection`, which may extend the deadline when it is polled.
            drop(select(end, Box::pin(connection)).await);
            drop(place);
        };
        self.app().rt().spawn(task.boxed());
    }
}

/// A service that adds the client's address, as axum does, and the kind of connection to each
/// request.
struct Addressed<R: Runtime> {
    inner: TowerToHyperService<Router>,
    address: Option<SocketAddr>,
    network_path: NetworkPath,
    deadline: Deadline,
    kind: Kind<R>,
    epilogue: Epilogue,
    mark: Mark,
}

impl<R: Runtime> Service<Request<Incoming>> for Addressed<R> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future,
        Pending<Result<Response, Infallible>>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // The whole request head is there; too late if the connection was displaced before.
        if !self.mark.serve() {
            return Either::Right(pending());
        }
        if let Some(address) = self.address {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        let extensions = request.extensions_mut();
        extensions.insert(self.network_path);
        extensions.insert(self.deadline.clone());
        extensions.insert(self.kind);
        extensions.insert(self.epilogue.clone());
        extensions.insert(self.mark.clone());
        Either::Left(self.inner.call(request))
    }
}

/// Closes the connection after the response: with keep-alive it would occupy a slot for handshakes.
///
/// hyper's own switch for this would add `close` to the `Connection: Upgrade` of a 101 response,
/// too, which some clients refuse.
async fn close(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().append(header::CONNECTION, close);
    }
    response
}

/// The smallest read buffer that hyper allows.
const REQUEST_HEAD_BYTES_MIN: usize = 8 * 1024;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
