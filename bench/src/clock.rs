//! The real time: the only file of the load generator that reads it.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::time::{Duration, Instant};

/// The present.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// What this thread has used of its core so far; `None` where the system does not tell.
#[cfg(unix)]
pub(super) fn own_cpu() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).ok()
}

/// What this thread has used of its core so far; `None` where the system does not tell.
#[cfg(not(unix))]
pub(super) fn own_cpu() -> Option<Duration> {
    None
}
