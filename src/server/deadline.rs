//! The deadline of a connection that is not upgraded.

use std::sync::Arc;

use crate::rt::{Instant, Runtime};
use crate::sync::Mutex;

/// The time at which a connection is dropped; stored as an extension of its requests.
///
/// hyper lets a client take any time to read a response. A long response extends the deadline with
/// each part that fits into the buffer, so that a client which stops reading is still dropped.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    pub(super) fn until(moment: Instant) -> Self {
        Self(Arc::new(Mutex::new(moment)))
    }

    /// Extends the deadline; an earlier time has no effect.
    pub(super) fn extend(&self, moment: Instant) {
        let mut until = self.0.lock();
        *until = moment.max(*until);
    }

    /// Completes at the deadline.
    pub(super) async fn passed<R: Runtime>(self, rt: R) {
        loop {
            let until = *self.0.lock();
            if until <= rt.now() {
                return;
            }
            rt.sleep_until(until).await;
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rt::{Clock, Tokio};

    #[tokio::test(start_paused = true)]
    async fn it_is_over_at_the_last_moment_it_was_put_off_to_and_never_sooner() {
        let rt = Tokio::current();
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        let deadline = Deadline::until(at(20));
        let extend = async {
            rt.sleep_until(at(19)).await;
            deadline.extend(at(90));
            rt.sleep_until(at(50)).await;
            deadline.extend(at(60));
        };
        futures::join!(deadline.clone().passed(rt.clone()), extend);
        assert_eq!(rt.now(), at(90));
    }
}
