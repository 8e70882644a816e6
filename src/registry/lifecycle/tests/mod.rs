//! Lifecycles, in walks through their states and in situations that have rules of their own.

use std::num::NonZeroU32;

use crate::registry::lifecycle::*;

mod situations;
mod walks;

/// A client leaves that had not reported its arrival.
const LEAVE: Event = Event::Leave { has_arrived: false };

/// Few enough for the enumeration to reach.
const CLIENTS_MAX: usize = 3;

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

fn policy(linger: u64) -> LifecyclePolicy {
    LifecyclePolicy {
        clients_max: CLIENTS_MAX,
        linger: Duration::from_millis(linger),
        stop_grace: Duration::from_millis(50),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(40),
        crashes_max: NonZeroU32::new(3).expect("not zero"),
        crash_window: Duration::from_millis(1000),
        cooldown: Duration::from_millis(500),
    }
}
