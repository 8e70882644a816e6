//! The end of everything that a server has left.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared, pending};

use crate::sync::{AtomicBool, Ordering};

/// Dropping it ends everything that has an [`End`] of it.
pub(super) struct Alive {
    is_over: Arc<AtomicBool>,
    /// Dropped after the flag is set: who is woken sees it.
    _sender: oneshot::Sender<()>,
}

/// Completes when everything that is left is to be dropped.
#[derive(Clone)]
pub(super) struct End {
    ended: Shared<BoxFuture<'static, ()>>,
    is_over: Arc<AtomicBool>,
}

impl End {
    /// One that comes when the other is dropped.
    pub(super) fn new() -> (Alive, Self) {
        let (sender, receiver) = oneshot::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let alive = Alive {
            is_over: Arc::clone(&is_over),
            _sender: sender,
        };
        let ended = receiver.map(drop).boxed().shared();
        (alive, Self { ended, is_over })
    }

    /// One that never comes.
    pub(super) fn never() -> Self {
        Self {
            ended: pending().boxed().shared(),
            is_over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Polls it for a task that may have polled it before: then a look is enough, which all threads
    /// share, where a poll takes a lock.
    pub(super) fn poll_by(&mut self, cx: &mut Context<'_>, is_parked: bool) -> Poll<()> {
        if is_parked && !self.is_over.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.poll_unpin(cx)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Future for End {
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
        let (alive, end) = End::new();
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut ends = [end.clone(), end];
        for end in &mut ends {
            assert!(end.poll_by(&mut cx, false).is_pending());
            assert!(end.poll_by(&mut cx, true).is_pending());
        }
        drop(alive);
        assert!(wakes.count() > 0);
        for end in &mut ends {
            assert!(end.poll_by(&mut cx, true).is_ready());
        }
        let never = End::never().poll_by(&mut cx, false);
        assert!(never.is_pending());
    }
}
