//! One request to another server: `http://` in the clear, `https://` through TLS.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
#[cfg(feature = "otel")]
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Request, Response, Uri, header};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

#[cfg(feature = "tls")]
use super::Roots;
use super::dial::dial;
use crate::rt::{Clock, Instant, Tokio};

/// Longest time from the name lookup to the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest body of a response, in bytes.
const BYTES_MAX: usize = 256 * 1024;

/// Maximum number of a host's addresses that are tried.
const ADDRESSES_MAX: usize = 8;

/// The `User-Agent`: some firewalls refuse requests without one.
const PRODUCT: &str = concat!("busline/", env!("CARGO_PKG_VERSION"));

/// A URL that busline sends requests to: `http://host/path` or `https://host/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

/// The text is not a URL that busline can send requests to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no URL of the kind http://host/path or https://host/path")]
pub struct UrlError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the answer is not usable: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("https needs certificates to trust, and none were given")]
    NoRoots,
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[cfg(feature = "tls")]
    #[error(
        "cannot trust the server: {0}; check that its certificate is for this host, is not \
         expired, and is signed by an authority that is trusted here"
    )]
    Untrusted(std::io::Error),
}

/// The server for requests, and the certificates that it is verified with.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    #[cfg(feature = "tls")]
    pub(super) roots: Option<Roots>,
}

impl Endpoint {
    /// A server that is reached in the clear; `https` needs [`with_roots`](Self::with_roots).
    pub(super) fn new(url: Url) -> Self {
        Self {
            url,
            #[cfg(feature = "tls")]
            roots: None,
        }
    }

    /// Verifies the server with these root certificates.
    #[cfg(feature = "tls")]
    pub(super) fn with_roots(self, roots: Option<Roots>) -> Self {
        Self { roots, ..self }
    }

    /// Sends a request, with the path and the host of the URL, and returns the whole response.
    ///
    /// Redirects are not followed: the configuration alone decides which server is asked.
    ///
    /// # Errors
    ///
    /// When there is no response in time, the response is too large, or the server's identity is
    /// not verified.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn fetch(
        &self,
        rt: &Tokio,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, FetchError> {
        let deadline = rt.now() + TIMEOUT;
        let within = Within { rt, deadline };
        let answer = async {
            let found = lookup_host((self.url.host.as_str(), self.url.port)).await?;
            let addresses = found.take(ADDRESSES_MAX).collect();
            let request = self.url.aim(request);
            self.ask_any(within, addresses, request).await
        };
        within.limit(answer).await
    }

    /// Asks one address after the other, each for its share of the time, until one responds.
    ///
    /// An address that accepts the connection and does not respond is treated like an address that
    /// does not accept. But a request with side effects goes to no further address, as the first
    /// server may have acted on it.
    async fn ask_any(
        &self,
        within: Within<'_>,
        mut addresses: Vec<SocketAddr>,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, FetchError> {
        loop {
            let (address, stream) = dial(&addresses, TcpStream::connect).await?;
            let own = within.share(addresses.len());
            addresses.retain(|other| *other != address);
            let error = match own.limit(self.open(stream)).await {
                Err(error) => error,
                Ok(stream) => match own.limit(ask(stream, request.clone())).await {
                    Err(error) if error.is_silence() && request.method().is_safe() => error,
                    answer => return answer,
                },
            };
            if addresses.is_empty() {
                return Err(error);
            }
            tracing::debug!(url = %self.url, %address, %error, "the next address is asked");
        }
    }

    /// Prepares a connection for requests: with TLS for `https`.
    async fn open(&self, stream: TcpStream) -> Result<Box<dyn Io>, FetchError> {
        if !self.url.is_secure {
            return Ok(Box::new(stream));
        }
        #[cfg(feature = "tls")]
        if let Some(roots) = &self.roots {
            let stream = roots.connect(&self.url.host, stream).await;
            return Ok(Box::new(stream.map_err(FetchError::Untrusted)?));
        }
        Err(FetchError::NoRoots)
    }
}

/// A connection with or without TLS.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A deadline on a clock.
#[derive(Clone, Copy)]
struct Within<'a> {
    rt: &'a Tokio,
    deadline: Instant,
}

impl Within<'_> {
    fn left(self) -> Duration {
        self.deadline.saturating_since(self.rt.now())
    }

    /// The share of one of `addresses` addresses in the remaining time.
    fn share(self, addresses: usize) -> Self {
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
        let deadline = self.rt.now() + self.left() / addresses;
        Self { deadline, ..self }
    }

    /// Runs the future until the deadline; [`FetchError::Slow`] if it does not complete in time.
    async fn limit<T>(
        self,
        future: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let output = timeout(self.left(), future).await;
        output.unwrap_or(Err(FetchError::Slow))
    }
}

impl FetchError {
    /// Whether the server did not respond.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Slow)
    }
}

/// Sends a request over a connection of its own.
async fn ask(stream: Box<dyn Io>, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let answer = pin!(async {
        let (head, body) = sender
            .send_request(request.map(Full::new))
            .await?
            .into_parts();
        let body = Limited::new(body, BYTES_MAX).collect().await;
        let body = body.map_err(FetchError::Body)?.to_bytes();
        Ok(Response::from_parts(head, body))
    });
    // Poll the connection, which makes progress only when it is polled. The end of the connection
    // is ignored: if there is no response by then, `answer` reports the error.
    let connection = pin!(async {
        drop(connection.await);
        pending::<Infallible>().await
    });
    match select(answer, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((never, _)) => match never {},
    }
}

impl Url {
    /// Whether requests use TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The URL, with this path if it has none.
    #[cfg(feature = "otel")]
    pub(super) fn or_path(self, path: &'static str) -> Self {
        if self.uri.path() != "/" || self.uri.query().is_some() {
            return self;
        }
        let mut parts = self.uri.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let uri = Uri::from_parts(parts).expect("it has all the parts it had before");
        Self { uri, ..self }
    }

    /// Sets the path, the `Host` and the `User-Agent` of a request to this URL.
    fn aim(&self, request: Request<Bytes>) -> Request<Bytes> {
        let (mut head, body) = request.into_parts();
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = Uri::from_str(path).expect("the path of a URL is a URL");
        let host = self.uri.authority().map_or("", |host| host.as_str());
        let host = HeaderValue::from_str(host).expect("a host that was parsed is a header's value");
        head.headers.insert(header::HOST, host);
        let program = user_agent(head.headers.get(header::USER_AGENT));
        head.headers.insert(header::USER_AGENT, program);
        Request::from_parts(head, body)
    }
}

/// The program's name, followed by the name of the component that sends the request.
fn user_agent(part: Option<&HeaderValue>) -> HeaderValue {
    let part = part.and_then(|part| part.to_str().ok());
    let both = part.and_then(|part| HeaderValue::from_str(&format!("{PRODUCT} {part}")).ok());
    both.unwrap_or(HeaderValue::from_static(PRODUCT))
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError)?;
        let (is_secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            Some(_) | None => return Err(UrlError),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(UrlError)?;
        // A URL with a password is refused: the password would appear in logs.
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(UrlError);
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(port),
            is_secure,
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
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_url_names_a_host_and_nothing_secret() {
        for (text, host, port, is_secure) in [
            ("http://id.example/keys?a=1", "id.example", 80, false),
            ("http://[::1]:8080/", "::1", 8080, false),
            ("http://localhost:81", "localhost", 81, false),
            ("https://id.example/keys", "id.example", 443, true),
            ("https://id.example:8443", "id.example", 8443, true),
        ] {
            let url: Url = text.parse().expect(text);
            let read = (url.host.as_str(), url.port, url.is_secure());
            assert_eq!(read, (host, port, is_secure));
            assert_eq!(
                url.to_string().trim_end_matches('/'),
                text.trim_end_matches('/')
            );
        }
        for text in [
            "",
            "/keys",
            "ftp://a/",
            "http://",
            "https://",
            "http://u:p@host/",
            "https://u:p@host/",
            "id.example",
        ] {
            assert_eq!(text.parse::<Url>(), Err(UrlError), "{text}");
        }
    }

    #[test]
    fn a_request_goes_to_the_url_whatever_it_says_itself() {
        let url: Url = "https://id.example:8443/keys?a=1".parse().expect("a URL");
        let request = Request::get("http://elsewhere/").header(header::HOST, "elsewhere");
        let aimed = url.aim(request.body(Bytes::new()).expect("a request"));
        assert_eq!(aimed.uri(), "/keys?a=1");
        assert_eq!(aimed.headers()[header::HOST], "id.example:8443");
    }

    #[test]
    fn every_request_says_which_program_asks() {
        let url: Url = "https://id.example/keys".parse().expect("a URL");
        let asked = |request: Request<Bytes>| {
            let aimed = url.aim(request);
            let mut said = aimed.headers().get_all(header::USER_AGENT).iter();
            let text = said.next().expect("it says so").to_str().expect("text");
            assert_eq!(said.next(), None, "once");
            text.to_owned()
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(asked(get()), format!("busline/{version}"));
        let mut of_part = get();
        let part = HeaderValue::from_static("OTel/1.0");
        of_part.headers_mut().insert(header::USER_AGENT, part);
        assert_eq!(asked(of_part), format!("busline/{version} OTel/1.0"));
    }

    async fn listener() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let url = format!("http://{address}/").parse().expect("a URL");
        (listener, Endpoint::new(url))
    }

    fn get() -> Request<Bytes> {
        Request::get("/").body(Bytes::new()).expect("a request")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let (listener, server) = listener().await;
        let fetched = server.fetch(&Tokio::current(), get()).await;
        assert!(matches!(fetched, Err(FetchError::Slow)), "{fetched:?}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_not_taken() {
        for (length, is_taken) in [(BYTES_MAX, true), (BYTES_MAX + 1, false)] {
            let (listener, server) = listener().await;
            let answer = async {
                let (mut stream, _) = listener.accept().await.expect("it is asked");
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let whole = [head.as_bytes(), &vec![b' '; length]].concat();
                // A client may close the connection early.
                drop(stream.write_all(&whole).await);
                stream
            };
            let rt = Tokio::current();
            let (fetched, _stream) = futures::join!(server.fetch(&rt, get()), answer);
            assert_eq!(fetched.is_ok(), is_taken, "{length}: {fetched:?}");
        }
    }

    /// Sends a request to a host with two addresses; the first accepts connections and never
    /// responds.
    async fn ask_two(request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let (silent, _) = listener().await;
        let (other, server) = listener().await;
        let addresses = [&silent, &other].map(|of| of.local_addr().expect("it is bound"));
        let rt = Tokio::current();
        let deadline = rt.now() + TIMEOUT;
        let within = Within { rt: &rt, deadline };
        let ask = within.limit(server.ask_any(within, addresses.into(), request));
        let answer = async {
            let (mut stream, _) = other.accept().await.expect("it is asked");
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("it reads");
            pending::<()>().await;
        };
        match select(pin!(ask), pin!(answer)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => unreachable!("it never ends"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_says_nothing_leaves_the_next_one_its_share_of_the_time() {
        let answer = ask_two(get()).await.expect("the second one answers");
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_heard_is_not_said_to_another_address() {
        let post = Request::post("/").body(Bytes::new()).expect("a request");
        let answer = ask_two(post).await;
        assert!(matches!(answer, Err(FetchError::Slow)), "{answer:?}");
    }

    #[tokio::test]
    async fn without_anybody_to_trust_there_is_no_https() {
        let (listener, _) = listener().await;
        let address = listener.local_addr().expect("it is bound");
        let url = format!("https://{address}/").parse().expect("a URL");
        let fetched = Endpoint::new(url).fetch(&Tokio::current(), get()).await;
        assert!(matches!(fetched, Err(FetchError::NoRoots)), "{fetched:?}");
    }
}
