//! The chat room, by itself: `examples/chat.rs` serves it, `sim/examples/chat.rs` tests it.

use busline::Context;

/// Every text goes to everyone, after the number of who sent it.
pub(crate) async fn chat(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        if let (Some(sender), Some(text)) = (message.sender(), message.as_text()) {
            ctx.publish(format!("{sender}: {}", text.trim_end()));
        }
    }
}
