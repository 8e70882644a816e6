//! The time of a network whose hosts share one tokio runtime.

use std::cell::Cell;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

thread_local! {
    /// When the network of this thread began.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins the time of this thread's network.
pub(super) fn begin(runtime: &Runtime) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the clock of the run itself")]
    let start = runtime.block_on(async { Instant::now() });
    START.set(Some(start));
    start
}

/// The time of this thread's network, while its runtime runs.
pub(super) fn elapsed() -> Option<Duration> {
    let start = START.get()?;
    Handle::try_current().ok()?;
    #[expect(clippy::disallowed_methods, reason = "the clock of the run itself")]
    let now = Instant::now();
    Some(now - start)
}
