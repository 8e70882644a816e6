//! The slots of connections that are not upgraded yet, shared by all threads that accept.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::channel::oneshot;

use super::progress::{Progress, Stage};
use super::waiting::{Bounds, Crowd, Displaced, Newcomer, Number};
use crate::metrics::DisplaceReason;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, WaiterSlot, Waiters};

/// The slots for as many connections as the bounds allow; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The connections with a slot; the sender of a connection tells it to close.
    crowd: Crowd<oneshot::Sender<()>>,
    /// Newcomers that wait, because no other connection can give way now.
    newcomers: Waiters,
}

/// The slot of one connection; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Place(Mark);

/// Reports the progress of a connection, which has a slot, or has given it back.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    places: Places,
    number: Number,
    progress: Arc<Mutex<Progress>>,
    /// Whether the response waits for the client to read.
    is_blocked: Arc<AtomicBool>,
}

/// A slot, and how it was freed.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) place: Place,
    /// Completes when the connection has to give way to a newer one.
    pub(super) displaced: Told,
    /// The bound for which another connection gave way to this one, if one did.
    pub(super) instead: Option<DisplaceReason>,
}

/// Completes when a connection has to give way to a newer one; never for a connection that has
/// given its slot back.
#[derive(Debug)]
pub(super) struct Told(oneshot::Receiver<()>);

impl Future for Told {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.poll_unpin(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(oneshot::Canceled)) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The address is at its bound, and all its connections are being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Places {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(State {
            crowd: Crowd::new(bounds),
            newcomers: Waiters::default(),
        })))
    }

    /// Takes a slot: a free slot, or the slot of a connection that gives way; if all connections
    /// are being served, waits for the first slot that becomes free.
    ///
    /// # Errors
    ///
    /// When all slots of the address belong to connections that are being served.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no slot.
    pub(super) async fn take(&self, newcomer: Newcomer) -> Result<Taken, Refused> {
        let mut asking = Asking {
            places: self,
            newcomer,
            turn: None,
        };
        poll_fn(|cx| asking.poll(cx)).await
    }

    /// Applies a change after which a slot may be free, and wakes the newcomers.
    fn change<T>(&self, change: impl FnOnce(&mut Crowd<oneshot::Sender<()>>) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state.crowd);
        let newcomers = state.newcomers.unpark();
        drop(state);
        newcomers.wake();
        changed
    }
}

impl Place {
    pub(super) fn mark(&self) -> Mark {
        self.0.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Mark { places, number, .. } = &self.0;
        drop(places.change(|crowd| crowd.leave(*number)));
    }
}

impl Mark {
    /// Notes that a whole request head has arrived: the connection does not give way any more.
    ///
    /// Returns `false` if the connection has already given way, and must not be served.
    pub(super) fn serve(&self) -> bool {
        // A connection that is kept has no slot, and gives way to no other.
        let was_kept = self.progress.lock().was_kept();
        let is_served = was_kept || self.places.0.lock().crowd.serve(self.number);
        if is_served {
            self.progress.lock().served();
        }
        is_served
    }

    /// Whether a request is being served, from the view of the connection's own task.
    pub(super) fn is_served(&self) -> bool {
        self.progress.lock().is_served()
    }

    /// Notes that bytes of the client have arrived.
    pub(super) fn arrived(&self) {
        self.progress.lock().arrived();
    }

    /// Notes that a known caller has sent its whole request, so that the connection may be kept.
    pub(super) fn allow_keeping(&self) {
        self.progress.lock().allow();
    }

    /// Whether the connection may be kept after the request that is being served.
    pub(super) fn may_be_kept(&self) -> bool {
        self.progress.lock().may_be_kept()
    }

    /// Notes that the connection is kept after the response that is made now, and gives the slot
    /// back.
    pub(super) fn keep(&self) {
        let was_kept = self.progress.lock().keep();
        if !was_kept {
            self.release();
        }
    }

    /// Notes that all that there was to write is written; returns whether the connection waits for
    /// the next request from now on.
    pub(super) fn wrote(&self) -> bool {
        self.progress.lock().wrote()
    }

    /// The stage of the connection, if it has entered one since the last call.
    pub(super) fn news(&self) -> Option<Stage> {
        self.progress.lock().news()
    }

    /// Notes whether the response waits for the client to read; returns whether it did before.
    pub(super) fn blocked(&self, is_blocked: bool) -> bool {
        self.is_blocked.swap(is_blocked, Ordering::Relaxed)
    }

    /// Whether the response waits for the client to read, from the view of the connection's own
    /// task.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Gives the slot back before the connection ends, because it counts as a session or as one
    /// that is kept from now on.
    pub(super) fn release(&self) {
        drop(self.places.change(|crowd| crowd.leave(self.number)));
    }

    /// Notes that the client has its last response: the connection gives way before all others.
    pub(super) fn answered(&self) {
        self.progress.lock().ended();
        self.places.change(|crowd| crowd.answered(self.number));
    }
}

/// A connection that waits for a slot.
struct Asking<'a> {
    places: &'a Places,
    newcomer: Newcomer,
    turn: Option<WaiterSlot>,
}

impl Asking<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Refused>> {
        let (tell, displaced) = oneshot::channel();
        let mut state = self.places.0.lock();
        let gone = match state.crowd.make_room(self.newcomer) {
            Ok(gone) => gone,
            Err(DisplaceReason::Handshakes) => {
                let turn = self.turn.get_or_insert_with(|| state.newcomers.enter());
                let replaced = state.newcomers.park(turn, cx.waker());
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
            Err(DisplaceReason::HandshakesPerAddress) => return Poll::Ready(Err(Refused)),
        };
        let number = state.crowd.enter(self.newcomer, tell);
        drop(state);
        // The message wakes another task; no lock is held here.
        let instead = gone.map(|Displaced { bound, tell }| {
            // A connection that has ended meanwhile gives way, too.
            let _told_or_gone = tell.send(());
            bound
        });
        let mark = Mark {
            places: self.places.clone(),
            number,
            progress: Arc::new(Mutex::new(Progress::new())),
            is_blocked: Arc::new(AtomicBool::new(false)),
        };
        Poll::Ready(Ok(Taken {
            place: Place(mark),
            displaced: Told(displaced),
            instead,
        }))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let waker = self.places.0.lock().newcomers.leave(turn);
            drop(waker);
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::sync::model;

    fn one() -> Places {
        Places::new(Bounds {
            in_all: 1,
            per_address: 1,
        })
    }

    /// A connection that is being served ends, or has its response, while a newcomer asks; bound 3.
    ///
    /// Catches: a newcomer that parks after it has unlocked, and a change without a wake-up.
    #[test]
    fn a_newcomer_gets_the_place_that_another_thread_leaves() {
        for ends in [true, false] {
            model(Some(3), move || {
                let places = one();
                let newcomer = Newcomer::of(None, false);
                let first = block_on(places.take(newcomer)).expect("it is free");
                assert!(first.place.mark().serve());
                let leaves = thread::spawn(move || {
                    if ends {
                        drop(first);
                        None
                    } else {
                        first.place.mark().answered();
                        Some(first)
                    }
                });
                let second = block_on(places.take(newcomer)).expect("it has no address");
                assert_eq!(second.instead.is_some(), !ends);
                drop(leaves.join().expect("no panic"));
            });
        }
    }

    /// A connection gets its request head while a newcomer asks for the only slot; bound 3.
    ///
    /// Catches: a connection that is served and gives way.
    #[test]
    fn a_connection_is_served_or_gives_way() {
        model(Some(3), || {
            let places = one();
            let address = Newcomer::of(Some([192, 0, 2, 1].into()), false);
            let first = block_on(places.take(address)).expect("it is free");
            let mark = first.place.mark();
            let server = thread::spawn(move || mark.serve());
            let second = block_on(places.take(address));
            let is_served = server.join().expect("no panic");
            assert_eq!(is_served, second.is_err());
        });
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use futures::FutureExt;

    use super::*;
    use crate::wakes::Wakes;

    #[test]
    fn a_newcomer_that_gives_up_leaves_no_turn_and_takes_no_place() {
        let places = Places::new(Bounds {
            in_all: 1,
            per_address: 1,
        });
        let newcomer = Newcomer::of(None, false);
        let first = places.take(newcomer).now_or_never().expect("it is free");
        let first = first.expect("it has no address");
        assert!(first.place.mark().serve());
        let turns = || places.0.lock().newcomers.len();
        {
            let (wakes, waker) = Wakes::new();
            let mut cx = Context::from_waker(&waker);
            let mut second = pin!(places.take(newcomer));
            assert!(second.as_mut().poll(&mut cx).is_pending());
            assert_eq!(turns(), 1);
            drop(first);
            assert_eq!(wakes.count(), 1);
        }
        assert_eq!(turns(), 0);
        let third = places.take(newcomer).now_or_never().expect("it is free");
        assert_eq!(third.expect("it has no address").instead, None);
    }

    #[test]
    fn a_connection_is_told_when_it_gives_way_and_not_before() {
        let places = Places::new(Bounds {
            in_all: 9,
            per_address: 1,
        });
        let newcomer = Newcomer::of(Some([192, 0, 2, 1].into()), false);
        let take = || places.take(newcomer).now_or_never().expect("nobody waits");
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = take().expect("it is free");
        assert!(first.displaced.poll_unpin(&mut cx).is_pending());
        let second = take().expect("the first gives way");
        assert_eq!(second.instead, Some(DisplaceReason::HandshakesPerAddress));
        assert!(first.displaced.poll_unpin(&mut cx).is_ready());
        assert!(!first.place.mark().serve());
        drop(first);
        assert!(second.place.mark().serve(), "it has its own place");
        assert_eq!(take().map(drop), Err(Refused));
    }

    #[test]
    fn a_connection_that_has_given_its_slot_back_stays_and_its_slot_is_free() {
        let places = Places::new(Bounds {
            in_all: 1,
            per_address: 1,
        });
        let newcomer = Newcomer::of(None, false);
        let take = || places.take(newcomer).now_or_never();
        let mut first = take().expect("it is free").expect("it has no address");
        assert!(first.place.mark().serve());
        let (wakes, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut second = pin!(places.take(newcomer));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        first.place.mark().release();
        assert_eq!(wakes.count(), 1, "the slot is free");
        let second = second.now_or_never().expect("it is free");
        let second = second.expect("it has no address");
        assert_eq!(second.instead, None);
        first.place.mark().answered();
        drop(first.place);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.displaced.poll_unpin(&mut cx).is_pending());
        assert!(second.place.mark().serve(), "it has its own slot");
        assert!(take().is_none(), "there is one slot, not two");
    }
}
