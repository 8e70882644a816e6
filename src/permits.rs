//! The bounded number of sessions, and the wait for the last one to end.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::sync::{Arc, Mutex, Place, Waiters};

/// A pool of rights to a session; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Those who wait for none to be taken.
    watchers: Waiters,
}

/// The right to one session, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Permits);

impl Permits {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            state: Arc::new(Mutex::new(State::default())),
        }
    }

    /// One more, unless all are taken.
    pub(crate) fn take(&self) -> Option<Permit> {
        let mut state = self.state.lock();
        if state.taken >= self.max {
            return None;
        }
        state.taken += 1;
        drop(state);
        Some(Permit(self.clone()))
    }

    pub(crate) fn taken(&self) -> usize {
        self.state.lock().taken
    }

    /// Waits until none is taken.
    pub(crate) async fn all_returned(&self) {
        let mut watch = Watch {
            permits: self,
            place: None,
        };
        poll_fn(|cx| watch.poll(cx)).await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.taken -= 1;
        let watchers = (state.taken == 0).then(|| state.watchers.unpark());
        drop(state);
        watchers.unwrap_or_default().wake();
    }
}

struct Watch<'a> {
    permits: &'a Permits,
    place: Option<Place>,
}

impl Watch<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.permits.state.lock();
        if state.taken == 0 {
            return Poll::Ready(());
        }
        let place = self.place.get_or_insert_with(|| state.watchers.enter());
        let replaced = state.watchers.park(place, cx.waker());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let waker = self.permits.state.lock().watchers.leave(place);
            drop(waker);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    #[test]
    fn there_are_as_many_as_allowed_and_those_returned_are_given_again() {
        let permits = Permits::new(2);
        let first = permits.take();
        let second = permits.take();
        assert!(first.is_some() && second.is_some());
        assert!(permits.take().is_none(), "a third one");
        assert_eq!(permits.taken(), 2);
        drop(first);
        assert_eq!(permits.taken(), 1);
        assert!(permits.take().is_some());
        assert!(Permits::new(0).take().is_none());
    }

    #[test]
    fn who_gives_up_waiting_leaves_no_place_behind() {
        let permits = Permits::new(1);
        let permit = permits.take();
        let mut cx = Context::from_waker(Waker::noop());
        let places = || permits.state.lock().watchers.len();
        {
            let mut all_returned = pin!(permits.all_returned());
            assert!(all_returned.as_mut().poll(&mut cx).is_pending());
            assert!(all_returned.as_mut().poll(&mut cx).is_pending());
            assert_eq!(places(), 1);
        }
        assert_eq!(places(), 0);
        drop(permit);
        assert!(pin!(permits.all_returned()).poll(&mut cx).is_ready());
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::sync::model;

    /// 2 threads take one of 1 and return it, while a third waits for none; bound 3.
    ///
    /// Catches: a count changed outside of the lock, and a watcher that is not woken.
    #[test]
    fn a_limit_of_one_is_never_passed_and_the_last_return_is_seen() {
        model(Some(3), || {
            let permits = Permits::new(1);
            let takers = [(); 2].map(|()| {
                let permits = permits.clone();
                thread::spawn(move || {
                    let permit = permits.take();
                    assert!(permits.taken() <= 1);
                    u32::from(permit.is_some())
                })
            });
            block_on(permits.all_returned());
            let taken: u32 = takers
                .map(|taker| taker.join().expect("no panic"))
                .iter()
                .sum();
            assert!(taken >= 1, "a permit that is free is given");
            block_on(permits.all_returned());
            assert_eq!(permits.taken(), 0);
            assert!(permits.take().is_some());
        });
    }
}
