//! When a client's credentials expire: a pure state machine.

use std::time::SystemTime;

use crate::client::identity::Identity;
use crate::rt::Instant;

/// When a client's credentials expire, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(Option<Instant>);

/// Whether a client's credentials are still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// The credentials have expired.
    No,
    /// The credentials are valid.
    Yes,
}

impl Expiry {
    /// The expiry of the credentials in `identity`, where `now` and `wall` are the same moment on
    /// the monotonic clock and on the wall clock.
    ///
    /// The result does not change when the wall clock is set afterwards.
    pub fn new(identity: &Identity, wall: SystemTime, now: Instant) -> Self {
        // Credentials that expired in the past expire now.
        let left = |at: SystemTime| at.duration_since(wall).unwrap_or_default();
        Self(identity.expires.map(|at| now + left(at)))
    }

    /// When the credentials expire; `None` for never.
    pub fn deadline(self) -> Option<Instant> {
        self.0
    }

    /// Whether the credentials are valid at `now`.
    pub fn at(self, now: Instant) -> Good {
        match self.0 {
            Some(deadline) if now >= deadline => Good::No,
            Some(_) | None => Good::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wall(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn until(expires: Option<u64>) -> Identity {
        Identity {
            expires: expires.map(wall),
            ..Identity::default()
        }
    }

    #[test]
    fn credentials_are_good_up_to_their_end_and_not_at_it() {
        let expiry = Expiry::new(&until(Some(1_010)), wall(1_000), at(5));
        assert_eq!(expiry.deadline(), Some(at(15)));
        assert_eq!(expiry.at(at(14)), Good::Yes);
        assert_eq!(expiry.at(at(15)), Good::No);
        assert_eq!(expiry.at(at(16)), Good::No);
    }

    #[test]
    fn what_has_run_out_before_is_not_good_for_a_moment() {
        let expiry = Expiry::new(&until(Some(1)), wall(1_000), at(5));
        assert_eq!(expiry.at(at(5)), Good::No);
    }

    #[test]
    fn what_has_no_end_is_good_for_ever() {
        let expiry = Expiry::new(&until(None), wall(1_000), at(5));
        assert_eq!(expiry.deadline(), None);
        assert_eq!(expiry.at(at(u64::MAX)), Good::Yes);
    }
}
