//! Keys that somebody publishes under a URL, fetched anew from time to time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use tracing::{info, warn};

use super::keys::{KeyError, Keys, Secrets};
use crate::rt::{Clock, Tokio};
#[cfg(feature = "tls")]
use crate::server::Roots;
use crate::server::fetch::{Endpoint, FetchError, Url};
use crate::sync::Mutex;

/// Longest pause before a fetch is tried again that failed.
const RETRY: Duration = Duration::from_secs(30);

/// A JWKS under a URL; clones share its keys.
#[derive(Clone, Debug)]
pub struct Remote {
    endpoint: Endpoint,
    /// None until they have been fetched.
    keys: Arc<Mutex<Option<Arc<Keys>>>>,
}

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("the answer is {0}")]
    Status(StatusCode),
}

impl Remote {
    /// Keys that are not fetched yet; a URL of `https://` needs [roots](Self::with_roots) as well.
    pub fn new(url: Url) -> Self {
        let keys = Arc::new(Mutex::new(None));
        let endpoint = Endpoint::new(url);
        Self { endpoint, keys }
    }

    /// Believes a server of `https://` whose certificate one of these authorities has signed.
    #[cfg(feature = "tls")]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.endpoint = self.endpoint.with_roots(Some(roots));
        self
    }

    /// The keys as they were last fetched; none before.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.lock().clone().unwrap_or_default()
    }

    /// Whether they have ever been fetched.
    pub(super) fn is_known(&self) -> bool {
        self.keys.lock().is_some()
    }

    /// Fetches them at once, and again every so often; a fetch that fails keeps the old ones.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends a fetch and changes nothing.
    pub async fn refresh(&self, rt: &Tokio, every: Duration) -> Infallible {
        let url = &self.endpoint.url;
        loop {
            let wait = match self.fetch(rt).await {
                Ok(keys) => {
                    let count = keys.len();
                    let before = self.keys.lock().replace(Arc::new(keys));
                    drop(before);
                    info!(%url, keys = count, "keys fetched");
                    every
                }
                Err(error) => {
                    warn!(%url, %error, "keys not fetched, the old ones stay");
                    RETRY.min(every)
                }
            };
            rt.sleep_until(rt.now() + wait).await;
        }
    }

    async fn fetch(&self, rt: &Tokio) -> Result<Keys, RemoteError> {
        let request = Request::get("/")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .expect("it is a request");
        let answer = self.endpoint.fetch(rt, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(RemoteError::Status(answer.status()));
        }
        let text = std::str::from_utf8(answer.body()).map_err(|_| KeyError::Neither)?;
        Ok(Keys::jwks(text, Secrets::Refused)?)
    }
}
