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
/// Each request of a connection, and each wait for one, sets the deadline anew. hyper lets a client
/// take any time to read a response. A long response extends the deadline with each part that fits
/// into the buffer, so that a client which stops reading is still dropped. The response of a
/// session has the session's deadlines in the place of this one.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    until: Instant,
    /// The time to which a long response has extended the deadline, as the last one of its
    /// connection.
    extended: Instant,
    /// Completes at the end of the session that the connection serves.
    session: Option<oneshot::Receiver<()>>,
}

impl State {
    fn moment(&self) -> Instant {
        self.until.max(self.extended)
    }
}

impl Deadline {
    pub(super) fn until(moment: Instant) -> Self {
        Self(Arc::new(Mutex::new(State {
            until: moment,
            extended: Instant::ZERO,
            session: None,
        })))
    }

    /// Sets the deadline, which may be earlier than before; it has no effect on a deadline that is
    /// extended to a later time.
    ///
    /// The task of the connection is to poll [`passed`](Self::passed) after it.
    pub(super) fn set(&self, moment: Instant) {
        self.0.lock().until = moment;
    }

    /// Extends the deadline; an earlier time has no effect.
    pub(super) fn extend(&self, moment: Instant) {
        let mut state = self.0.lock();
        state.extended = moment.max(state.extended);
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
        let mut wakes_at = self.0.lock().moment();
        let mut sleep = rt.sleep_until(wakes_at);
        poll_fn(|cx| {
            loop {
                let (until, newer) = {
                    let mut state = self.0.lock();
                    (state.moment(), state.session.take())
                };
                if newer.is_some() {
                    session = newer;
                }
                if let Some(session) = &mut session {
                    return session.poll_unpin(cx).map(drop);
                }
                // A timer that is too early is kept, so that most requests set none.
                if wakes_at <= until && sleep.poll_unpin(cx).is_pending() {
                    return Poll::Pending;
                }
                if until <= rt.now() {
                    return Poll::Ready(());
                }
                wakes_at = until;
                sleep = rt.sleep_until(wakes_at);
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
    async fn it_is_set_anew_to_an_earlier_or_a_later_time_and_not_before_an_extended_one() {
        let rt = Tokio::current();
        let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
        for (extended, sets, over) in [
            (0, [90, 5], 5),
            (0, [5, 90], 90),
            (40, [90, 5], 40),
            (40, [5, 90], 90),
        ] {
            let begin = rt.now().saturating_since(at(0)).as_secs();
            let deadline = Deadline::until(at(begin + 20));
            let mut passed = Box::pin(deadline.clone().passed(rt.clone()));
            assert!(futures::poll!(passed.as_mut()).is_pending());
            deadline.extend(at(begin + extended));
            for seconds in sets {
                deadline.set(at(begin + seconds));
                assert!(futures::poll!(passed.as_mut()).is_pending());
            }
            passed.await;
            assert_eq!(rt.now(), at(begin + over), "{extended} {sets:?}");
        }
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
