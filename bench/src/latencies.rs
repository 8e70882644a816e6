//! The latencies of messages, as percentiles.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::clock::now;

/// Longer durations than this limit are recorded as the limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// Significant digits of the histogram.
const DIGITS: u8 = 3;

/// Durations of messages that were sent after the warm-up.
#[derive(Debug)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    since: Instant,
    /// The longest delay between a message's scheduled time and its sending.
    late: Duration,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

impl Latencies {
    /// An empty histogram.
    pub(super) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).expect("an hour");
        let histogram = Histogram::new_with_bounds(1, longest, DIGITS);
        Self {
            histogram: histogram.expect("the bounds are valid"),
            since: now(),
            late: Duration::ZERO,
        }
    }

    /// Discards all durations, at the end of the warm-up.
    pub(super) fn reset(&mut self) {
        self.histogram.reset();
        self.since = now();
        self.late = Duration::ZERO;
    }

    /// Adds `count` messages that took from `from` to `to`.
    pub(super) fn add(&mut self, from: Instant, to: Instant, count: u64) {
        if from >= self.since {
            let nanos = to.saturating_duration_since(from).as_nanos();
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.histogram.saturating_record_n(nanos.max(1), count);
        }
    }

    /// Notes that a message was sent this long after its scheduled time.
    pub(super) fn late(&mut self, late: Duration) {
        self.late = self.late.max(late);
    }

    /// The longest delay between a message's scheduled time and its sending.
    pub(super) fn latest(&self) -> Duration {
        self.late
    }

    /// The percentiles; `None` without messages.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| micros(self.histogram.value_at_quantile(quantile));
        (!self.histogram.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(self.histogram.max()),
        })
    }
}

/// Converts to microseconds, with a precision of a tenth.
fn micros(nanos: u64) -> f64 {
    (nanos / 100) as f64 / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_added() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        let start = latencies.since;
        for micros in 1..=1000 {
            latencies.add(start, start + Duration::from_micros(micros), 1);
        }
        let found = latencies.percentiles().expect("there are some");
        let near = |found: f64, real: f64| (found - real).abs() <= real / 500.0;
        assert!(
            near(found.p50, 500.0) && near(found.p90, 900.0),
            "{found:?}"
        );
        assert!(
            near(found.p99, 990.0) && near(found.p99_9, 999.0),
            "{found:?}"
        );
        assert!(near(found.max, 1000.0), "{found:?}");
    }

    #[test]
    fn what_began_in_the_warm_up_does_not_count() {
        let mut latencies = Latencies::new();
        let early = latencies.since;
        latencies.late(Duration::from_secs(1));
        latencies.reset();
        let start = latencies.since;
        latencies.add(start, start + Duration::from_secs(7200), 3);
        if early < start {
            latencies.add(early, start, 1);
        }
        assert_eq!(latencies.histogram.len(), 3);
        assert_eq!(latencies.latest(), Duration::ZERO);
    }
}
