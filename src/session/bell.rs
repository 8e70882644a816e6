//! Whether a socket has told of itself since it was last asked.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::{AtomicBool, Mutex, Ordering};

/// What a socket wakes in the place of its session's task, which it wakes in turn.
///
/// So a session that is woken by something else need not ask its socket.
pub(super) struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Bell {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        })
    }

    /// Wakes this task from now on.
    pub(super) fn call(&self, task: &Waker) {
        let mut slot = self.task.lock();
        let before = std::mem::replace(&mut *slot, task.clone());
        drop(slot);
        drop(before);
    }

    /// Whether it has rung since it was hushed.
    pub(super) fn has_rung(&self) -> bool {
        // A wake happens before the poll that it causes: who was woken sees what it was woken for.
        self.rung.load(Ordering::Acquire)
    }

    /// To be called before the socket is asked: what it tells after that rings again.
    pub(super) fn hush(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        task.wake();
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[test]
    fn it_has_rung_until_it_is_hushed_and_wakes_the_task_it_was_given_last() {
        let bell = Bell::new();
        assert!(bell.has_rung(), "nobody has looked yet");
        bell.hush();
        assert!(!bell.has_rung());
        let tasks = [(); 2].map(|()| Wakes::new());
        for (_, waker) in &tasks {
            bell.call(waker);
        }
        Waker::from(Arc::clone(&bell)).wake();
        assert!(bell.has_rung());
        let woken = tasks.map(|(wakes, _)| wakes.count());
        assert_eq!(woken, [0, 1]);
    }
}
