//! The page, and the room whose newest message is the state of a shop.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use busline::app::RoomHandle;
use busline::limits::{
    HistoryPolicy, Keep, PresencePolicy, Recovery, RelayPolicy, Retention, Tell,
};
use busline::rt::{Clock, Random, Spawn, Tokio};
use busline::server::routes;
use busline::{App, ServicePolicy};
use serde_json::json;

const PAGE: &str = include_str!("page.html");

const CLIENT: &str = include_str!("../../clients/js/busline.js");

/// The site: `/` is the page, and `/live` has the room `dashboard/shop`, whose state changes at
/// this pace.
pub(crate) fn site(rt: Tokio, pace: Duration) -> Result<Router, Box<dyn std::error::Error>> {
    let app = App::builder(rt.clone())
        .relay_with("dashboard", policy())?
        .build();
    let room = app.room("dashboard", "shop")?;
    // The shop goes on whether a page is there or not.
    rt.spawn(Box::pin(shop(rt.clone(), room, pace)));
    let script = ([(header::CONTENT_TYPE, "text/javascript")], CLIENT);
    Ok(Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/busline.js", get(async move || script))
        .nest("/live", routes(app)))
}

/// One message is kept, which whoever comes gets first; clients only read, and see how many they
/// are.
fn policy() -> ServicePolicy {
    let newest = HistoryPolicy {
        recovery: Recovery::Newest,
        ..HistoryPolicy::from(Retention {
            messages: NonZeroUsize::MIN,
            bytes: 1 << 16,
            ttl: Duration::from_secs(3_600),
            recovery_max: None,
        })
    };
    ServicePolicy {
        history: Some(newest),
        presence: PresencePolicy {
            keep: Keep::Count,
            tell: Tell::All,
            ..PresencePolicy::default()
        },
        ..ServicePolicy::of_relay(RelayPolicy::default())
    }
}

/// Publishes the whole state of the shop again and again.
async fn shop(rt: Tokio, room: RoomHandle<Tokio>, pace: Duration) {
    let (mut orders, mut revenue) = (0, 0);
    loop {
        let bought = rt.random() % 4;
        orders += bought;
        revenue += bought * (5 + rt.random() % 40);
        let visitors = 20 + rt.random() % 30;
        let state = json!({ "visitors": visitors, "orders": orders, "revenue": revenue });
        room.publish(state.to_string());
        rt.sleep_until(rt.now() + pace).await;
    }
}
