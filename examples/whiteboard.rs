//! A shared drawing board by room, with its page: who is there, and what they draw.
//!
//! ```text
//! cargo run --example whiteboard
//! open http://localhost:8080/#tea in two windows
//! ```

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use busline::App;
use busline::rt::Tokio;
use busline::server::routes;
use tokio::net::TcpListener;

#[path = "whiteboard/service.rs"]
mod service;

use service::{policy, whiteboard};

const PAGE: &str = include_str!("whiteboard/page.html");

const CLIENT: &str = include_str!("../clients/js/busline.js");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "localhost:8080".into());
    let listener = TcpListener::bind(&address).await?;
    let app = App::builder(Tokio::current())
        .room_with("board", whiteboard, policy())?
        .build();
    let site = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route(
            "/busline.js",
            get(async || ([(CONTENT_TYPE, "text/javascript")], CLIENT)),
        )
        .nest("/live", routes(app));
    println!("http://{}/#tea", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
