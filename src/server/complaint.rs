//! What is told once in a while and counted in between; pure.

use std::time::Duration;

use crate::rt::Instant;

/// Shortest time between two complaints.
const EVERY: Duration = Duration::from_secs(60);

/// Something that goes wrong again and again.
#[derive(Debug, Default)]
pub struct Complaint {
    last: Option<Instant>,
    /// What has gone wrong since then.
    untold: u64,
}

impl Complaint {
    /// How much to complain about now that this much more has gone wrong; none if that is nothing,
    /// or if it is too early.
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
        let mut complaint = Complaint::default();
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
            assert_eq!(complaint.due(at(seconds), more), told, "{seconds}");
        }
    }
}
