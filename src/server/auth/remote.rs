//! Keys that an issuer of tokens publishes under a URL.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};

use super::keys::{KeyError, Keys, Secrets};
use super::published::{News, Published};
use crate::app::App;
use crate::limits::FetchPolicy;
use crate::rt::Tokio;
#[cfg(feature = "tls")]
use crate::server::Roots;
use crate::server::fetch::{Endpoint, FetchError, Url};

/// A JWKS under a URL; clones share its keys.
#[derive(Clone, Debug)]
pub struct Remote {
    endpoint: Endpoint,
    published: Arc<Published>,
    policy: FetchPolicy,
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
        let policy = FetchPolicy::default();
        Self {
            endpoint: Endpoint::new(url),
            published: Arc::new(Published::new(policy)),
            policy,
        }
    }

    /// Verifies an `https://` server with these root certificates.
    #[cfg(feature = "tls")]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.endpoint = self.endpoint.with_roots(Some(roots));
        self
    }

    /// Replaces the default schedule of fetches; shares no keys with earlier clones.
    #[must_use]
    pub fn with_policy(self, policy: FetchPolicy) -> Self {
        Self {
            published: Arc::new(Published::new(policy)),
            policy,
            ..self
        }
    }

    /// The schedule of fetches.
    pub fn policy(&self) -> &FetchPolicy {
        &self.policy
    }

    pub(super) fn url(&self) -> &Url {
        &self.endpoint.url
    }

    /// The keys of the last successful fetch; empty before.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.published.keys()
    }

    /// Whether any fetch has succeeded.
    pub(super) fn is_known(&self) -> bool {
        self.published.is_known()
    }

    /// Sets the configured keys that a token may be signed with.
    pub(super) fn stand_beside(&self, keys: Arc<Keys>) {
        self.published.stand_beside(keys);
    }

    /// Asks for keys that are newer than this moment, and waits for the fetch if one may begin.
    pub(super) async fn news(&self) -> News {
        self.published.news().await
    }

    /// Fetches the keys at once, then on the schedule of [`FetchPolicy`], and whenever a token
    /// names an unknown key; a failed fetch keeps the old keys.
    ///
    /// One task has to run this future; a second future waits until the first is dropped. While no
    /// task runs it, a client whose token needs newer keys is refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends a running fetch, and changes no keys.
    pub async fn refresh(&self, app: &App<Tokio>) -> Infallible {
        let fetch = || self.fetch(app.rt());
        self.published.keep(app, self.url(), fetch).await
    }

    /// Lets [`refresh`](Self::refresh) fetch the keys at once, or after the running fetch.
    pub fn fetch_again(&self) {
        self.published.order();
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
