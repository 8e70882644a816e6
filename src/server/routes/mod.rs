//! The routes: `/`, `/healthz`, `/ws/` and `/sse/` with `{service}` or `{kind}/{key}` behind, and
//! `/api/{method}` where it is public.

use axum::Router;
use axum::extract::rejection::NestedPathRejection;
use axum::extract::{NestedPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::rt::Runtime;
use crate::server::gate::{Audience, Gate};
use crate::server::index_page;
use crate::sync::Cancelled;

mod api;
mod asked;
mod entrance;
mod refusal;
mod shell;
mod sse;
mod websocket;

pub(super) use self::api::api;
pub(super) use self::shell::Shell;

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
    router(&Shell::new(app, Cancelled::never()))
}

/// The routes, with their state.
pub(super) fn router<R: Runtime>(shell: &Shell<R>) -> Router {
    // axum would answer HEAD like GET without the body, but an upgrade has no body.
    let websocket = get(websocket::join).head(only_get).fallback(only_get);
    let events = get(sse::join).head(sse::only_get).options(sse::preflight);
    let events = events.fallback(sse::only_get);
    let mut routes = Router::new()
        .route("/", get(index))
        .route("/healthz", get(async || "ok\n"))
        .fallback(not_found);
    for path in ["{service}", "{kind}/", "{kind}/{key}"] {
        routes = routes
            .route(&format!("/ws/{path}"), websocket.clone())
            .route(&format!("/sse/{path}"), events.clone());
    }
    if shell.app().api_is_public() {
        routes = routes.merge(api(shell.app()));
    }
    Gate::before(shell.app(), Audience::Clients, routes).with_state(shell.clone())
}

async fn index<R: Runtime>(
    State(shell): State<Shell<R>>,
    nested: Result<NestedPath, NestedPathRejection>,
    headers: HeaderMap,
) -> Response {
    let nest = nested.as_ref().map_or("", NestedPath::as_str);
    index_page::index(shell.app().registry(), nest, &headers)
}

async fn only_get() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response()
}

async fn not_found() -> Response {
    let text = "there is nothing here; / tells what is served\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
