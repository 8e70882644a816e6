//! Answers that arrive word by word, as those of a language model: each in a room of its own, so
//! that a page that is reloaded in the middle goes on where it was.
//!
//! ```text
//! cargo run --example tokens
//! open http://localhost:8080/ and ask; reload while the answer comes
//! curl -N 'http://localhost:8080/live/sse/answer/<the key in the address>?since=start'
//! ```

use busline::rt::Tokio;
use tokio::net::TcpListener;

#[path = "tokens/site.rs"]
mod site;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "localhost:8080".into());
    let listener = TcpListener::bind(&address).await?;
    let site = site::site(Tokio::current(), site::PACE)?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, site).await?;
    Ok(())
}
