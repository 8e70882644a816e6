//! Changes while the server runs: settings at SIGHUP, certificates, and published keys.

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

use crate::notify::{Notify, State};

/// Time between two checks of the certificate's files.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The settings of the running server and their sources.
pub(crate) struct Reload {
    sources: Sources,
    config: Config,
    app: App<Tokio>,
    /// Keys that an issuer publishes.
    remote: Option<Remote>,
    /// The certificate in use; a reload of the settings does not replace it.
    tls: Option<Tls>,
    hangup: Hangup,
}

impl Reload {
    /// Installs the handler of SIGHUP.
    pub(crate) fn new(
        sources: Sources,
        config: Config,
        app: App<Tokio>,
        remote: Option<Remote>,
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

    /// Keeps the settings, the certificate and the published keys up to date forever.
    pub(crate) async fn run(self, notify: &Notify) -> Infallible {
        let (remote, app) = (self.remote.clone(), self.app.clone());
        let fetch = pin!(async move {
            match remote {
                Some(remote) => remote.refresh(&app).await,
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
        let reload = pin!(self.on_signal(notify));
        match select(select(reload, fetch), look).await {
            Either::Left((Either::Left((never, _)) | Either::Right((never, _)), _))
            | Either::Right((never, _)) => match never {},
        }
    }

    /// Reloads at each signal.
    async fn on_signal(mut self, notify: &Notify) -> Infallible {
        loop {
            self.hangup.next().await;
            notify.tell(State::Reloading);
            self.hung_up();
            notify.tell(State::Ready);
        }
    }

    /// Reloads. Invalid settings are logged, and the old settings stay; the certificate and the
    /// published keys are renewed nevertheless.
    fn hung_up(&mut self) {
        renew(self.tls.as_ref());
        // Fetch the keys even if the settings are invalid: the keys belong to the issuer.
        if let Some(remote) = &self.remote {
            remote.fetch_again();
        }
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

    fn reload(&mut self) -> Result<Changes, Problems> {
        let (config, changes) = self.config.reloaded(&self.sources.read()?)?;
        // Whether clients must authenticate cannot change, because the choice of addresses depends
        // on it.
        config.must_authenticate_as(&self.config)?;
        config.must_begin_with_keys(self.app.serves_calls())?;
        let mut policies = (*self.app.policies()).clone();
        policies.limits = config.limits().into();
        policies.origins = config.origins();
        policies.query_token = config.query_token();
        policies.hosts = config.hosts();
        policies.api_keys = config.api_keys();
        for (name, policy) in &mut policies.services {
            *policy = config.policy(name.as_str());
        }
        policies.authorize = if config.authenticates() {
            Arc::new(config.jwt(self.remote.clone()))
        } else {
            Arc::new(Anyone)
        };
        self.app.replace_policies(policies);
        self.config = config;
        Ok(changes)
    }
}

/// Loads the certificate again if its files have changed.
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

/// Systems other than Unix have no such signal.
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

#[cfg(test)]
mod tests {
    use super::*;

    const A: [&str; 2] = [
        include_str!("../../tests/e2e/keys/a.pem"),
        include_str!("../../tests/e2e/keys/a.key.pem"),
    ];
    const B: [&str; 2] = [
        include_str!("../../tests/e2e/keys/b.pem"),
        include_str!("../../tests/e2e/keys/b.key.pem"),
    ];

    #[tokio::test]
    async fn the_certificate_is_renewed_also_where_the_settings_are_wrong() {
        let folder = std::env::temp_dir().join(format!("busline-{}-hangup", std::process::id()));
        let file = |name: &str| folder.join(name);
        let write = |name: &str, text: &str| std::fs::write(file(name), text);
        let pair = |[certificate, key]: [&str; 2]| {
            write("a.pem", certificate).and_then(|()| write("a.key", key))
        };
        std::fs::create_dir_all(&folder).expect("a test may write there");
        pair(A).expect("a test may write there");
        let (certificate, key) = (file("a.pem"), file("a.key"));
        let settings = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        write("b.toml", &settings).expect("a test may write there");
        let path = file("b.toml").display().to_string();
        let sources = Sources::file(&path, &[]);
        let config = sources.read().expect("it is valid");
        let tls = config.tls().expect("it is set").clone();
        let app = App::builder(Tokio::current()).build();
        let mut reload = Reload::new(sources, config, app, None).expect("signals can be caught");
        pair(B).expect("a test may write there");
        write("b.toml", "nonsense = 1\n").expect("a test may write there");
        reload.hung_up();
        assert!(reload.reload().is_err(), "the settings are wrong");
        assert_eq!(tls.reload(), Ok(Reloaded::Unchanged), "it was renewed");
        std::fs::remove_dir_all(&folder).expect("it is there");
    }
}
