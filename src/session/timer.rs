//! When a session is to be polled although nothing happens.

use std::task::{Context, Poll};

use crate::planted::{self, Bug};
use crate::rt::{Instant, Runtime, Sleep};

/// One timer, armed for the earliest deadline it was asked for.
///
/// A deadline that moves away leaves the timer as it is: it fires early, nothing is found due, and
/// it is armed anew. So a busy session does not touch its timer at all.
#[derive(Default)]
pub(super) struct Timer {
    armed: Option<(Instant, Sleep)>,
    /// Whether it wakes the task that polled it last.
    parked: bool,
    /// Whether the last poll of the session was of another task than the one before, or the first
    /// one; it is here because it needs no room here.
    pub(super) is_moved: bool,
}

impl Timer {
    /// Whether it is armed and need not be polled: it will wake the task.
    #[inline]
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.parked && self.armed.as_ref().is_some_and(|(at, _)| now < *at)
    }

    /// From now on another task polls it.
    pub(super) fn moved(&mut self) {
        self.is_moved = true;
        self.parked = false;
    }

    /// Ready once it has fired, which may be before `deadline`.
    pub(super) fn poll<R: Runtime>(
        &mut self,
        cx: &mut Context<'_>,
        rt: &R,
        (deadline, now): (Instant, Instant),
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
