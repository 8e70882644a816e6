//! A rate-limited log line that counts the events in between; pure.

use std::time::Duration;

use crate::rt::Instant;

/// Shortest time between two log lines.
const EVERY: Duration = Duration::from_secs(60);

/// The state of one rate-limited log line.
#[derive(Debug, Default)]
pub struct RateLimitedLog {
    last: Option<Instant>,
    /// Events since the last log line.
    untold: u64,
}

impl RateLimitedLog {
    /// Counts `more` events, and returns the number to report now; `None` if there are none, or if
    /// the last report was too recent.
    pub fn due(&mut self, now: Instant, more: u64) -> Option<u64> {
        self.untold = self.untold.saturating_add(more);
        let is_early = self
            .last
            .is_some_and(|last| now.saturating_since(last) < EVERY);
        if is_early || self.untold == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_a_minute_together() {
        let mut log = RateLimitedLog::default();
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        for (seconds, more, told) in [
            (5, 3, Some(3)),
            (5, 1, None),
            (64, 1, None),
            (65, 2, Some(4)),
            (66, 7, None),
            (1000, 0, Some(7)),
            (2000, 0, None),
            (2001, 1, Some(1)),
        ] {
            assert_eq!(log.due(at(seconds), more), told, "{seconds}");
        }
    }
}
