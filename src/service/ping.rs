//! The service `ping`: what one client sends, every client receives.

use super::Context;

/// Publishes every message of a client to all clients.
pub async fn ping(mut ctx: Context) {
    while let Some((_, said)) = ctx.recv_batch().await {
        ctx.publish_batch(said);
    }
}
