//! What changes while the server runs: settings at SIGHUP, and keys that somebody publishes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use busline::App;
use busline::authorize::Anyone;
use busline::rt::{Clock, Tokio};
use busline::server::auth::Remote;
use busline::server::{Changes, Config, Problems, Reloaded, Sources, Tls};
use futures::future::{Either, select};
use tracing::{error, info};

use crate::notify::{State, notify};

/// Time between two looks at the files of the certificate.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The settings of the running server and where they come from.
pub(crate) struct Reload {
    sources: Sources,
    config: Config,
    app: App<Tokio>,
    /// Keys that somebody publishes, and how often they are fetched.
    remote: Option<(Remote, Duration)>,
    /// The certificate that is served, whatever was read since.
    tls: Option<Tls>,
    hangup: Hangup,
}

impl Reload {
    /// Catches the signal.
    pub(crate) fn new(
        sources: Sources,
        config: Config,
        app: App<Tokio>,
        remote: Option<(Remote, Duration)>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            sources,
            tls: config.tls().cloned(),
            config,
            app,
            remote,
            hangup: Hangup::catch()?,
        })
    }

    /// Keeps the server up to date for ever.
    pub(crate) async fn run(self) -> Infallible {
        let (remote, rt) = (self.remote.clone(), self.app.rt().clone());
        let fetch = pin!(async move {
            match remote {
                Some((remote, every)) => remote.refresh(&rt, every).await,
                None => std::future::pending().await,
            }
        });
        let (tls, rt) = (self.tls.clone(), self.app.rt().clone());
        let look = pin!(async move {
            loop {
                rt.sleep_until(rt.now() + LOOK_EVERY).await;
                renew(tls.as_ref());
            }
        });
        let reload = pin!(self.on_signal());
        match select(select(reload, fetch), look).await {
            Either::Left((Either::Left((never, _)) | Either::Right((never, _)), _))
            | Either::Right((never, _)) => match never {},
        }
    }

    /// Reloads at each signal; what is wrong is logged, and everything stays as it was.
    async fn on_signal(mut self) -> Infallible {
        loop {
            self.hangup.next().await;
            notify(State::Reloading);
            renew(self.tls.as_ref());
            match self.reload() {
                Ok(changes) => info!("settings reloaded: {changes}"),
                Err(problems) => {
                    error!("settings not reloaded, the old ones stay");
                    for problem in problems.iter() {
                        error!("{problem}");
                    }
                }
            }
            notify(State::Ready);
        }
    }

    fn reload(&mut self) -> Result<Changes, Problems> {
        let (config, changes) = self.config.reloaded(&self.sources.read()?)?;
        // Whether clients must show who they are cannot change: the addresses were chosen by it.
        config.must_authenticate_as(&self.config)?;
        let mut policies = (*self.app.policies()).clone();
        policies.limits = config.limits().into();
        policies.origins = config.origins();
        for (name, policy) in &mut policies.services {
            *policy = config.policy(name.as_str());
        }
        let remote = self.remote.as_ref().map(|(remote, _)| remote.clone());
        policies.authorize = if config.authenticates() {
            Arc::new(config.jwt(remote))
        } else {
            Arc::new(Anyone)
        };
        self.app.replace_policies(policies);
        self.config = config;
        Ok(changes)
    }
}

/// Serves the certificate as it is now in its file.
fn renew(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        Some(Ok(Reloaded::Changed)) => info!("the certificate is renewed"),
        Some(Ok(Reloaded::Unchanged)) | None => {}
        Some(Err(error)) => error!("the certificate is not renewed, the old one stays: {error}"),
    }
}

/// The signal that asks to reload.
#[cfg(unix)]
struct Hangup(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// There is none.
#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn catch() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}
