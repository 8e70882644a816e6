//! The deadline of a connection that is not upgraded.

use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::poll_fn;

use crate::rt::{Instant, Runtime};
use crate::sync::Mutex;

/// The time at which a connection is dropped; stored as an extension of its requests.
///
/// hyper lets a client take any time to read a response. A long response extends the deadline with
/// each part that fits into the buffer, so that a client which stops reading is still dropped. The
/// response of a session has the session's deadlines in the place of this one.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    until: Instant,
    /// Completes at the end of the session that the connection serves.
    session: Option<oneshot::Receiver<()>>,
}

impl Deadline {
    pub(super) fn until(moment: Instant) -> Self {
        Self(Arc::new(Mutex::new(State {
            until: moment,
            session: None,
        })))
    }

    /// Extends the deadline; an earlier time has no effect.
    pub(super) fn extend(&self, moment: Instant) {
        let mut state = self.0.lock();
        state.until = moment.max(state.until);
    }

    /// Replaces the deadline by the end of a session, which this receiver's sender tells.
    ///
    /// Completes at once, and wakes the calling task, which is that of the connection: it is to
    /// poll [`passed`](Self::passed) again.
    pub(super) async fn follow(&self, session: oneshot::Receiver<()>) {
        let before = self.0.lock().session.replace(session);
        drop(before);
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })
        .await;
    }

    /// Completes at the deadline.
    pub(super) async fn passed<R: Runtime>(self, rt: R) {
        let mut session = None;
        let mut sleep = rt.sleep_until(self.0.lock().until);
        poll_fn(|cx| {
            loop {
                let (until, newer) = {
                    let mut state = self.0.lock();
                    (state.until, state.session.take())
                };
                if newer.is_some() {
                    session = newer;
                }
                if let Some(session) = &mut session {
                    return session.poll_unpin(cx).map(drop);
                }
                if sleep.poll_unpin(cx).is_pending() {
                    return Poll::Pending;
                }
                if until <= rt.now() {
                    return Poll::Ready(());
                }
                sleep = rt.sleep_until(until);
            }
        })
        .await;
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

    #[tokio::test(start_paused = true)]
    async fn it_is_over_with_the_session_sooner_or_later_than_its_time() {
        let rt = Tokio::current();
        for seconds in [3, 300] {
            let begin = rt.now();
            let deadline = Deadline::until(begin + Duration::from_secs(20));
            let (alive, session) = oneshot::channel::<()>();
            let serve = async {
                deadline.follow(session).await;
                rt.sleep_until(begin + Duration::from_secs(seconds)).await;
                drop(alive);
            };
            let passed = async {
                deadline.clone().passed(rt.clone()).await;
                rt.now().saturating_since(begin)
            };
            let (after, ()) = futures::join!(passed, serve);
            assert_eq!(after, Duration::from_secs(seconds));
        }
    }
}
