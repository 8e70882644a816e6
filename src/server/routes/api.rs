//! `/api/{method}`: the calls of backends, as requests of HTTP.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method as Verb, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use super::entrance;
use crate::api::{self, Answer, BadCall, Call, Fault, Reply, openapi};
use crate::app::App;
use crate::caller::{Method, Place, Rights, Turned};
use crate::rt::{Instant, Runtime};
use crate::server::caller::{self, Caller};
use crate::server::deadline::Deadline;
use crate::server::forwarded::client_address;
use crate::server::places::Mark;

/// The header by which a caller asks for the statuses of HTTP, and its value.
const ERROR_MODE: (&str, &str) = ("x-centrifugo-error-mode", "transport");

/// The routes of the API.
pub(in crate::server) fn api<R: Runtime, S>(app: &App<R>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/api", any(by_body::<R>))
        .route("/api/", any(by_body::<R>))
        .route("/api/openapi.json", any(document::<R>))
        .route("/api/{*method}", any(by_path::<R>))
        .with_state(app.clone())
}

/// The place of the name of a method.
enum Named {
    /// The body has it, beside the parameters.
    InBody,
    /// The path has it.
    InPath(String),
}

async fn by_path<R: Runtime>(
    State(app): State<App<R>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    serve(&app, Named::InPath(method), request).await
}

async fn by_body<R: Runtime>(State(app): State<App<R>>, request: Request) -> Response {
    serve(&app, Named::InBody, request).await
}

/// The description of the API, for a caller with a key, whatever its rights.
async fn document<R: Runtime>(State(app): State<App<R>>, request: Request) -> Response {
    let verb = request.method();
    let refusal = match known(&app, &request) {
        // hyper leaves the body out of the answer to HEAD.
        Ok(_) if verb == Verb::GET || verb == Verb::HEAD => None,
        Ok(_) => Some(Refusal::NOT_GET),
        Err(refusal) => Some(refusal),
    };
    match refusal {
        None => json(StatusCode::OK, &openapi::document(&app.limits().api)),
        Some(refusal) => {
            entrance::discard_body(&app, request);
            refusal.answer(&app)
        }
    }
}

async fn serve<R: Runtime>(app: &App<R>, named: Named, request: Request) -> Response {
    let (rights, method) = match enter(app, &named, &request) {
        Ok(entered) => entered,
        Err(refusal) => {
            entrance::discard_body(app, request);
            return refusal.answer(app);
        }
    };
    let Some(place) = app.callers().enter(&app.limits().api) else {
        entrance::discard_body(app, request);
        return Refusal::BUSY.answer(app);
    };
    let wants_status = wants_status(request.headers());
    let done = call(app, &rights, method, request).await;
    let response = match done {
        Ok(done) => answer(done, wants_status),
        Err(refusal) => refusal.answer(app),
    };
    drop::<Place>(place);
    response
}

/// Looks at the head of a request: the rights of its caller, and the method if the path has it.
fn enter<R: Runtime>(
    app: &App<R>,
    named: &Named,
    request: &Request,
) -> Result<(Arc<Rights>, Option<Method>), Refusal> {
    let rights = known(app, request)?;
    let method = match named {
        Named::InBody => None,
        Named::InPath(name) => Some(name.parse().map_err(|_| Refusal::UNKNOWN)?),
    };
    if request.method() != Verb::POST {
        return Err(Refusal::NOT_POST);
    }
    Ok((rights, method))
}

/// The rights of the caller of a request.
fn known<R: Runtime>(app: &App<R>, request: &Request) -> Result<Arc<Rights>, Refusal> {
    if caller::has_key_in_query(request) {
        return Err(Refusal::KEY_IN_QUERY);
    }
    match caller::of(app, request) {
        Caller::Known(rights) => Ok(rights),
        Caller::NoKey => Err(Refusal::NO_KEY),
        Caller::WrongKey => Err(wrong_key(app, request)),
    }
}

/// The refusal of a wrong key, which is counted for the address of its caller.
///
/// A right key is served from any address, also from one behind which somebody guesses.
fn wrong_key<R: Runtime>(app: &App<R>, request: &Request) -> Refusal {
    let limits = app.limits();
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let connection = connection.map(|ConnectInfo(address)| address.ip());
    let address = client_address(connection, request.headers(), &limits.proxies);
    let now = app.rt().now();
    let is_in_rate = app.callers().is_in_rate(address, &limits.api, now);
    if is_in_rate {
        Refusal::WRONG_KEY
    } else {
        Refusal::TOO_MANY_KEYS
    }
}

/// Reads the body of a request, and does what it calls.
async fn call<R: Runtime>(
    app: &App<R>,
    rights: &Rights,
    method: Option<Method>,
    request: Request,
) -> Result<Result<Answer, Fault>, Refusal> {
    let most = app.limits().api.body_bytes;
    let deadline = request.extensions().get::<Deadline>().cloned();
    // A listener of an embedder keeps its connections itself.
    let connection = request.extensions().get::<Mark>().cloned();
    let body = body(request.into_body(), most).await?;
    if app.callers().has_stopped() {
        return Err(Refusal::STOPPED);
    }
    if let Some(connection) = connection {
        connection.allow_keeping();
    }
    let call = match method {
        Some(method) => Call::parse(method, &body).map_err(Refusal::bad)?,
        None => Call::parse_named(&body)
            .map_err(Refusal::bad)?
            .ok_or(Refusal::UNKNOWN)?,
    };
    if let Some(deadline) = deadline.filter(|_| call.rpcs() > 0) {
        deadline.extend(answered_by(app, &call));
    }
    let done = api::call(app, rights, &call).await;
    let (key, method) = (rights.name(), call.method().name());
    let error = done.as_ref().err().map(|fault| fault.code);
    tracing::debug!(key, method, error, "a call");
    Ok(done)
}

/// The time by which a call has its answers of services, and its caller has taken the response.
fn answered_by<R: Runtime>(app: &App<R>, call: &Call) -> Instant {
    let limits = app.limits();
    let rpcs = u32::try_from(call.rpcs()).unwrap_or(u32::MAX);
    let answered = limits.request_timeout.saturating_mul(rpcs);
    app.rt().now() + answered + limits.handshake_timeout
}

async fn body(body: Body, most: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_long(most)),
        Err(_) => Err(Refusal::CUT),
    }
}

/// Whether a caller wants a status of HTTP for each fault.
fn wants_status(headers: &HeaderMap) -> bool {
    let (name, value) = ERROR_MODE;
    let mode = headers.get(name);
    mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

fn answer(done: Result<Answer, Fault>, wants_status: bool) -> Response {
    match done {
        // A batch has no `result` around it, as there.
        Ok(Answer::Batch(replies)) => json(StatusCode::OK, &replies),
        Err(fault) if wants_status => {
            let status = StatusCode::from_u16(fault.status());
            json(status.unwrap_or(StatusCode::BAD_REQUEST), &fault)
        }
        done => json(StatusCode::OK, &Reply::from(done)),
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    let text = serde_json::to_string(value).expect("an answer is JSON");
    (status, media_type, text).into_response()
}

/// A request that comes to no command, and why.
struct Refusal {
    status: StatusCode,
    reason: Turned,
    words: Cow<'static, str>,
}

impl Refusal {
    const BUSY: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        Turned::Busy,
        "as many requests are being served as may be",
    );
    const CUT: Self = Self::new(
        StatusCode::BAD_REQUEST,
        Turned::BadBody,
        "the body has not come whole",
    );
    const KEY_IN_QUERY: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        Turned::Unauthorized,
        "a key never comes in a query, which proxies log: send `X-API-Key`",
    );
    const NOT_GET: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Turned::UnknownMethod,
        "this document is read by GET",
    );
    const NOT_POST: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Turned::NotPost,
        "calls are POST",
    );
    const NO_KEY: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        Turned::Unauthorized,
        "send a key, as `X-API-Key` or as `Authorization: apikey`",
    );
    const STOPPED: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        Turned::Busy,
        "the server is going away",
    );
    const TOO_MANY_KEYS: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        Turned::WrongKeys,
        "too many wrong keys come from this address",
    );
    const UNKNOWN: Self = Self::new(
        StatusCode::NOT_FOUND,
        Turned::UnknownMethod,
        "there is no method of this name",
    );
    const WRONG_KEY: Self = Self::new(
        StatusCode::UNAUTHORIZED,
        Turned::Unauthorized,
        "there is no such key",
    );

    const fn new(status: StatusCode, reason: Turned, words: &'static str) -> Self {
        Self {
            status,
            reason,
            words: Cow::Borrowed(words),
        }
    }

    fn bad(error: BadCall) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: Turned::BadBody,
            words: error.to_string().into(),
        }
    }

    fn too_long(most: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: Turned::BodyTooLong,
            words: format!("a body has at most {most} bytes").into(),
        }
    }

    /// The response, which is counted here.
    fn answer<R: Runtime>(self, app: &App<R>) -> Response {
        app.callers().counters.turned(self.reason);
        let words = format!("{}\n", self.words);
        let mut response = (self.status, words).into_response();
        let field = match self.status {
            StatusCode::METHOD_NOT_ALLOWED if self.reason == Turned::NotPost => {
                Some((header::ALLOW, "POST"))
            }
            StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD")),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Some((header::RETRY_AFTER, "1"))
            }
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "apikey")),
            _ => None,
        };
        if let Some((name, value)) = field {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
