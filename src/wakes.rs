//! A task that counts its wakes, for tests.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::{AtomicU64, Ordering};

/// Counts the wakes of one task.
pub(crate) struct Wakes(AtomicU64);

impl Wakes {
    /// Makes a counter at 0, and a waker that counts in it.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self(AtomicU64::new(0)));
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    /// The number of wakes so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
