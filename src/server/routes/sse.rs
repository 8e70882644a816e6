//! `/sse/`: streams a service or room to a client as server-sent events.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::app::App;
use crate::bus::Room;
use crate::registry::JoinError;
use crate::rt::Runtime;
use crate::server::deadline::Deadline;
use crate::server::epilogue::Epilogue;
use crate::server::gate;
use crate::server::handshake::has_body;
use crate::server::places::Mark;
use crate::server::routes::asked::Asked;
use crate::server::routes::entrance::{self, Newcomer};
use crate::server::routes::refusal::Refusal;
use crate::server::routes::shell::Shell;
use crate::server::sse;
use crate::server::upgrade::Upgrade;
use crate::server::wish::Wishes;
use crate::session::{Admission, Asking, Subprotocol};

/// The headers of a stream; the last two keep proxies from changing it or holding it back.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// The answer to a request with a body, which would keep hyper from noticing that the client is
/// gone.
const BODY: &str = "a request for events has no body\n";

/// The methods that are served here.
const METHODS: HeaderValue = HeaderValue::from_static("GET, OPTIONS");

/// The headers that a page of another origin may send.
const MAY_SEND: HeaderValue = HeaderValue::from_static("Authorization, Last-Event-ID");

/// The headers that a page of another origin may read.
const MAY_READ: HeaderValue = HeaderValue::from_static("Retry-After");

/// The time in seconds for which a browser need not ask again what a page may send.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// Admits a client and streams its events.
pub(super) async fn join<R: Runtime>(
    State(shell): State<Shell<R>>,
    Asked(room): Asked,
    request: Request,
) -> Response {
    let app = shell.app();
    if is_foreign(app, &request) {
        return unkept(entrance::foreign(app, &request));
    }
    let page = page(&request);
    if has_body(request.headers()) {
        entrance::discard_body(app, request);
        return shown_to(page, (StatusCode::BAD_REQUEST, BODY).into_response());
    }
    let admission = match newcomer(app, room, &request) {
        Ok((room, client)) => entrance::admit(app, &room, client).await,
        Err(refusal) => Err(refusal),
    };
    let response = match admission {
        Ok(admission) => {
            let body = stream(&shell, admission, request.extensions()).await;
            (HEADERS, Body::new(body)).into_response()
        }
        Err(refusal) => refusal.answer_events(over(app, request.headers())),
    };
    shown_to(page, response)
}

/// Tells a browser what a page may send.
pub(super) async fn preflight<R: Runtime>(
    State(shell): State<Shell<R>>,
    request: Request,
) -> Response {
    if is_foreign(shell.app(), &request) {
        return unkept(entrance::foreign(shell.app(), &request));
    }
    let headers = [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, MAY_SEND),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    let response = (StatusCode::NO_CONTENT, headers).into_response();
    shown_to(page(&request), response)
}

/// The answer to other methods. axum would answer HEAD like GET, with a session and no reader.
pub(super) async fn only_get() -> Response {
    unkept((StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, METHODS)]).into_response())
}

/// A stream that tells when to come back, and is over; for an `EventSource` alone, which says that
/// it accepts events and nothing else.
fn over<R: Runtime>(app: &App<R>, headers: &HeaderMap) -> Option<Response> {
    let accepts = headers.get(header::ACCEPT)?;
    let is_source = accepts == Subprotocol::Events.name();
    is_source.then(|| (HEADERS, sse::retry(app.rt())).into_response())
}

/// Whether a page of a foreign origin has caused the request. A page that asks without CORS, as for
/// an image, cannot read the events, but would have its visitor take a place; a browser sends no
/// origin then.
fn is_foreign<R: Runtime>(app: &App<R>, request: &Request) -> bool {
    let headers = request.headers();
    let is_hidden = gate::origin(headers).is_none() && gate::is_cross_site(headers);
    is_hidden || !entrance::is_allowed(app, request)
}

/// The origin of the page that has caused the request.
fn page(request: &Request) -> Option<HeaderValue> {
    request.headers().get(header::ORIGIN).cloned()
}

/// Keeps caches from the response: one that is kept would stop each `EventSource` for good.
fn unkept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let no_store = || HeaderValue::from_static("no-store");
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert_with(no_store);
    response
}

/// Lets a page read the response, if a page has asked.
fn shown_to(page: Option<HeaderValue>, response: Response) -> Response {
    let mut response = unkept(response);
    let headers = response.headers_mut();
    if let Some(origin) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, MAY_READ);
    }
    response
}

/// The room and the client of a request.
fn newcomer<R: Runtime>(
    app: &App<R>,
    room: Result<Room, JoinError>,
    request: &Request,
) -> Result<(Room, Newcomer), Refusal> {
    let room = room.map_err(|error| Refusal::of_admission(app, &error.into()))?;
    let query = request.uri().query().unwrap_or_default();
    let read = |kind: &_| Wishes::of_events(query, request.headers(), kind);
    let wishes = entrance::wishes(app, &room, read)?;
    let asking = Asking {
        subprotocol: Subprotocol::Events,
        wish: wishes.messages,
        join_leave: wishes.join_leave,
    };
    let client = Newcomer::of(app, request, asking)?;
    Ok((room, client))
}

/// Spawns the session, whose events are the body of the response, and has the connection count as
/// its session from now on: it holds no slot for handshakes, and ends when the session does.
async fn stream<R: Runtime>(
    shell: &Shell<R>,
    admission: Admission<R>,
    connection: &Extensions,
) -> sse::EventBody {
    let sse::EventStream {
        socket,
        mut body,
        over,
    } = sse::stream(shell.app().rt());
    // A listener of an embedder has none of the three.
    let epilogue = connection.get::<Epilogue>().cloned();
    let deadline = connection.get::<Deadline>().cloned();
    if let Some(mark) = connection.get::<Mark>() {
        mark.release();
        body.over(mark.clone());
    }
    Upgrade::new(admission, shell.end()).serve_on(socket);
    if let Some(epilogue) = epilogue
        && let Some(hold) = body.take_hold()
    {
        epilogue.leave(async move { drop(hold) }.boxed());
    }
    if let Some(deadline) = deadline {
        deadline.follow(over).await;
    }
    body
}
