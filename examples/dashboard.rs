//! Figures that change all the time, and a page that shows the newest at once: nobody needs the
//! older ones, and a page that comes, or comes back, waits for no change.
//!
//! ```text
//! cargo run --example dashboard
//! open http://localhost:8080/ in two windows
//! curl -N http://localhost:8080/live/sse/dashboard/shop
//! ```

use std::time::Duration;

use busline::rt::Tokio;
use tokio::net::TcpListener;

#[path = "dashboard/site.rs"]
mod site;

/// The time from state to state.
const PACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "localhost:8080".into());
    let listener = TcpListener::bind(&address).await?;
    let site = site::site(Tokio::current(), PACE)?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
