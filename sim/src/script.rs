//! The service `script` of wild plans: it starts as it is told, and does what a message says.

use std::time::Duration;

use busline::Context;
use serde::{Deserialize, Serialize};

/// How the service starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It panics.
    Panics,
    /// At once.
    #[default]
    Ready,
    /// It returns, as if it had nothing to do.
    Returns,
    /// After three seconds.
    Slowly,
}

/// Longer than some limits of wild plans, shorter than others.
const SLOWLY: Duration = Duration::from_secs(3);

/// One run of the service: the first word of each message says what it does.
pub(crate) async fn script(mut ctx: Context, start: Start) -> Result<(), String> {
    match start {
        Start::Panics => panic(),
        Start::Ready => {}
        Start::Returns => return Ok(()),
        Start::Slowly => drop(ctx.sleep(SLOWLY).await),
    }
    let mut is_slow = false;
    while let Some(message) = ctx.recv().await {
        let word = message.as_text().and_then(|text| text.split(' ').next());
        match word {
            Some("doze") => drop(ctx.sleep(Duration::from_secs(4)).await),
            Some("error") => return Err("as it was told".to_owned()),
            Some("panic") => panic(),
            Some("slow") => is_slow = true,
            Some(_) | None => drop(ctx.publish(message)),
        }
    }
    if is_slow {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            ctx.publish("still there");
        }
    }
    Ok(())
}

/// Planned: the hook that prints panics is not to know.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("as it was told"))
}
