//! The cancellation of all tasks of a server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared, pending};

use crate::sync::{AtomicBool, Ordering};

/// Cancels every [`Cancelled`] that was created with it, when it is dropped.
pub(super) struct Canceller {
    is_over: Arc<AtomicBool>,
    /// Dropped after the flag is set, so that every woken task sees the flag.
    _sender: oneshot::Sender<()>,
}

/// Completes when every task of the server is to end.
#[derive(Clone)]
pub(super) struct Cancelled {
    ended: Shared<BoxFuture<'static, ()>>,
    is_over: Arc<AtomicBool>,
}

impl Cancelled {
    /// Creates a cancellation that happens when the [`Canceller`] is dropped.
    pub(super) fn new() -> (Canceller, Self) {
        let (sender, receiver) = oneshot::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let canceller = Canceller {
            is_over: Arc::clone(&is_over),
            _sender: sender,
        };
        let ended = receiver.map(drop).boxed().shared();
        (canceller, Self { ended, is_over })
    }

    /// Creates a cancellation that never happens.
    pub(super) fn never() -> Self {
        Self {
            ended: pending().boxed().shared(),
            is_over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Polls for a task; `is_parked` says whether the same task has polled before. For such a task,
    /// an atomic load that does not contend is enough, where a poll takes a lock.
    pub(super) fn poll_by(&mut self, cx: &mut Context<'_>, is_parked: bool) -> Poll<()> {
        if is_parked && !self.is_over.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.poll_unpin(cx)
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.poll_unpin(cx)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[test]
    fn all_who_wait_are_woken_and_see_it() {
        let (canceller, cancelled) = Cancelled::new();
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut both = [cancelled.clone(), cancelled];
        for cancelled in &mut both {
            assert!(cancelled.poll_by(&mut cx, false).is_pending());
            assert!(cancelled.poll_by(&mut cx, true).is_pending());
        }
        drop(canceller);
        assert!(wakes.count() > 0);
        for cancelled in &mut both {
            assert!(cancelled.poll_by(&mut cx, true).is_ready());
        }
        let never = Cancelled::never().poll_by(&mut cx, false);
        assert!(never.is_pending());
    }
}
