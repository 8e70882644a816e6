//! The timer that wakes a session for its next deadline.

use std::task::{Context, Poll};

use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime, Sleep};

/// One timer, armed for the earliest deadline requested.
///
/// A deadline that moves back leaves the timer as it is: the timer fires early, the session finds
/// nothing due and arms it again. So a busy session does not touch its timer at all.
#[derive(Default)]
pub(super) struct Timer {
    armed: Option<(Instant, Sleep)>,
    /// Whether the timer wakes the task that polled it last.
    parked: bool,
    /// Whether the last poll of the session came from another task than the poll before it, or was
    /// the first poll; kept here because the flag fits into padding of this struct.
    pub(super) is_moved: bool,
}

impl Timer {
    /// Whether the timer is armed for a later time and wakes the current task, so that it need not
    /// be polled.
    #[inline]
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.parked && self.armed.as_ref().is_some_and(|(at, _)| now < *at)
    }

    /// Forgets which task is parked, because another task polls the timer from now on.
    pub(super) fn moved(&mut self) {
        self.is_moved = true;
        self.parked = false;
    }

    /// Ready once the timer has fired, which may be before `deadline`.
    pub(super) fn poll<R: Runtime>(
        &mut self,
        cx: &mut Context<'_>,
        rt: &R,
        deadline: Instant,
        now: Instant,
    ) -> Poll<()> {
        loop {
            let is_quiet = self.is_quiet(now);
            match &mut self.armed {
                Some((at, sleep)) if *at <= deadline || planted::is(Bug::DeadlineNotMoved) => {
                    if is_quiet {
                        return Poll::Pending;
                    }
                    self.parked = sleep.as_mut().poll(cx).is_pending();
                    if self.parked {
                        return Poll::Pending;
                    }
                    self.armed = None;
                    return Poll::Ready(());
                }
                Some(_) | None => {
                    self.parked = false;
                    self.armed = Some((deadline, rt.sleep_until(deadline)));
                }
            }
        }
    }
}
