//! Histograms of durations in fixed classes, without allocations or locks.

use std::time::Duration;

use crate::instant::Instant;
use crate::sync::{AtomicU64, Ordering};

/// The number of classes with an upper bound: 1 us, 2 us, 4 us, and so on to 33.6 s.
pub const BOUNDS: usize = 26;

/// Counts durations by powers of two of a microsecond.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// A counter for each bound, and a counter for longer durations.
    classes: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

/// The figures of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramCounts {
    /// The durations in each class: no longer than its [`bound`] and longer than the bound before;
    /// the last class has no bound.
    pub classes: [u64; BOUNDS + 1],
    /// The sum of the durations; wraps after 584 years.
    pub sum: Duration,
}

/// The longest duration of a class; for the last class, of the class before.
pub fn bound(class: usize) -> Duration {
    Duration::from_micros(1 << class.min(BOUNDS - 1))
}

/// Consecutive durations of one class.
#[derive(Default)]
struct Run {
    class: usize,
    count: u64,
    nanos: u64,
}

/// A summary of several start times.
#[derive(Debug)]
pub(crate) struct Moments {
    count: u64,
    earliest: Instant,
    latest: Instant,
    /// The sum of the nanoseconds since the beginning of the clock; wraps.
    sum: u64,
}

impl FromIterator<Instant> for Moments {
    fn from_iter<I: IntoIterator<Item = Instant>>(moments: I) -> Self {
        let none = Self {
            count: 0,
            earliest: Instant::END,
            latest: Instant::ZERO,
            sum: 0,
        };
        moments.into_iter().fold(none, |all, moment| Self {
            count: all.count + 1,
            earliest: all.earliest.min(moment),
            latest: all.latest.max(moment),
            sum: all.sum.wrapping_add(moment.nanos_since(Instant::ZERO)),
        })
    }
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        self.observe_all([nanos(took)], 1);
    }

    /// Records durations in nanoseconds, each `times` times. Neighbours of one class, as those of
    /// one write are, are added at once.
    pub(crate) fn observe_all(&self, took: impl IntoIterator<Item = u64>, times: u64) {
        let mut run = Run::default();
        let mut last = None;
        for nanos in took {
            // Equal durations are of one class, which is computed once.
            let class = if last == Some(nanos) {
                run.class
            } else {
                class(nanos)
            };
            last = Some(nanos);
            if class != run.class {
                self.add(std::mem::take(&mut run), times);
            }
            run = Run {
                class,
                count: run.count + 1,
                nanos: run.nanos.wrapping_add(nanos),
            };
        }
        self.add(run, times);
    }

    /// Records the time from each of `moments` to `end`, `times` times. The times of one write are
    /// mostly of one class and are then added at once; otherwise `each` returns the moments one by
    /// one.
    pub(crate) fn observe_since<I: IntoIterator<Item = Instant>>(
        &self,
        moments: &Moments,
        each: impl FnOnce() -> I,
        end: Instant,
        times: u64,
    ) {
        let took = |moment| end.nanos_since(moment);
        let class = class(took(moments.earliest));
        if class != self::class(took(moments.latest)) || moments.latest > end {
            return self.observe_all(each().into_iter().map(took), times);
        }
        let ends = end.nanos_since(Instant::ZERO).wrapping_mul(moments.count);
        let run = Run {
            class,
            count: moments.count,
            nanos: ends.wrapping_sub(moments.sum),
        };
        self.add(run, times);
    }

    /// Adds a run of durations, `times` times.
    fn add(&self, run: Run, times: u64) {
        if run.count > 0 {
            // Relaxed is enough: a sum needs no order with other memory.
            self.classes[run.class].fetch_add(run.count * times, Ordering::Relaxed);
            let nanos = run.nanos.wrapping_mul(times);
            self.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> HistogramCounts {
        let count = |class: usize| self.classes[class].load(Ordering::Relaxed);
        HistogramCounts {
            classes: std::array::from_fn(count),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
        }
    }
}

impl HistogramCounts {
    /// Adds the counts of another histogram.
    pub(crate) fn add(&mut self, other: &Self) {
        add_each(&mut self.classes, &other.classes);
        self.sum = Duration::from_nanos(nanos(self.sum).wrapping_add(nanos(other.sum)));
    }

    /// The number of durations in all classes.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Adds to each count the count at its index in `others`.
pub(crate) fn add_each<const N: usize>(counts: &mut [u64; N], others: &[u64; N]) {
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
}

/// The first class whose bound is not shorter than `nanos`.
fn class(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1000).max(1);
    let class = micros.next_power_of_two().trailing_zeros() as usize;
    class.min(BOUNDS)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_the_last_of_its_class() {
        for index in 0..BOUNDS {
            let nanos = u64::try_from(bound(index).as_nanos()).expect("small");
            assert_eq!(class(nanos), index);
            assert_eq!(class(nanos + 1), index + 1);
        }
        assert_eq!((class(0), class(u64::MAX)), (0, BOUNDS));
    }

    #[test]
    fn what_is_observed_is_counted() {
        let histogram = Histogram::default();
        for millis in [0, 1, 1, 1000, 100_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        histogram.observe(Duration::MAX);
        let counts = histogram.counts();
        assert_eq!(counts.count(), 6);
        let one_by_one = Histogram::default();
        let all = [1, 1, 9, 9, 9, 1, 700, 0].map(Duration::from_micros);
        all.iter().for_each(|took| one_by_one.observe(*took));
        let together = Histogram::default();
        together.observe_all([], 1);
        together.observe_all(
            all.map(|took| u64::try_from(took.as_nanos()).expect("small")),
            1,
        );
        assert_eq!(together.counts(), one_by_one.counts());
        assert_eq!(together.counts().sum, Duration::from_micros(730));
        assert_eq!(counts.classes[BOUNDS], 2, "more than half a minute");
        assert_eq!(counts.classes[10], 2, "up to 1.024 ms");
    }

    #[test]
    fn what_ends_together_is_counted_as_if_one_by_one() {
        let at = |micros| Instant::from_start(Duration::from_micros(micros));
        // Start times of one class, of several, no start times, and one after the end.
        for (moments, end) in [
            (&[10, 12, 11][..], 100),
            (&[10, 99, 50], 100),
            (&[], 100),
            (&[10, 200], 100),
            (&[150, 200], 100),
        ] {
            let end = at(end);
            let (together, one_by_one) = (Histogram::default(), Histogram::default());
            let each = || moments.iter().map(|micros| at(*micros));
            together.observe_since(&each().collect(), each, end, 3);
            for moment in each().chain(each()).chain(each()) {
                one_by_one.observe(end.saturating_since(moment));
            }
            assert_eq!(together.counts(), one_by_one.counts());
        }
    }
}
