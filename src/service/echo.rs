//! The service `echo`: what a client sends, that client receives.

use super::Context;

/// Answers every message of a client to that client alone.
pub async fn echo(mut ctx: Context) {
    while let Some((origin, said)) = ctx.recv_batch().await {
        if let Some(sender) = origin.client() {
            ctx.send_batch(sender, said);
        }
    }
}
