//! A signal to every task that waits for it: the end of a server, the beginning of a drain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared, pending};

use crate::sync::{AtomicBool, Mutex, Ordering};

/// Cancels every [`Cancelled`] that was created with it: when it is told to, or when it is dropped.
pub(crate) struct Canceller {
    is_over: Arc<AtomicBool>,
    sender: Mutex<Option<oneshot::Sender<()>>>,
}

/// Completes once its [`Canceller`] cancels.
#[derive(Clone)]
pub(crate) struct Cancelled {
    ended: Shared<BoxFuture<'static, ()>>,
    is_over: Arc<AtomicBool>,
}

impl Cancelled {
    /// Creates a cancellation that happens when the [`Canceller`] is told to, or is dropped.
    pub(crate) fn new() -> (Canceller, Self) {
        let (sender, receiver) = oneshot::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let canceller = Canceller {
            is_over: Arc::clone(&is_over),
            sender: Mutex::new(Some(sender)),
        };
        let ended = receiver.map(drop).boxed().shared();
        (canceller, Self { ended, is_over })
    }

    /// Creates a cancellation that never happens.
    pub(crate) fn never() -> Self {
        Self {
            ended: pending().boxed().shared(),
            is_over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Polls for a task; `is_parked` says whether the same task has polled before. For such a task,
    /// an atomic load that does not contend is enough, where a poll takes a lock.
    pub(crate) fn poll_by(&mut self, cx: &mut Context<'_>, is_parked: bool) -> Poll<()> {
        if is_parked && !self.is_over.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.poll_unpin(cx)
    }
}

impl Canceller {
    /// Cancels; a second call changes nothing.
    pub(crate) fn cancel(&self) {
        // The flag is set before the sender is dropped, so that every woken task sees the flag.
        self.is_over.store(true, Ordering::SeqCst);
        let sender = self.sender.lock().take();
        drop(sender);
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.cancel();
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
    use std::task::{Wake, Waker};

    use super::*;

    /// A task that notes that it was woken.
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn all_who_wait_are_woken_and_see_it() {
        for is_told in [true, false] {
            let (canceller, cancelled) = Cancelled::new();
            let task = Arc::new(Woken(AtomicBool::new(false)));
            let waker = Waker::from(Arc::clone(&task));
            let mut cx = Context::from_waker(&waker);
            let mut both = [cancelled.clone(), cancelled];
            for cancelled in &mut both {
                assert!(cancelled.poll_by(&mut cx, false).is_pending());
                assert!(cancelled.poll_by(&mut cx, true).is_pending());
            }
            if is_told {
                canceller.cancel();
            }
            let _kept = is_told.then_some(canceller);
            assert!(task.0.load(Ordering::SeqCst));
            for cancelled in &mut both {
                assert!(cancelled.poll_by(&mut cx, true).is_ready());
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        let never = Cancelled::never().poll_by(&mut cx, false);
        assert!(never.is_pending());
    }
}
