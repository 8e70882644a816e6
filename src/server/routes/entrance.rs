//! The way of a request for a service or room to the client's admission, whatever the response is.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::{Either, select};

use crate::admission::authorize::{Admitted, Denied};
use crate::app::App;
use crate::bus::Room;
use crate::client::identity::Token;
use crate::client::peer::Peer;
use crate::limits::{ServicePolicy, TOKEN_BYTES_MAX};
use crate::metrics::RefuseReason;
use crate::refusal::Wrong;
use crate::rt::Runtime;
use crate::server::auth;
use crate::server::discard::discard;
use crate::server::forwarded::client_address;
use crate::server::gate::{self, Audience};
use crate::server::routes::refusal::Refusal;
use crate::server::wish::{BadWish, Wishes};
use crate::session::{Admission, Asking};

/// A client before its admission.
pub(super) struct Newcomer {
    token: Option<Token>,
    peer: Peer,
    asking: Asking,
}

impl Newcomer {
    /// The client of a request.
    ///
    /// # Errors
    ///
    /// The refusal of a client whose token is where none may be.
    pub(super) fn of<R: Runtime>(
        app: &App<R>,
        request: &Request,
        asking: Asking,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            token: token(app, request)?,
            peer: peer(app, request),
            asking,
        })
    }
}

/// The token that the client shows.
fn token<R: Runtime>(app: &App<R>, request: &Request) -> Result<Option<Token>, Refusal> {
    if let Some(token) = auth::in_headers(request.headers()) {
        return Ok(Some(token));
    }
    match auth::in_query(request.uri()) {
        Some(_) if !app.policies().query_token => Err(Refusal::of_query_token(app)),
        token => Ok(token),
    }
}

/// The wishes of the request. In a kind without a history and notices the query is the service's
/// alone.
pub(super) fn wishes<R: Runtime>(
    app: &App<R>,
    room: &Room,
    read: impl FnOnce(&ServicePolicy) -> Result<Wishes, BadWish>,
) -> Result<Wishes, Refusal> {
    let policies = app.policies();
    let kind = policies.service(room.kind());
    let wishes = kind.map(read).transpose().map_err(Refusal::of_wish)?;
    Ok(wishes.unwrap_or_default())
}

/// Asks whether the client may join, and admits it.
pub(super) async fn admit<R: Runtime>(
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

/// Asks the application whether the client may join.
pub(super) async fn authorize<R: Runtime>(
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
pub(super) fn is_allowed<R: Runtime>(app: &App<R>, request: &Request) -> bool {
    let host = gate::host(request).map(ToString::to_string);
    let origins = &app.policies().origins;
    gate::origin(request.headers()).is_none_or(|origin| origins.allow(origin, host.as_deref()))
}

/// The answer to a page that may not connect, which is counted here.
pub(super) fn foreign<R: Runtime>(app: &App<R>, request: &Request) -> Response {
    app.metrics().refused.add(RefuseReason::Origin);
    gate::tell(app, Audience::Clients, Wrong::Origin, request);
    (StatusCode::FORBIDDEN, FOREIGN).into_response()
}

/// Discards the body of a request, which may still be arriving.
pub(super) fn discard_body<R: Runtime>(app: &App<R>, request: Request) {
    let rt = app.rt();
    rt.spawn(Box::pin(discard(request.into_body(), rt.clone())));
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
