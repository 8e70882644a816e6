//! The shell: HTTP, the upgrade to WebSocket, real sockets; the only code that knows axum.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use axum::serve::Listener;
use futures::future::{Either, select};

use crate::app::App;
use crate::rt::Runtime;
use crate::sync::Canceller;

mod accept;
mod address;
mod admin;
pub mod auth;
mod bind;
mod binding;
mod caller;
#[cfg(feature = "cli")]
mod config;
mod connection;
mod deadline;
mod dial;
mod discard;
mod epilogue;
mod fetch;
mod forwarded;
mod gate;
mod handshake;
mod history_file;
mod index_page;
mod linger;
mod listen_host;
mod listener;
mod network_path;
#[cfg(all(test, not(feature = "loom")))]
mod pipe;
mod places;
mod progress;
mod rate_limited_log;
mod rewound_stream;
#[cfg(feature = "tls")]
mod roots;
mod routes;
mod socket;
mod sse;
mod stream;
mod subprotocols;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "otel")]
mod traces;
mod unix;
mod unix_owner;
mod upgrade;
mod waiting;
mod wish;

pub use self::address::PeerAddress;
pub use self::admin::{
    admin_routes, api_routes, probe_routes, serve_admin, serve_api, serve_probes,
};
#[cfg(unix)]
pub use self::bind::bind_shared;
pub use self::bind::{bind, bind_all};
pub use self::binding::{Address, BindError, BindOptions};
#[cfg(feature = "cli")]
pub use self::config::{
    Admin, Changes, Config, LogFormat, Problems, Run, Sources, TracePolicy, command,
};
pub use self::fetch::{Url, UrlError};
pub use self::history_file::{HistoryFile, HistoryFileError, SavedHistories};
pub use self::listener::Listeners;
pub use self::rate_limited_log::RateLimitedLog;
#[cfg(feature = "tls")]
pub use self::roots::{Roots, RootsError};
pub use self::routes::routes;
pub use self::socket::{Accept, Socket};
pub use self::stream::Stream;
#[cfg(feature = "tls")]
pub use self::tls::{Reloaded, Tls, TlsError};
#[cfg(feature = "otel")]
pub use self::traces::{Traces, TracesError};
pub use self::unix_owner::{UnixGroup, UnixGroupError, UnixMode, UnixModeError};

use self::connection::Connections;
use self::routes::Shell;

/// Serves the application's clients until `shutdown`, and then until they are gone.
///
/// The caller owns the listener and the signal; see [`Server`] for a listener on each of several
/// threads.
///
/// # Errors
///
/// [`Undrained`] names the sessions and services that were left when the drain had to end.
///
/// # Cancel safety
///
/// Dropping the future drops the listener, all connections and all sessions at once.
pub async fn serve<L, R>(
    listener: L,
    app: App<R>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Undrained>
where
    L: Listener<Addr: PeerAddress>,
    R: Runtime,
{
    Server::new(app).serve(listener, shutdown).await
}

/// The connections of one application, which any number of threads may accept.
///
/// Dropping the server drops all connections and all sessions at once.
pub struct Server<R: Runtime> {
    connections: Connections<R>,
    _canceller: Canceller,
}

/// Accepts connections of a [`Server`] on another thread.
#[derive(Clone)]
pub struct Acceptor<R: Runtime>(Connections<R>);

impl<R: Runtime> Acceptor<R> {
    /// Accepts connections until the future is dropped; all listeners share their bounds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the listener; accepted connections stay.
    pub async fn accept<L: Listener<Addr: PeerAddress>>(self, listener: L) -> Infallible {
        self.0.accept(listener).await
    }
}

impl<R: Runtime> Server<R> {
    /// A server of this application, which accepts no connections yet.
    pub fn new(app: App<R>) -> Self {
        let (alive, shell) = Shell::with_end(app);
        Self {
            connections: Connections::of(&shell, routes::router(&shell)),
            _canceller: alive,
        }
    }

    /// A handle with which another thread can accept connections.
    pub fn acceptor(&self) -> Acceptor<R> {
        Acceptor(self.connections.clone())
    }

    /// Serves clients until `shutdown`, and then until they are gone.
    ///
    /// After the signal new clients are refused (503). Input that has arrived from clients by then
    /// is answered first, see [`Limits::arrivals_timeout`]. Every session is served until its
    /// scheduled time, see [`Limits::drain`], and is closed after it has received the messages
    /// published to it; then the services stop. The future completes when nothing is left, or after
    /// [`Limits::drain_timeout`], and at most a second later if calls of backends are in flight.
    ///
    /// # Errors
    ///
    /// [`Undrained`] names the sessions and services that were left at the end of that time; they
    /// are dropped without a close handshake.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the listener, all connections and all sessions at once.
    ///
    /// [`Limits::arrivals_timeout`]: crate::Limits::arrivals_timeout
    /// [`Limits::drain`]: crate::Limits::drain
    /// [`Limits::drain_timeout`]: crate::Limits::drain_timeout
    pub async fn serve<L: Listener<Addr: PeerAddress>>(
        self,
        listener: L,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Undrained> {
        let accept = pin!(self.connections.accept(listener));
        let drain = pin!(async {
            shutdown.await;
            let drained = drain(self.connections.app()).await;
            // The listeners of clients may serve calls, too.
            self.connections.app().calls_answered().await;
            drained
        });
        match select(drain, accept).await {
            Either::Left((drained, _)) => drained,
            Either::Right((never, _)) => match never {},
        }
    }
}

/// The sessions and services that were left when a drain had to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sessions} sessions and the services [{}] were left at the deadline", services.join(", "))]
pub struct Undrained {
    /// The number of sessions that had not ended.
    pub sessions: usize,
    /// The names of the services that had not stopped.
    pub services: Vec<String>,
}

async fn drain<R: Runtime>(app: &App<R>) -> Result<(), Undrained> {
    let limit = app.limits().drain_timeout;
    tracing::info!(sessions = app.sessions_open(), ?limit, "draining");
    app.drain();
    let mut timeout = app.rt().sleep_until(app.rt().now() + limit);
    let mut drained = pin!(app.drained());
    let in_time = poll_fn(|cx| match drained.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => timeout.as_mut().poll(cx).map(|()| false),
    });
    if in_time.await {
        tracing::info!("drained");
        return Ok(());
    }
    let registry = app.registry();
    let left = |name: &&crate::bus::ServiceName| {
        let status = registry.kind_status(name.as_str());
        status.is_some_and(|status| !status.is_idle())
    };
    Err(Undrained {
        sessions: app.sessions_open(),
        services: registry
            .names()
            .filter(left)
            .map(ToString::to_string)
            .collect(),
    })
}
