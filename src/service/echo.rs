//! The service `echo`: what a client sends, that client receives.

use super::Context;

/// Answers every message of a client to that client alone.
pub async fn echo(mut ctx: Context) {
    let mut said = Vec::new();
    while let Some(origin) = ctx.recv_batch(&mut said).await {
        let answers = said.drain(..);
        if let Some(sender) = origin.client() {
            ctx.send_batch(sender, answers);
        }
    }
}
