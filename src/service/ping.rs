//! The service `ping`: each client receives the messages of every client.

use super::Context;

/// Publishes every message of a client to all clients.
pub async fn ping(mut ctx: Context) {
    while let Some(batch) = ctx.recv_batch().await {
        ctx.publish(batch);
    }
}
