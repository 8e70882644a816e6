//! A server on the test's own runtime, at a port of its own.

use std::net::SocketAddr;
use std::time::Duration;

use busline::App;
use busline::app::{Builder, RegisterError};
use busline::registry::ServiceStatus;
use busline::rt::Tokio;
use busline::server::{Listeners, Undrained, bind, serve};
use busline::service::{echo, ping, timenow};
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

/// Longest time anything may take: an error if it is reached, so it may be generous.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    address: SocketAddr,
    app: App<Tokio>,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Undrained>>,
}

impl Server {
    /// Serves what `parts` makes of an empty application.
    pub(crate) async fn start(
        parts: impl FnOnce(Builder<Tokio>) -> Result<Builder<Tokio>, RegisterError>,
    ) -> Self {
        let listeners = bind("127.0.0.1:0").await.expect("loopback has free ports");
        Self::start_on(listeners, parts)
    }

    /// The same on other sockets; those of a file have no address.
    pub(crate) fn start_on(
        listeners: Listeners,
        parts: impl FnOnce(Builder<Tokio>) -> Result<Builder<Tokio>, RegisterError>,
    ) -> Self {
        let builder = parts(App::builder(Tokio::current())).expect("the services are valid");
        let app = builder.build();
        let addresses = listeners.addresses().expect("it is bound");
        let (shutdown, signal) = oneshot::channel();
        let served = serve(listeners, app.clone(), signal.map(drop));
        Self {
            address: addresses
                .first()
                .copied()
                .unwrap_or_else(|| ([0; 4], 0).into()),
            app,
            shutdown: Some(shutdown),
            task: tokio::spawn(served),
        }
    }

    /// Serves what the binary serves.
    pub(crate) async fn standard() -> Self {
        Self::start(|app| {
            app.service("echo", echo)?
                .service("ping", ping)?
                .service("timenow", timenow)
        })
        .await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn app(&self) -> &App<Tokio> {
        &self.app
    }

    pub(crate) fn status(&self, service: &str) -> ServiceStatus {
        let status = self.app.registry().status(service);
        status.expect("the service is registered")
    }

    /// Waits for something that only a counter shows.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let held = async {
            while !holds(self) {
                yield_now().await;
            }
        };
        if timeout(PATIENCE, held).await.is_err() {
            panic!("never: {what}; {:#?}", self.app.counts());
        }
    }

    /// Waits until no client of this service is left.
    pub(crate) async fn until_left(&self, service: &str) {
        let none = |server: &Self| server.status(service).clients == 0;
        self.until("the lease is gone", none).await;
    }

    /// Gives the signal to shut down.
    pub(crate) fn drain(&mut self) {
        self.shutdown
            .take()
            .expect("it is given once")
            .send(())
            .expect("it is serving");
    }

    /// Waits for `serve` to return.
    pub(crate) async fn ended(self) -> Result<(), Undrained> {
        soon(self.task).await.expect("serve does not panic")
    }
}

/// What the future comes to, which must be in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let Ok(output) = timeout(PATIENCE, future).await else {
        panic!("it did not happen within {PATIENCE:?}");
    };
    output
}
