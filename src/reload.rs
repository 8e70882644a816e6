//! What changes while the server runs: settings at SIGHUP, and keys that somebody publishes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use busline::App;
use busline::authorize::Anyone;
use busline::rt::Tokio;
use busline::server::auth::Remote;
use busline::server::{Changes, Config, Problems, Sources};
use futures::future::{Either, select};
use tracing::{error, info};

/// The settings of the running server and where they come from.
pub(crate) struct Reload {
    sources: Sources,
    config: Config,
    app: App<Tokio>,
    /// Keys that somebody publishes, and how often they are fetched.
    remote: Option<(Remote, Duration)>,
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
        let reload = pin!(self.on_signal());
        match select(reload, fetch).await {
            Either::Left((never, _)) | Either::Right((never, _)) => match never {},
        }
    }

    /// Reloads at each signal; what is wrong is logged, and everything stays as it was.
    async fn on_signal(mut self) -> Infallible {
        loop {
            self.hangup.next().await;
            match self.reload() {
                Ok(changes) => info!("settings reloaded: {changes}"),
                Err(problems) => {
                    error!("settings not reloaded, the old ones stay");
                    for problem in problems.iter() {
                        error!("{problem}");
                    }
                }
            }
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
