//! The service `echo`: a client receives its own messages.

use super::Context;

/// Answers every message of a client to that client alone.
pub async fn echo(mut ctx: Context) {
    while let Some(batch) = ctx.recv_batch().await {
        if let Some(sender) = batch.origin().client().cloned() {
            ctx.send_to(&sender, batch);
        }
    }
}
