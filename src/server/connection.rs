//! The accept loop and the life of a connection up to its upgrade.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::serve::Listener;
use futures::FutureExt;
use futures::future::select;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use super::routes::Shell;
use crate::rt::{Runtime, Sleep};

/// Accepts connections and serves requests on them.
pub(super) struct Connections<R: Runtime> {
    shell: Shell<R>,
    router: Router,
    http: http1::Builder,
    /// Connections that are not upgraded.
    handshakes: Arc<Semaphore>,
}

impl<R: Runtime> Connections<R> {
    pub(super) fn new(shell: &Shell<R>) -> Self {
        let limits = shell.app().limits();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.handshake_timeout)
            .max_buf_size(limits.request_head_bytes.max(REQUEST_HEAD_BYTES_MIN));
        Self {
            router: shell.router().layer(map_response(close)),
            shell: shell.clone(),
            http,
            handshakes: Arc::new(Semaphore::new(limits.handshakes.get())),
        }
    }

    /// Completes when a connection that begins now must have been upgraded, or have its response.
    ///
    /// hyper gives a client any time it likes to take that.
    fn timeout(&self) -> Sleep {
        let app = self.shell.app();
        let limit = app.limits().handshake_timeout.saturating_mul(2);
        app.rt().sleep_until(app.rt().now() + limit)
    }

    /// Accepts connections for ever, as many at a time as may be without an upgrade.
    pub(super) async fn accept<L: Listener>(&self, mut listener: L) -> Infallible {
        loop {
            let permit = Arc::clone(&self.handshakes).acquire_owned().await;
            let (io, _) = listener.accept().await;
            let service = TowerToHyperService::new(self.router.clone());
            let connection = self
                .http
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            let end = select(self.shell.end(), self.timeout());
            let task = async move {
                // However it ends, the connection is done; a handshake that fails is its client's
                // matter, and it was answered where HTTP has an answer.
                drop(select(connection, end).await);
                drop(permit);
            };
            self.shell.app().rt().spawn(task.boxed());
        }
    }
}

/// Ends the connection after the response: kept alive, it would hold one of the handshakes.
///
/// hyper's own switch for that would add `close` to the `Connection: Upgrade` of a 101 as well,
/// which some clients refuse.
async fn close(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().append(header::CONNECTION, close);
    }
    response
}

/// The smallest read buffer hyper allows.
const REQUEST_HEAD_BYTES_MIN: usize = 8 * 1024;
