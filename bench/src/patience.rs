//! The longest time that a run continues without messages.

use std::time::{Duration, Instant};

/// A timeout that runs while messages are awaited and none arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    limit: Duration,
    since: Instant,
}

/// The activity of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Messages arrived.
    Moving,
    /// Messages are awaited.
    Awaiting,
    /// No message is in flight, and the next one is sent at a fixed time.
    Resting,
}

impl Patience {
    /// Starts the timeout at `now`.
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now }
    }

    /// Restarts the timeout, unless messages are awaited.
    pub(super) fn see(&mut self, pace: Pace, at: Instant) {
        match pace {
            Pace::Moving | Pace::Resting => self.since = at,
            Pace::Awaiting => {}
        }
    }

    /// Whether the timeout has passed.
    pub(super) fn is_over(&self, at: Instant) -> bool {
        at - self.since > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::now;
    use super::*;

    #[test]
    fn it_runs_out_only_while_something_is_awaited() {
        let start = now();
        let mut patience = Patience::new(Duration::from_secs(5), start);
        for (second, pace, is_over) in [
            (5, Pace::Awaiting, false),
            (6, Pace::Moving, false),
            (11, Pace::Awaiting, false),
            (100, Pace::Resting, false),
            (105, Pace::Awaiting, false),
            (106, Pace::Awaiting, true),
            (107, Pace::Moving, false),
        ] {
            let at = start + Duration::from_secs(second);
            patience.see(pace, at);
            assert_eq!(patience.is_over(at), is_over, "{second} s");
        }
    }
}
