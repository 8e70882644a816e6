//! The part of a connection after its last response, in which it still holds its slot.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::sync::Mutex;

/// A slot for work that a request leaves for the time after its response; stored as an extension of
/// each request.
///
/// The task of the connection does this work before it gives its slot back, so that the bounds of
/// handshakes hold for it, too.
#[derive(Clone)]
pub(super) struct Epilogue(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Default for Epilogue {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl Epilogue {
    /// Leaves work, which takes the place of work that was left before.
    pub(super) fn leave(&self, work: BoxFuture<'static, ()>) {
        let before = self.0.lock().replace(work);
        drop(before);
    }

    /// Takes the work that was left, if there is any.
    pub(super) fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().take()
    }
}
