//! Callers: the programs of a backend, each with a key, and what is remembered of their calls.
//!
//! A caller is no client: it has no connection that lasts, no room and no identity of a user.

use std::net::IpAddr;

use crate::bus::Position;
use crate::limits::ApiLimits;
use crate::rt::Instant;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

mod counts;
mod key;
mod method;
mod remembered;
mod versions;
mod wrong_keys;

pub use self::counts::{CallerCounts, Outcome, Turned};
pub use self::key::{Key, KeyError, Keys, Rights, SECRET_BYTES_MIN};
pub use self::method::Method;
// For the tests.
#[doc(hidden)]
pub use self::remembered::{Begun, Named, Remembered};
#[doc(hidden)]
pub use self::versions::{Judged, Version, Versions};
use self::wrong_keys::WrongKeys;

pub(crate) use self::counts::Counters;

/// The calls that an application serves and has served.
pub(crate) struct Callers {
    pub(crate) counters: Counters,
    pub(crate) remembered: Mutex<Remembered<Option<Position>>>,
    pub(crate) versions: Mutex<Versions>,
    wrong_keys: Mutex<WrongKeys>,
    in_flight: Arc<AtomicU64>,
    /// The calls that wait for the answer of a service.
    rpcs: Arc<AtomicU64>,
    /// The connections that are kept for the next call.
    connections: Arc<AtomicU64>,
    /// 1 once no further call is served.
    stopped: AtomicU64,
}

impl Callers {
    pub(crate) fn new(limits: &ApiLimits) -> Self {
        let remembered = Remembered::new(limits.idempotency_keys, limits.idempotency_ttl);
        Self {
            counters: Counters::default(),
            remembered: Mutex::new(remembered),
            versions: Mutex::new(Versions::new(limits.versions)),
            wrong_keys: Mutex::new(WrongKeys::default()),
            in_flight: Arc::new(AtomicU64::new(0)),
            rpcs: Arc::new(AtomicU64::new(0)),
            connections: Arc::new(AtomicU64::new(0)),
            stopped: AtomicU64::new(0),
        }
    }

    /// Counts a wrong key that came from an address; whether the address may be told so.
    pub(crate) fn is_in_rate(
        &self,
        address: Option<IpAddr>,
        limits: &ApiLimits,
        now: Instant,
    ) -> bool {
        let mut wrong_keys = self.wrong_keys.lock();
        wrong_keys.take(address, limits.wrong_keys, now)
    }

    /// Serves no further call, nor those whose request is still arriving.
    pub(crate) fn stop(&self) {
        self.stopped.store(1, Ordering::Release);
    }

    /// Whether no further call is served.
    pub(crate) fn has_stopped(&self) -> bool {
        // Acquire pairs with the Release in `stop`: the last calls see the flag before histories
        // are saved.
        self.stopped.load(Ordering::Acquire) > 0
    }

    /// The requests in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Takes the place of one more request; `None` if as many are in flight as may be.
    pub(crate) fn enter(&self, limits: &ApiLimits) -> Option<Place> {
        Place::take(&self.in_flight, limits.in_flight)
    }

    /// Takes the place of one more call that waits for a service; `None` if as many wait as may.
    pub(crate) fn ask(&self, limits: &ApiLimits) -> Option<Place> {
        Place::take(&self.rpcs, limits.rpcs)
    }

    /// Takes the place of one more connection that is kept; `None`, which is counted, if as many
    /// are kept as may be.
    pub(crate) fn keep(&self, limits: &ApiLimits) -> Option<Place> {
        let place = Place::take(&self.connections, limits.connections);
        if place.is_none() {
            self.counters.unkept();
        }
        place
    }

    /// The totals, and the state.
    pub(crate) fn counts(&self) -> CallerCounts {
        CallerCounts {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            rpcs: self.rpcs.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            remembered: self.remembered.lock().len() as u64,
            ..self.counters.counts()
        }
    }
}

/// A place of a bounded number; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicU64>);

impl Place {
    fn take(taken: &Arc<AtomicU64>, most: usize) -> Option<Self> {
        // The place is given back if it was one too many, so that no other order is needed.
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(taken));
        (before < most as u64).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_whether_it_was_taken_or_refused() {
        let limits = ApiLimits {
            in_flight: 2,
            ..ApiLimits::default()
        };
        let callers = Callers::new(&limits);
        let (one, two) = (callers.enter(&limits), callers.enter(&limits));
        assert!(one.is_some() && two.is_some());
        assert!(callers.enter(&limits).is_none());
        assert_eq!(callers.counts().in_flight, 2);
        drop(one);
        assert!(callers.enter(&limits).is_some());
        assert_eq!(callers.counts().in_flight, 1);
    }

    #[test]
    fn as_many_connections_are_kept_as_may_be_and_each_further_one_is_counted() {
        let limits = ApiLimits {
            connections: 2,
            in_flight: 0,
            ..ApiLimits::default()
        };
        let callers = Callers::new(&limits);
        let (one, two) = (callers.keep(&limits), callers.keep(&limits));
        assert!(one.is_some() && two.is_some());
        assert!(callers.keep(&limits).is_none());
        let counts = callers.counts();
        assert_eq!((counts.connections, counts.unkept), (2, 1));
        drop(one);
        assert!(callers.keep(&limits).is_some());
        let counts = callers.counts();
        assert_eq!(
            (counts.connections, counts.unkept, counts.in_flight),
            (1, 1, 0)
        );
    }
}
