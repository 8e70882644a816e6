//! The signal to an instance that its last client has left.

use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex};

/// A flag that is raised once, and the task to wake at that time; clones share the flag.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    raised: bool,
    waker: Option<Waker>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }

    pub(crate) fn raise(&self) {
        let mut state = self.0.lock();
        state.raised = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Polls until the flag is raised; wakes the task that polled last.
    pub(crate) fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Look and park happen under one lock: `raise` comes before both or wakes the task.
        let mut state = self.0.lock();
        if state.raised {
            return Poll::Ready(());
        }
        let replaced = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[test]
    fn the_task_that_asked_last_is_the_one_that_is_woken() {
        let stop = Stop::new();
        let (wakes, waker) = Wakes::new();
        let mut first = Context::from_waker(Waker::noop());
        let mut last = Context::from_waker(&waker);
        assert!(stop.poll_raised(&mut first).is_pending());
        assert!(stop.poll_raised(&mut last).is_pending());
        stop.raise();
        assert_eq!(wakes.count(), 1);
        assert!(stop.poll_raised(&mut first).is_ready());
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::sync::model;

    /// A task that waits, against the raise of the flag; preemptions unbounded.
    ///
    /// Catches: a waker that is parked under another lock than the look at the flag.
    #[test]
    fn the_word_to_stop_always_reaches_the_task_that_waits() {
        model(None, || {
            let stop = Stop::new();
            let raiser = thread::spawn({
                let stop = stop.clone();
                move || stop.raise()
            });
            block_on(std::future::poll_fn(|cx| stop.poll_raised(cx)));
            raiser.join().expect("no panic");
        });
    }
}
