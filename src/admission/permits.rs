//! The bounded number of sessions: in all, of one address, of one subject; and the wait for the
//! last session to end.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use crate::client::address::group;
use crate::client::peer::Peer;
use crate::planted::{self, Bug};
use crate::sync::{Arc, Mutex, WaiterSlot, Waiters};

/// A pool of permits, one for each session; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    bounds: Bounds,
    state: Mutex<State>,
}

/// The largest numbers of sessions at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) in_all: usize,
    /// Sessions of one IPv4 address, or of one /64 of IPv6.
    pub(crate) per_address: usize,
    pub(crate) per_subject: usize,
}

/// The bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Address,
    InAll,
    Subject,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Only addresses that have a session.
    by_address: BTreeMap<IpAddr, usize>,
    by_subject: BTreeMap<StdArc<str>, usize>,
    /// Tasks that wait until no permit is taken.
    watchers: Waiters,
}

/// The permit of one session, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Permits,
    holder: Holder,
}

/// The holder of a permit; boxed if it has two names, as most clients have one.
#[derive(Debug)]
enum Holder {
    Address(Option<IpAddr>),
    Subject(Box<(Option<IpAddr>, StdArc<str>)>),
}

impl Holder {
    fn new(address: Option<IpAddr>, subject: Option<StdArc<str>>) -> Self {
        match subject {
            Some(subject) => Self::Subject(Box::new((address, subject))),
            None => Self::Address(address),
        }
    }

    fn names(&self) -> (Option<&IpAddr>, Option<&StdArc<str>>) {
        match self {
            Self::Address(address) => (address.as_ref(), None),
            Self::Subject(both) => (both.0.as_ref(), Some(&both.1)),
        }
    }
}

impl State {
    /// Checks the holders against the sum, in builds with debug assertions.
    fn check(&self) {
        let (addresses, subjects) = (self.by_address.len(), self.by_subject.len());
        debug_assert!(
            addresses.max(subjects) <= self.taken,
            "{addresses} addresses and {subjects} subjects hold permits, but {} are taken",
            self.taken,
        );
    }
}

impl Permits {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Pool {
            bounds,
            state: Mutex::new(State::default()),
        }))
    }

    /// Takes a permit, unless all permits are taken, or all permits that this peer may have.
    pub(crate) fn take(&self, peer: &Peer) -> Result<Permit, Full> {
        let address = peer.address.map(group);
        let subject = peer.subject().cloned();
        let bounds = &self.0.bounds;
        let mut state = self.0.state.lock();
        let max = planted::one_less(Bug::SessionTooFew, bounds.in_all);
        if state.taken >= planted::one_more(Bug::SessionTooMany, max) {
            return Err(Full::InAll);
        }
        if is_full(&state.by_address, address.as_ref(), bounds.per_address) {
            return Err(Full::Address);
        }
        if is_full(&state.by_subject, subject.as_ref(), bounds.per_subject) {
            return Err(Full::Subject);
        }
        state.taken += 1;
        if let Some(address) = address {
            *state.by_address.entry(address).or_default() += 1;
        }
        if let Some(subject) = &subject {
            *state.by_subject.entry(StdArc::clone(subject)).or_default() += 1;
        }
        debug_assert!(
            planted::is(Bug::SessionTooMany) || state.taken <= bounds.in_all,
            "{} permits are taken, but there are only {}",
            state.taken,
            bounds.in_all,
        );
        state.check();
        drop(state);
        Ok(Permit {
            permits: self.clone(),
            holder: Holder::new(address, subject),
        })
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.state.lock().taken
    }

    /// Waits until no permit is taken.
    pub(crate) async fn all_returned(&self) {
        let mut watch = Watch {
            permits: self,
            place: None,
        };
        poll_fn(|cx| watch.poll(cx)).await;
    }
}

fn is_full<K: Ord>(taken: &BTreeMap<K, usize>, key: Option<&K>, max: usize) -> bool {
    key.is_some_and(|key| taken.get(key).copied().unwrap_or_default() >= max)
}

fn give_back<K: Ord>(taken: &mut BTreeMap<K, usize>, key: Option<&K>) {
    let count = key.and_then(|key| taken.get_mut(key));
    debug_assert!(
        count.is_some() == key.is_some(),
        "a session gives a permit back, but its holder has none"
    );
    if let (Some(key), Some(count)) = (key, count) {
        *count -= 1;
        if *count == 0 {
            taken.remove(key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.0.state.lock();
        state.taken -= planted::none(Bug::PermitKept, 1);
        let (address, subject) = self.holder.names();
        give_back(&mut state.by_address, address);
        give_back(&mut state.by_subject, subject);
        state.check();
        let watchers = (state.taken == 0).then(|| state.watchers.unpark());
        drop(state);
        watchers.unwrap_or_default().wake();
    }
}

struct Watch<'a> {
    permits: &'a Permits,
    place: Option<WaiterSlot>,
}

impl Watch<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.permits.0.state.lock();
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
            let waker = self.permits.0.state.lock().watchers.leave(place);
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

    /// 2 threads take the only permit and return it, while a third waits until none is taken; bound
    /// 3.
    ///
    /// Catches: a count changed outside of the lock, and a watcher that is not woken.
    #[test]
    fn a_limit_of_one_is_never_passed_and_the_last_return_is_seen() {
        model(Some(3), || {
            let permits = Permits::new(Bounds {
                in_all: 1,
                per_address: 1,
                per_subject: 1,
            });
            let takers = [(); 2].map(|()| {
                let permits = permits.clone();
                thread::spawn(move || {
                    let permit = permits.take(&Peer::default());
                    assert!(permits.taken() <= 1);
                    u32::from(permit.is_ok())
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
            assert!(permits.take(&Peer::default()).is_ok());
        });
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;
    use crate::client::identity::Identity;

    fn peer(address: Option<&str>, subject: Option<&str>) -> Peer {
        Peer {
            address: address.map(|address| address.parse().expect("an address")),
            identity: Identity {
                subject: subject.map(StdArc::from),
                ..Identity::default()
            },
            ..Peer::default()
        }
    }

    fn permits(in_all: usize, per_address: usize, per_subject: usize) -> Permits {
        Permits::new(Bounds {
            in_all,
            per_address,
            per_subject,
        })
    }

    #[test]
    fn each_bound_is_reached_by_its_own_and_by_nobody_elses() {
        let permits = permits(6, 2, 3);
        let one = peer(Some("192.0.2.1"), Some("ann"));
        let held = [permits.take(&one), permits.take(&one)].map(|taken| taken.expect("room"));
        assert_eq!(permits.take(&one).err(), Some(Full::Address));
        let elsewhere = peer(Some("192.0.2.2"), Some("ann"));
        let third = permits.take(&elsewhere).expect("another address");
        assert_eq!(permits.take(&elsewhere).err(), Some(Full::Subject));
        let other = peer(Some("192.0.2.2"), Some("bob"));
        let fourth = permits.take(&other).expect("another subject");
        let nobody = peer(None, None);
        let last = [(); 2].map(|()| permits.take(&nobody).expect("neither counts for it"));
        assert_eq!(permits.take(&nobody).err(), Some(Full::InAll));
        drop((held, third, fourth, last));
        let state = permits.0.state.lock();
        assert_eq!(state.taken, 0);
        assert!(
            state.by_address.is_empty() && state.by_subject.is_empty(),
            "nothing stays"
        );
    }

    #[test]
    fn addresses_of_one_64_are_one() {
        let permits = permits(9, 1, 9);
        let first = permits
            .take(&peer(Some("2001:db8::1"), None))
            .expect("room");
        let same = peer(Some("2001:db8::ffff:1"), None);
        assert_eq!(permits.take(&same).err(), Some(Full::Address));
        assert!(permits.take(&peer(Some("2001:db8:0:1::1"), None)).is_ok());
        drop(first);
        assert!(permits.take(&same).is_ok());
    }

    #[test]
    fn there_are_as_many_as_allowed_and_those_returned_are_given_again() {
        let nobody = peer(None, None);
        let none = permits(0, 9, 9);
        let permits = permits(2, 2, 2);
        let first = permits.take(&nobody);
        let second = permits.take(&nobody);
        assert!(first.is_ok() && second.is_ok());
        assert!(permits.take(&nobody).is_err(), "a third one");
        assert_eq!(permits.taken(), 2);
        drop(first);
        assert_eq!(permits.taken(), 1);
        assert!(permits.take(&nobody).is_ok());
        assert!(none.take(&nobody).is_err());
    }

    #[test]
    fn who_gives_up_waiting_leaves_no_place_behind() {
        let nobody = peer(None, None);
        let permits = permits(1, 1, 1);
        let permit = permits.take(&nobody);
        let mut cx = Context::from_waker(Waker::noop());
        let places = || permits.0.state.lock().watchers.len();
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
