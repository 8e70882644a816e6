//! The listener for operators: metrics, readiness, services and topics; and for callers of the API.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use serde::Deserialize;
use serde_json::{Value, json};

use self::exposition::Format;
use crate::app::App;
use crate::bus::TopicStatus;
use crate::refusal::{Kept, Wrong};
use crate::rt::Runtime;
use crate::server::PeerAddress;
use crate::server::connection::Connections;
use crate::server::gate::{Audience, Gate};
use crate::server::routes::{Shell, api};

mod exposition;
mod services;
mod tap;

/// Maximum number of topics in one response.
const TOPICS_MAX: usize = 1_000;

/// Serves operators; bind the listener to an address that only operators can reach.
///
/// The future never completes: drop it after [`serve`](super::serve) has returned, so that
/// operators can watch a drain.
pub async fn serve_admin<L, R>(listener: L, app: App<R>) -> Infallible
where
    L: Listener<Addr: PeerAddress>,
    R: Runtime,
{
    let routes = admin_routes(app.clone());
    serve_routes(listener, app, routes).await
}

/// Serves health checks and metrics: /healthz, /readyz, /metrics.
///
/// The listener's address may be reachable for more clients than operators, such as the address of
/// a container. The future never completes, as with [`serve_admin`].
pub async fn serve_probes<L, R>(listener: L, app: App<R>) -> Infallible
where
    L: Listener<Addr: PeerAddress>,
    R: Runtime,
{
    let routes = probe_routes(app.clone());
    serve_routes(listener, app, routes).await
}

/// Serves callers of the API: /api alone, by their keys.
///
/// The listener's address may be reachable for the machines of a backend, but not for clients. The
/// future never completes, as with [`serve_admin`].
pub async fn serve_api<L, R>(listener: L, app: App<R>) -> Infallible
where
    L: Listener<Addr: PeerAddress>,
    R: Runtime,
{
    let routes = api_routes(app.clone());
    serve_routes(listener, app, routes).await
}

async fn serve_routes<L, R>(listener: L, app: App<R>, routes: Router) -> Infallible
where
    L: Listener<Addr: PeerAddress>,
    R: Runtime,
{
    let (_canceller, shell) = Shell::with_end(app);
    Connections::of(&shell, routes).accept(listener).await
}

/// The routes of [`serve_admin`], for a server of your own.
///
/// The routes accept requests for an IP address, for a name that means loopback, and for the
/// [`hosts`](crate::app::Builder::hosts) of the application, and refuse pages of other sites.
pub fn admin_routes<R: Runtime>(app: App<R>) -> Router {
    let routes = probes()
        .route("/debug/services", get(services::services::<R>))
        .route("/debug/topics", get(topics::<R>))
        .route("/debug/tap", get(tap::tap::<R>))
        .route("/debug/refused", get(refused::<R>))
        .merge(api(&app))
        .fallback(async || not_found(ADMIN));
    Gate::before(&app, Audience::Operators, routes).with_state(app)
}

/// The routes of [`serve_probes`], for a server of your own; they accept the same requests as
/// [`admin_routes`].
pub fn probe_routes<R: Runtime>(app: App<R>) -> Router {
    let routes = probes().fallback(async || not_found(PROBES));
    Gate::before(&app, Audience::Operators, routes).with_state(app)
}

/// The routes of [`serve_api`], for a server of your own; they accept the same requests as
/// [`admin_routes`], and calls with a key under any name.
pub fn api_routes<R: Runtime>(app: App<R>) -> Router {
    let routes = api(&app).fallback(async || not_found(CALLS));
    Gate::before(&app, Audience::Operators, routes)
}

fn probes<R: Runtime>() -> Router<App<R>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<R>))
        .route("/metrics", get(metrics::<R>))
}

const ADMIN: &str = "there are /healthz, /readyz, /metrics, /debug/services, /debug/topics, \
                     /debug/tap, /debug/refused, /api\n";

const CALLS: &str = "there is /api\n";

const PROBES: &str = "there are /healthz, /readyz, /metrics\n";

fn not_found(text: &'static str) -> Response {
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Whether a load balancer should send clients to this server.
async fn readyz<R: Runtime>(State(app): State<App<R>>) -> Response {
    match app.readiness() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics<R: Runtime>(State(app): State<App<R>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    let media_type = [(header::CONTENT_TYPE, format.media_type())];
    (media_type, exposition::text(&app, format)).into_response()
}

fn unix_seconds(at: SystemTime) -> Option<f64> {
    at.duration_since(UNIX_EPOCH).map(f64_seconds).ok()
}

fn f64_seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The query of a request for topics: a prefix of their names.
#[derive(Deserialize)]
struct Prefix {
    #[serde(default)]
    prefix: String,
}

async fn topics<R: Runtime>(State(app): State<App<R>>, Query(asked): Query<Prefix>) -> Response {
    let all = app.bus().topics();
    let of_prefix = |status: &&TopicStatus| status.topic.to_string().starts_with(&asked.prefix);
    let listed: Vec<_> = all.iter().filter(of_prefix).collect();
    let topics = listed.iter().take(TOPICS_MAX).copied().map(topic);
    in_json(&json!({
        "topics": Value::from_iter(topics),
        "left_out": listed.len().saturating_sub(TOPICS_MAX),
    }))
}

fn topic(status: &TopicStatus) -> Value {
    let counts = status.counts;
    json!({
        "topic": status.topic.to_string(),
        "subscribers": status.subscribers,
        "kept_messages": status.messages,
        "kept_bytes": status.bytes,
        "published": counts.published,
        "owed": counts.owed,
        "delivered": counts.delivered,
        "pending": counts.pending,
        "lost": {
            "lagged": counts.lost_lagged,
            "superseded": counts.lost_superseded,
            "unread": counts.lost_unsubscribed,
        },
    })
}

/// The last refused requests, with the values that the refusal depended on.
async fn refused<R: Runtime>(State(app): State<App<R>>) -> Response {
    let last = app.refusals().last();
    in_json(&Value::from_iter(last.iter().map(refusal)))
}

fn refusal(kept: &Kept) -> Value {
    json!({
        "listener": kept.refusal.listener,
        "reason": match kept.refusal.wrong {
            Wrong::Host => "host",
            Wrong::Origin => "origin",
        },
        "origin": kept.refusal.origin,
        "host": kept.refusal.host,
        "times": kept.times,
        "unix_seconds": unix_seconds(kept.last),
    })
}

fn in_json(value: &Value) -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    (media_type, format!("{value:#}\n")).into_response()
}
