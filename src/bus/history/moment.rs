//! A moment on both clocks, as a history stamps its messages.

use std::time::SystemTime;

use crate::instant::Instant;

/// The present moment: on the clock that deadlines follow, and as date and time for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The instant, which never goes back.
    pub at: Instant,
    /// The date and time, which may jump in either direction.
    pub wall: SystemTime,
}
