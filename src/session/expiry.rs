//! When a client's credentials run out: a pure machine.

use std::time::SystemTime;

use crate::client::identity::Identity;
use crate::rt::Instant;

/// The end of what a client has shown, on the clock that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(Option<Instant>);

/// Whether a client's credentials are still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// They have run out.
    No,
    /// They are good.
    Yes,
}

impl Expiry {
    /// The end of these credentials, if it now is `now`, and `wall` for people.
    ///
    /// A wall clock that is set afterwards moves it no more.
    pub fn new(identity: &Identity, wall: SystemTime, now: Instant) -> Self {
        // What has run out already does so now.
        let left = |at: SystemTime| at.duration_since(wall).unwrap_or_default();
        Self(identity.expires.map(|at| now + left(at)))
    }

    /// When they run out; `None` for never.
    pub fn deadline(self) -> Option<Instant> {
        self.0
    }

    /// Whether they are good at `now`.
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
