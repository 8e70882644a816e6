//! A value shared by the parts of one run.

#![expect(
    clippy::disallowed_types,
    reason = "the lock of the simulator; a run is one thread, so it never waits"
)]

use std::sync::{Arc, Mutex, PoisonError};

/// A value that the network requires to be `Send`, though one thread uses it; clones share it.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Runs `visit` on the value; it must not come back for the same one.
    pub(crate) fn with<U>(&self, visit: impl FnOnce(&mut T) -> U) -> U {
        visit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
