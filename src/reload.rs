//! SIGHUP: reads the settings again and gives the running server what it can take over.

use std::convert::Infallible;

use busline::App;
use busline::rt::Tokio;
use busline::server::{Changes, Config, Problems, Sources};
use tracing::{error, info};

/// The settings of the running server and where they come from.
pub(crate) struct Reload {
    sources: Sources,
    config: Config,
    app: App<Tokio>,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Reload {
    /// Catches the signal.
    pub(crate) fn new(sources: Sources, config: Config, app: App<Tokio>) -> std::io::Result<Self> {
        Ok(Self {
            sources,
            config,
            app,
            #[cfg(unix)]
            hangup: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::hangup())?
            },
        })
    }

    /// Reloads at each signal; what is wrong is logged, and everything stays as it was.
    pub(crate) async fn on_signal(mut self) -> Infallible {
        loop {
            self.signal().await;
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
        let mut policies = (*self.app.policies()).clone();
        policies.limits = config.limits().into();
        policies.origins = config.origins();
        for (name, policy) in &mut policies.services {
            *policy = config.policy(name.as_str());
        }
        self.app.replace_policies(policies);
        self.config = config;
        Ok(changes)
    }

    #[cfg(unix)]
    async fn signal(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Nothing asks for it here.
    #[cfg(not(unix))]
    async fn signal(&mut self) {
        std::future::pending::<()>().await;
    }
}
