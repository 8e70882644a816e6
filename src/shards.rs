//! Copies of a value for a few threads, so that threads do not write to shared memory.

use crate::sync::thread_number;

/// The number of copies; more threads than copies share them.
const COPIES: usize = 16;

/// Copies of a set of counters, each used by one thread if there are not too many threads.
#[derive(Debug, Default)]
pub(crate) struct Shards<T>([Padded<T>; COPIES]);

/// A value in two cache lines of its own: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Shards<T> {
    /// The copy of this thread.
    pub(crate) fn here(&self) -> &T {
        &self.0[thread_number() % COPIES].0
    }

    /// All copies.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Padded(copy)| copy)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    #[test]
    fn a_thread_keeps_to_its_copy_and_another_one_has_another() {
        let shards: Shards<AtomicU64> = Shards::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * COPIES {
                scope.spawn(|| {
                    shards.here().fetch_add(1, Ordering::Relaxed);
                    shards.here().fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        let counts: Vec<_> = shards.all().map(|n| n.load(Ordering::Relaxed)).collect();
        assert_eq!(counts.len(), COPIES);
        assert_eq!(counts.iter().sum::<u64>(), 4 * COPIES as u64);
        assert!(counts.iter().all(|count| count % 2 == 0), "{counts:?}");
        let used = counts.iter().filter(|count| **count > 0).count();
        // Other tests have threads as well, so that two of these threads may share a copy.
        assert!(used > COPIES / 2, "{counts:?}");
    }
}
