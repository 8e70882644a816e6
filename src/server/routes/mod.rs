//! The routes: `/`, `/healthz`, `/ws/{service}`, `/ws/{kind}/{key}`.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::rejection::{NestedPathRejection, PathRejection};
use axum::extract::{ConnectInfo, NestedPath, Path, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::future::{Either, select};

use crate::admission::authorize::{Admitted, Denied};
use crate::app::App;
use crate::bus::Room;
use crate::client::identity::Token;
use crate::client::peer::Peer;
use crate::limits::TOKEN_BYTES_MAX;
use crate::metrics::RefuseReason;
use crate::refusal::Wrong;
use crate::registry::JoinError;
use crate::rt::Runtime;
use crate::server::auth;
use crate::server::cancel::{Cancelled, Canceller};
use crate::server::discard::discard;
use crate::server::forwarded::client_address;
use crate::server::gate::{self, Audience, Gate};
use crate::server::handshake::{Handshake, HandshakeError};
use crate::server::index_page;
use crate::server::routes::refusal::Refusal;
use crate::server::upgrade::{Kind, Upgrade};
use crate::server::wish::{BadWish, Wishes};
use crate::session::{Admission, Asking};

/// The routes of an application, for an axum server of your own.
///
/// Clients are served as by [`serve`](super::serve), but the accept loop, its limits and the drain
/// are yours: use [`App::drain`] and [`App::drained`] for the drain. Limits by address need the
/// address: serve with `into_make_service_with_connect_info::<SocketAddr>()`.
///
/// The routes do not know the address on which your listener accepted a connection, and so accept
/// requests for any host. If the address may be loopback, refuse requests for hosts that are not
/// yours ([`Builder::hosts`](crate::app::Builder::hosts) says why).
pub fn routes<R: Runtime>(app: App<R>) -> Router {
    Shell::new(app, Cancelled::never()).router()
}

/// The state of the routes.
pub(super) struct Shell<R: Runtime> {
    app: App<R>,
    end: Cancelled,
}

impl<R: Runtime> Clone for Shell<R> {
    fn clone(&self) -> Self {
        Self {
            app: self.app.clone(),
            end: self.end.clone(),
        }
    }
}

impl<R: Runtime> Shell<R> {
    fn new(app: App<R>, end: Cancelled) -> Self {
        Self { app, end }
    }

    /// A shell whose connections and sessions end when the returned [`Canceller`] is dropped.
    pub(super) fn with_end(app: App<R>) -> (Canceller, Self) {
        let (alive, end) = Cancelled::new();
        (alive, Self::new(app, end))
    }

    pub(super) fn app(&self) -> &App<R> {
        &self.app
    }

    pub(super) fn end(&self) -> Cancelled {
        self.end.clone()
    }

    pub(super) fn router(&self) -> Router {
        let routes = Router::new()
            .route("/", get(index))
            .route("/healthz", get(async || "ok\n"))
            // axum would answer HEAD like GET without the body, but an upgrade has no body.
            .route("/ws/{service}", upgrade(join_service))
            .route("/ws/{kind}/", upgrade(join_no_key))
            .route("/ws/{kind}/{key}", upgrade(join_room))
            .fallback(not_found);
        Gate::before(&self.app, Audience::Clients, routes).with_state(self.clone())
    }
}

async fn index<R: Runtime>(
    State(shell): State<Shell<R>>,
    nested: Result<NestedPath, NestedPathRejection>,
    headers: HeaderMap,
) -> Response {
    let nest = nested.as_ref().map_or("", NestedPath::as_str);
    index_page::index(shell.app.registry(), nest, &headers)
}

async fn only_get() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response()
}

async fn not_found() -> Response {
    let text = "there is nothing here; / tells what is served\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Serves GET by this handler, and refuses other methods.
fn upgrade<R, H, T>(join: H) -> MethodRouter<Shell<R>>
where
    R: Runtime,
    H: Handler<T, Shell<R>>,
    T: 'static,
{
    // axum would answer HEAD like GET without the body, but an upgrade has no body.
    get(join).head(only_get).fallback(only_get)
}

/// Admits a client to a service.
async fn join_service<R: Runtime>(
    State(shell): State<Shell<R>>,
    service: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that is not UTF-8 names no service.
    let service = service.map_err(|_| JoinError::Unknown);
    let registry = shell.app.registry();
    let room = service.and_then(|Path(service)| registry.room(&service, None));
    join(shell, room, request).await
}

/// Refuses a client whose path has an empty key.
async fn join_no_key<R: Runtime>(
    State(shell): State<Shell<R>>,
    kind: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let kind = kind.map_err(|_| JoinError::Unknown);
    let registry = shell.app.registry();
    let room = kind.and_then(|Path(kind)| registry.room(&kind, Some("")));
    join(shell, room, request).await
}

/// Admits a client to a room.
async fn join_room<R: Runtime>(
    State(shell): State<Shell<R>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let path = path.map_err(|_| JoinError::Unknown);
    let registry = shell.app.registry();
    let room = path.and_then(|Path((kind, key))| registry.room(&kind, Some(&key)));
    join(shell, room, request).await
}

/// Admits a client and upgrades its connection.
async fn join<R: Runtime>(
    shell: Shell<R>,
    room: Result<Room, JoinError>,
    mut request: Request,
) -> Response {
    let is_foreign = !is_allowed(&shell.app, &request);
    let handshake = Handshake::parse(request.version(), request.headers());
    let room = match room {
        Ok(room) => room,
        Err(error) => {
            let refusal = Refusal::of_admission(&shell.app, &error.into());
            let handshake = handshake.ok().filter(|_| !is_foreign);
            return refusal.answer(&shell.app, handshake, request);
        }
    };
    if is_foreign {
        shell.app.metrics().refused.add(RefuseReason::Origin);
        gate::tell(&shell.app, Audience::Clients, Wrong::Origin, &request);
        return (StatusCode::FORBIDDEN, FOREIGN).into_response();
    }
    let handshake = match handshake {
        Ok(handshake) if shell.app.limits().compress_bytes_min.is_some() => handshake,
        Ok(handshake) => handshake.without_extensions(),
        Err(error) => return no_handshake(&shell.app, error, request),
    };
    let wishes = match wishes(&shell.app, &room, &request) {
        Ok(wishes) => wishes,
        Err(error) => {
            let refusal = Refusal::of_wish(error);
            return refusal.answer(&shell.app, Some(handshake), request);
        }
    };
    let client = Newcomer {
        token: auth::find(request.headers(), request.uri()),
        peer: peer(&shell.app, &request),
        asking: Asking {
            subprotocol: handshake.subprotocol(),
            wish: wishes.messages,
            join_leave: wishes.join_leave,
        },
    };
    let admission = match admit(&shell.app, &room, client).await {
        Ok(admission) => admission,
        Err(refusal) => return refusal.answer(&shell.app, Some(handshake), request),
    };
    let admission = admission.compressing(handshake.deflate());
    let upgrade = hyper::upgrade::on(&mut request);
    let kind = request.extensions().get::<Kind<R>>().copied();
    let task = Box::new(Upgrade::new(admission, shell.end())).run(upgrade, kind);
    shell.app.rt().spawn(Box::pin(task));
    handshake.into_response()
}

/// The wishes of the request. In a kind without a history and notices the query is the service's
/// alone.
fn wishes<R: Runtime>(app: &App<R>, room: &Room, request: &Request) -> Result<Wishes, BadWish> {
    let policies = app.policies();
    match policies.service(room.kind()) {
        Some(kind) => Wishes::read(request.uri().query().unwrap_or_default(), kind),
        None => Ok(Wishes::default()),
    }
}

/// A client before its admission.
struct Newcomer {
    token: Option<Token>,
    peer: Peer,
    asking: Asking,
}

/// Asks whether the client may join, and admits it.
async fn admit<R: Runtime>(
    app: &App<R>,
    room: &Room,
    client: Newcomer,
) -> Result<Admission<R>, Refusal> {
    let Newcomer {
        token,
        mut peer,
        asking,
    } = client;
    let admitted = authorize(app, room, token).await;
    let admitted = admitted.map_err(|denied| Refusal::of_client(app, denied))?;
    (peer.identity, peer.grant) = (admitted.identity, admitted.grant);
    let admitted = Admission::request_wishing(app, room, peer, asking);
    admitted.map_err(|error| Refusal::of_admission(app, &error))
}

/// Reports the error of a request, and discards its body, which may still be arriving.
fn no_handshake<R: Runtime>(app: &App<R>, error: HandshakeError, request: Request) -> Response {
    if error == HandshakeError::Body {
        let rt = app.rt();
        rt.spawn(Box::pin(discard(request.into_body(), rt.clone())));
    }
    error.into_response()
}

/// Asks the application whether the client may join.
async fn authorize<R: Runtime>(
    app: &App<R>,
    room: &Room,
    token: Option<Token>,
) -> Result<Admitted, Denied> {
    let is_long = |token: &Token| token.reveal().len() > TOKEN_BYTES_MAX;
    if token.as_ref().is_some_and(is_long) {
        return Err(Denied::Unauthorized);
    }
    let deadline = app.rt().now() + app.limits().handshake_timeout;
    match select(app.admit(room, token), app.rt().sleep_until(deadline)).await {
        Either::Left((decision, _)) => decision,
        Either::Right(((), _)) => Err(Denied::UNDECIDED),
    }
}

const FOREIGN: &str = "pages of this origin may not connect here: `origins` does not list it\n";

/// Whether the page's origin may connect; a client that is not a browser sends no origin.
fn is_allowed<R: Runtime>(app: &App<R>, request: &Request) -> bool {
    let host = gate::host(request).map(ToString::to_string);
    let origins = &app.policies().origins;
    gate::origin(request.headers()).is_none_or(|origin| origins.allow(origin, host.as_deref()))
}

/// The facts that the request tells about the client, without its identity and its rights.
fn peer<R: Runtime>(app: &App<R>, request: &Request) -> Peer {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let connection = connection.map(|ConnectInfo(address)| address.ip());
    Peer {
        address: client_address(connection, request.headers(), &app.limits().proxies),
        query: auth::query_without_token(request.uri()).map(Into::into),
        ..Peer::default()
    }
}

mod refusal;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
