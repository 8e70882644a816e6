//! A chat room: a service of your own, in a `main` of your own.
//!
//! ```text
//! cargo run --example chat
//! websocat ws://localhost:8080/ws/chat      in two other terminals
//! ```

use busline::rt::Tokio;
use busline::server::{bind, serve};
use busline::{App, Context};

/// Every text goes to everyone, after the number of who sent it.
async fn chat(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        if let (Some(sender), Some(text)) = (message.sender(), message.as_text()) {
            ctx.publish(format!("{sender}: {}", text.trim_end()));
        }
    }
}

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
