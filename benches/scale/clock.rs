//! What this thread has used of its core: waiting for another program's turn does not count.

use std::time::Duration;

/// Since the thread began.
#[cfg(unix)]
pub(crate) fn cpu() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(used).expect("no time is negative")
}

/// The time that passes, where the system does not tell.
#[cfg(not(unix))]
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]
pub(crate) fn cpu() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
