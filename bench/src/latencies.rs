//! How long messages took, with percentiles.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::clock::now;

/// The longest duration that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

/// Digits that count.
const DIGITS: u8 = 3;

/// Durations of messages that began after a moment.
#[derive(Debug)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    since: Instant,
    /// How late a message that had a time to be sent at was sent.
    late: Duration,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

impl Latencies {
    /// None yet.
    pub(super) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).expect("an hour");
        let histogram = Histogram::new_with_bounds(1, longest, DIGITS);
        Self {
            histogram: histogram.expect("the bounds are valid"),
            since: now(),
            late: Duration::ZERO,
        }
    }

    /// Forgets all there was: the warm-up is over.
    pub(super) fn reset(&mut self) {
        self.histogram.reset();
        self.since = now();
        self.late = Duration::ZERO;
    }

    /// Counts so many messages that took from one moment to another.
    pub(super) fn add(&mut self, from: Instant, to: Instant, count: u64) {
        if from >= self.since {
            let nanos = to.saturating_duration_since(from).as_nanos();
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.histogram.saturating_record_n(nanos.max(1), count);
        }
    }

    /// Remembers that a message was sent this long after it was due.
    pub(super) fn late(&mut self, late: Duration) {
        self.late = self.late.max(late);
    }

    /// The longest time by which a message was sent too late.
    pub(super) fn latest(&self) -> Duration {
        self.late
    }

    /// `None` if there was no message.
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

/// To a tenth: nobody reads more.
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
