//! The real clock; no other file of the load generator reads it.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock"
)]

use std::time::{Duration, Instant};

/// The current time.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The processor time of this thread; `None` if the system does not report it.
#[cfg(unix)]
pub(super) fn own_cpu() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).ok()
}

/// The processor time of this thread; `None` if the system does not report it.
#[cfg(not(unix))]
pub(super) fn own_cpu() -> Option<Duration> {
    None
}
