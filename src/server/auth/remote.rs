//! Keys that somebody publishes under a URL, fetched anew from time to time.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::keys::{KeyError, Keys, Secrets};
use crate::rt::{Clock, Tokio};
use crate::sync::Mutex;

/// Longest time a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer, in bytes.
const BYTES_MAX: usize = 256 * 1024;

/// Longest pause before a fetch is tried again that failed.
const RETRY: Duration = Duration::from_secs(30);

/// A JWKS under a URL; clones share its keys.
#[derive(Clone, Debug)]
pub struct Remote {
    url: Url,
    /// None until they have been fetched.
    keys: Arc<Mutex<Option<Arc<Keys>>>>,
}

/// A URL that keys can be fetched from: `http://host/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
}

/// The text is no URL that keys can be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no URL of the kind http://host/path")]
pub struct UrlError;

/// Why a fetch came to nothing.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the answer is not usable: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[error("the answer is {0}")]
    Status(StatusCode),
}

impl Remote {
    /// Keys that are not fetched yet.
    pub fn new(url: Url) -> Self {
        let keys = Arc::new(Mutex::new(None));
        Self { url, keys }
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
        let url = &self.url;
        loop {
            let fetched = timeout(TIMEOUT, fetch(url)).await;
            let wait = match fetched.unwrap_or(Err(FetchError::Slow)) {
                Ok(keys) => {
                    info!(%url, keys = keys.len(), "keys fetched");
                    let before = self.keys.lock().replace(Arc::new(keys));
                    drop(before);
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
}

async fn fetch(url: &Url) -> Result<Keys, FetchError> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(
            header::HOST,
            url.uri.authority().map_or("", |host| host.as_str()),
        )
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .expect("a path and a host that were parsed make a request");
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
        let bytes = body.map_err(FetchError::Body)?.to_bytes();
        let text = std::str::from_utf8(&bytes).map_err(|_| KeyError::Neither)?;
        Ok(Keys::jwks(text, Secrets::Refused)?)
    };
    let answer = std::pin::pin!(answer);
    // The connection does nothing unless it is polled; its end without an answer is the answer's.
    let connection = std::pin::pin!(async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    });
    match futures::future::select(answer, connection).await {
        futures::future::Either::Left((keys, _)) => keys,
        futures::future::Either::Right((never, _)) => match never {},
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError)?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host
            .filter(|_| uri.scheme_str() == Some("http"))
            .ok_or(UrlError)?;
        // A password would stand in logs.
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(UrlError);
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            uri,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_nothing_secret() {
        for (text, host, port) in [
            ("http://id.example/keys?a=1", "id.example", 80),
            ("http://[::1]:8080/", "::1", 8080),
            ("http://localhost:81", "localhost", 81),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!((url.host.as_str(), url.port), (host, port));
        }
        for text in [
            "",
            "/keys",
            "ftp://a/",
            "http://",
            "http://u:p@host/",
            "id.example",
        ] {
            assert_eq!(text.parse::<Url>(), Err(UrlError), "{text}");
        }
    }
}
