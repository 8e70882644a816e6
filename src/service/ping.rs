//! The service `ping`: what one client sends, every client receives.

use super::Context;

/// Publishes every message of a client to all clients.
pub async fn ping(mut ctx: Context) {
    let mut said = Vec::new();
    while ctx.recv_batch(&mut said).await.is_some() {
        ctx.publish_batch(said.drain(..));
    }
}
