//! `/debug/services`: the services and kinds of rooms, and the rooms of one kind in pages.

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{f64_seconds, in_json, unix_seconds};
use crate::app::App;
use crate::bus::{Room, ServiceName};
use crate::registry::{Crash, LifecycleCounts, Page, ServiceStatus, State as Phase};
use crate::rt::{Instant, Runtime};

/// Maximum number of rooms in one answer.
const ROOMS_MAX: usize = 1_000;

/// The query of a request: the rooms of this kind, or all services and kinds.
#[derive(Deserialize)]
pub(super) struct Wanted {
    rooms: Option<String>,
    #[serde(default)]
    prefix: String,
    after: Option<String>,
}

/// Answers with all services and kinds of rooms, or with a page of the rooms of one kind.
pub(super) async fn services<R: Runtime>(
    State(app): State<App<R>>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let registry = app.registry();
    let Some(kind) = wanted.rooms else {
        let services = registry.names().map(|name| service(&app, name));
        return in_json(&Value::from_iter(services));
    };
    let page = Page {
        prefix: &wanted.prefix,
        after: wanted.after.as_deref(),
        max: ROOMS_MAX,
    };
    let rooms = registry.rooms(&kind, &page);
    // A full page may have another page after it.
    let last = rooms.last().filter(|_| rooms.len() == ROOMS_MAX);
    let next = last.map(|(room, _clients)| room.key().to_owned());
    let listed = rooms.iter().filter_map(|(name, _clients)| room(&app, name));
    in_json(&json!({ "rooms": Value::from_iter(listed), "next_after": next }))
}

fn service<R: Runtime>(app: &App<R>, name: &ServiceName) -> Value {
    let registry = app.registry();
    let status = registry.status(name.as_str());
    let mut value = status.map_or_else(Map::new, |status| state(app, &status));
    if let Some(kind) = registry.kind_status(name.as_str()) {
        if registry.has_rooms(name.as_str()) {
            value.insert("rooms".into(), kind.rooms.into());
        }
        value.insert("clients".into(), kind.clients.into());
        value.insert("blocked".into(), kind.blocked.into());
        value.extend(counts(&kind.counts));
    }
    let crash = registry.last_crash(name.as_str());
    let crash = crash.map(|crash| last_crash(&crash));
    value.insert("service".into(), name.as_str().into());
    value.insert("last_crash".into(), crash.into());
    value.into()
}

fn room<R: Runtime>(app: &App<R>, room: &Room) -> Option<Value> {
    // A room of the page may be over by now.
    let status = app.registry().room_status(room)?;
    let mut value = state(app, &status);
    value.insert("key".into(), room.key().into());
    value.insert("clients".into(), status.clients.into());
    value.extend(counts(&status.counts));
    Some(value.into())
}

/// The state of one lifecycle.
fn state<R: Runtime>(app: &App<R>, status: &ServiceStatus) -> Map<String, Value> {
    let now = app.rt().now();
    let until = |until: Instant| f64_seconds(until.saturating_since(now));
    let (state, seconds_left) = match status.state {
        Phase::Backoff { until: at } => ("backoff", Some(until(at))),
        Phase::Failed { until: at } => ("failed", Some(until(at))),
        Phase::Lingering { until: at } => ("lingering", Some(until(at))),
        Phase::Running => ("running", None),
        Phase::Stopped => ("stopped", None),
        Phase::Stopping { until: at } => ("stopping", at.map(until)),
    };
    let mut value = Map::new();
    value.insert("state".into(), state.into());
    value.insert("seconds_left".into(), seconds_left.into());
    let generation = status.generation.number();
    value.insert("generation".into(), generation.into());
    value
}

fn counts(counts: &LifecycleCounts) -> [(String, Value); 4] {
    [
        ("starts".into(), counts.starts.into()),
        ("restarts".into(), counts.crashes.into()),
        ("aborts".into(), counts.aborts.into()),
        ("refused".into(), counts.refused.into()),
    ]
}

fn last_crash(crash: &Crash) -> Value {
    let key = Some(crash.room.key()).filter(|key| !key.is_empty());
    json!({
        "key": key,
        "generation": crash.generation.number(),
        "reason": crash.reason,
        "unix_seconds": unix_seconds(crash.at),
    })
}
