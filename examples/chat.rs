//! A chat room: a service of your own (`examples/chat/service.rs`), in a `main` of your own.
//!
//! ```text
//! cargo run --example chat
//! websocat ws://localhost:8080/ws/chat      in two other terminals
//! ```

use busline::App;
use busline::rt::Tokio;
use busline::server::{bind, serve};

#[path = "chat/service.rs"]
mod service;

use service::chat;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "localhost:8080".into());
    let listeners = bind(&address).await?;
    let app = App::builder(Tokio::current())
        .service("chat", chat)?
        .build();
    println!("websocat ws://{}/ws/chat", listeners.addresses()?[0]);
    let interrupt = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    serve(listeners, app, interrupt).await?;
    Ok(())
}
