//! The listeners for operators, for probes and for callers of the API, unless they are off.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;

use busline::App;
use busline::rt::Tokio;
use busline::server::{
    Admin, BindError, BindOptions, Config, Listeners, serve_admin, serve_api, serve_probes,
};
use futures::future::{Either, select};
use tracing::{info, warn};

/// The listeners besides the ones for clients.
pub(crate) struct AdminListeners {
    admin: Option<Listeners>,
    probes: Option<Listeners>,
    api: Option<Listeners>,
}

impl AdminListeners {
    /// Listens on the configured addresses.
    pub(crate) async fn listen(config: &Config) -> Result<Self, BindError> {
        let options = config.bind_options();
        let admin = Place {
            what: "operators' listener",
            flag: "--admin",
        };
        let admin = admin.listen(config.admin(), &options).await?;
        // If the address is unknown, warn: a needless warning costs less than a missing one.
        if admin
            .as_ref()
            .is_some_and(|admin| admin.is_public().unwrap_or(true))
        {
            warn!(
                "others can reach the operators' listener, which asks nobody who they are: choose \
                 a loopback address with --admin, or protect it by a firewall; for health checks \
                 and metrics alone there is --probes"
            );
        }
        let probes = Place {
            what: "listener of probes",
            flag: "--probes",
        };
        let probes = probes.listen(config.probes(), &options).await?;
        let api = Place {
            what: "listener of the API",
            flag: "--api-listen",
        };
        let api = api.listen(config.api_listen(), &options).await?;
        Ok(Self { admin, probes, api })
    }

    /// Serves the listeners forever.
    pub(crate) async fn serve(self, app: App<Tokio>) -> Infallible {
        let (watched, probed, called) = (app.clone(), app.clone(), app);
        let admin = pin!(async {
            match self.admin {
                Some(listeners) => serve_admin(listeners, watched).await,
                None => pending().await,
            }
        });
        let probes = pin!(async {
            match self.probes {
                Some(listeners) => serve_probes(listeners, probed).await,
                None => pending().await,
            }
        });
        let api = pin!(async {
            match self.api {
                Some(listeners) => serve_api(listeners, called).await,
                None => pending().await,
            }
        });
        match select(select(admin, probes), api).await {
            Either::Left((Either::Left((never, _)) | Either::Right((never, _)), _))
            | Either::Right((never, _)) => match never {},
        }
    }
}

/// The name of a listener in the log.
struct Place {
    what: &'static str,
    /// The flag that sets its address.
    flag: &'static str,
}

impl Place {
    async fn listen(
        &self,
        at: &Admin,
        options: &BindOptions,
    ) -> Result<Option<Listeners>, BindError> {
        let Self { what, flag } = self;
        let listeners = match at {
            Admin::Off => return Ok(None),
            Admin::At(address) => options.bind_all([address]).await?,
            // A default address may be taken: a second server on the machine must not fail because
            // of it.
            Admin::IfFree(address) => match options.bind_all([address]).await {
                Ok(listeners) => listeners,
                Err(error) => {
                    warn!(%error, "no {what}: choose another address with {flag}");
                    return Ok(None);
                }
            },
        };
        // If the addresses are unknown, the listener works all the same.
        let addresses = listeners.addresses().unwrap_or_default();
        info!(?addresses, "{what}");
        Ok(Some(listeners))
    }
}
