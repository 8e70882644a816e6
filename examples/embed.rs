//! busline inside an axum application that is already there.
//!
//! ```text
//! cargo run --example embed
//! curl http://localhost:3000/                       the application's own page
//! websocat ws://localhost:3000/live/ws/ping         a service of busline
//! ```
//!
//! The listener, the accept loop and the drain are the application's. axum's graceful shutdown
//! stops accepting but knows nothing of upgraded connections, so the drain has two more steps:
//! `App::drain` tells every client to leave (1001) and refuses new ones (503), and `App::drained`
//! waits until they are gone. Without them the process ends under its clients, which then see a
//! broken connection and no reason.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use busline::App;
use busline::rt::Tokio;
use busline::server::routes;
use busline::service::ping;
use tokio::net::TcpListener;

/// Clients that have not left by then are dropped.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.unwrap_or_else(|| "localhost:3000".into())).await?;
    println!("http://{}/", listener.local_addr()?);
    let bus = App::builder(Tokio::current())
        .service("ping", ping)?
        .build();
    // Nested, not merged: busline's routes have a `/` and a `/healthz` of their own.
    let own = Router::new()
        .route("/", get(async || "the application's own page\n"))
        .nest("/live", routes(bus.clone()));
    let draining = bus.clone();
    let stop = async move {
        tokio::signal::ctrl_c().await.unwrap_or_default();
        draining.drain();
    };
    axum::serve(listener, own)
        .with_graceful_shutdown(stop)
        .await?;
    tokio::time::timeout(DRAIN, bus.drained()).await?;
    Ok(())
}
