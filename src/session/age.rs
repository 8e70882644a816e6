//! How long a session may last, idle and in total: a pure state machine.

use std::time::Duration;

use crate::limits::AgePolicy;
use crate::rt::{Instant, Random};

/// The age of one session; `None` if it has no limit.
#[derive(Debug)]
pub(super) struct Age(Option<Box<Bounded>>);

/// An age with a limit.
#[derive(Debug)]
struct Bounded {
    /// The longest time without a message, drawn once for each session.
    idle: Option<Duration>,
    active: Instant,
    until: Option<Instant>,
}

/// Why a session is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooOld {
    Aged,
    Idle,
}

impl Age {
    /// The age of a session that begins at `now`.
    pub(super) fn new(policy: AgePolicy, now: Instant, random: &impl Random) -> Self {
        let bounded = Bounded {
            idle: draw(policy.idle, random),
            active: now,
            until: draw(policy.max, random).map(|max| now + max),
        };
        let is_bounded = bounded.idle.is_some() || bounded.until.is_some();
        Self(is_bounded.then(|| Box::new(bounded)))
    }

    /// Notes that a message passed, in either direction.
    pub(super) fn active(&mut self, now: Instant) {
        if let Some(bounded) = &mut self.0 {
            bounded.active = now;
        }
    }

    /// When the session becomes too old, unless a message passes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let bounded = self.0.as_ref()?;
        let idle = bounded.idle.map(|idle| bounded.active + idle);
        idle.into_iter().chain(bounded.until).min()
    }

    /// Whether the session is too old at `now`, and why.
    pub(super) fn on_time(&self, now: Instant) -> Option<TooOld> {
        let bounded = self.0.as_ref()?;
        if bounded.until.is_some_and(|until| now >= until) {
            return Some(TooOld::Aged);
        }
        let idle = bounded.idle;
        let idle = idle.is_some_and(|idle| now >= bounded.active + idle);
        idle.then_some(TooOld::Idle)
    }
}

/// Draws a duration between three quarters of `limit` and all of it; `None` if `limit` is zero,
/// which stands for no limit.
fn draw(limit: Duration, random: &impl Random) -> Option<Duration> {
    if limit.is_zero() {
        return None;
    }
    let quarter = u64::try_from((limit / 4).as_nanos()).unwrap_or(u64::MAX);
    let early = match quarter.checked_add(1) {
        Some(choices) => random.random() % choices,
        None => random.random(),
    };
    Some(limit - Duration::from_nanos(early))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Random for Fixed {
        fn random(&self) -> u64 {
            self.0
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn policy(idle: u64, max: u64) -> AgePolicy {
        AgePolicy {
            idle: Duration::from_secs(idle),
            max: Duration::from_secs(max),
        }
    }

    #[test]
    fn a_session_is_idle_at_its_time_and_not_before() {
        let mut age = Age::new(policy(100, 0), at(0), &Fixed(0));
        assert_eq!((age.deadline(), age.on_time(at(99))), (Some(at(100)), None));
        age.active(at(99));
        assert_eq!(
            (age.deadline(), age.on_time(at(198))),
            (Some(at(199)), None)
        );
        assert_eq!(age.on_time(at(199)), Some(TooOld::Idle));
    }

    #[test]
    fn a_session_is_aged_however_active() {
        let mut age = Age::new(policy(100, 150), at(10), &Fixed(0));
        age.active(at(159));
        assert_eq!(age.on_time(at(159)), None);
        assert_eq!(age.deadline(), Some(at(160)));
        assert_eq!(age.on_time(at(160)), Some(TooOld::Aged));
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let age = Age::new(AgePolicy::default(), at(0), &Fixed(0));
        assert_eq!((age.deadline(), age.on_time(at(1 << 40))), (None, None));
    }

    #[test]
    fn every_draw_is_in_the_last_quarter() {
        let second = Duration::from_secs(1);
        for limit in [Duration::from_nanos(1), second, Duration::MAX] {
            for random in [0, 1, 249_999_999, 250_000_000, 250_000_001, u64::MAX] {
                let drawn = draw(limit, &Fixed(random)).expect("a limit");
                assert!(
                    drawn <= limit && drawn >= limit - limit / 4,
                    "{limit:?} {random}"
                );
            }
        }
        let earliest = draw(second, &Fixed(250_000_000));
        assert_eq!(
            earliest,
            Some(Duration::from_millis(750)),
            "all of the quarter is used"
        );
    }
}
