//! How much one client may send: a pure state machine.

use crate::admission::bucket::Bucket;
use crate::limits::{InboundPolicy, OverRate, Rate};
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// Maximum number of wake-ups a second for a client that is read as fast as its rate allows.
const READS_PER_SECOND: u64 = 100;

/// The token buckets of one client, as far as it needs any.
#[derive(Debug)]
pub(super) struct RateLimits {
    /// `None` for a client without rate limits.
    buckets: Option<Box<Buckets>>,
    /// The bucket for pings. The first ping creates it: a bucket that was never used is full.
    pings: Option<Box<Bucket>>,
}

/// The buckets of a client with rate limits.
#[derive(Debug)]
struct Buckets {
    policy: InboundPolicy,
    bytes: Option<Bucket>,
    messages: Option<Bucket>,
}

/// Whether the client is within its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    No,
    Yes,
}

impl RateLimits {
    pub(super) fn new(policy: InboundPolicy, now: Instant) -> Self {
        let is_bounded = policy.bytes.is_some() || policy.messages.is_some();
        Self {
            buckets: is_bounded.then(|| Box::new(Buckets::new(policy, now))),
            pings: None,
        }
    }

    /// Whether the client has no rate limits, except for pings.
    pub(super) fn is_unbounded(&self) -> bool {
        self.buckets.is_none()
    }

    /// Bytes that may be read now, at least one.
    ///
    /// # Errors
    ///
    /// The time from which on bytes may be read again.
    #[inline]
    pub(super) fn allowance(&mut self, now: Instant) -> Result<usize, Instant> {
        match &mut self.buckets {
            Some(buckets) => buckets.allowance(now),
            None => Ok(usize::MAX),
        }
    }

    /// Takes `bytes` bytes that the client has sent.
    pub(super) fn bytes(&mut self, now: Instant, bytes: usize) -> Within {
        let bucket = self
            .buckets
            .as_mut()
            .and_then(|buckets| buckets.bytes.as_mut());
        take(bucket, now, bytes as u64)
    }

    /// Messages that may be decoded together: as many as the client may send now, but at least one,
    /// so that a client above its rate is noticed.
    pub(super) fn messages_max(&mut self, now: Instant) -> usize {
        let buckets = self.buckets.as_mut();
        let bucket = buckets.and_then(|buckets| buckets.messages.as_mut());
        bucket.map_or(usize::MAX, |bucket| {
            usize::try_from(bucket.room(now))
                .unwrap_or(usize::MAX)
                .max(1)
        })
    }

    /// Takes `count` messages that the client has sent.
    pub(super) fn messages(&mut self, now: Instant, count: usize) -> Within {
        let buckets = self.buckets.as_mut();
        let bucket = buckets.and_then(|buckets| buckets.messages.as_mut());
        take(bucket, now, count as u64)
    }

    /// Takes a ping that the client has sent, at this maximum rate of pings.
    pub(super) fn ping(&mut self, rate: Rate, now: Instant) -> Within {
        let full = || Box::new(Bucket::new(rate, now));
        within(self.pings.get_or_insert_with(full).take(now, 1))
    }
}

impl Buckets {
    fn new(policy: InboundPolicy, now: Instant) -> Self {
        Self {
            policy,
            bytes: policy.bytes.map(|rate| Bucket::new(rate, now)),
            messages: policy.messages.map(|rate| Bucket::new(rate, now)),
        }
    }

    fn allowance(&mut self, now: Instant) -> Result<usize, Instant> {
        match self.policy.over {
            // Everything is read, so that a client above its rate is noticed and closed.
            OverRate::Close => Ok(usize::MAX),
            OverRate::Wait if self.bytes.is_none() && self.messages.is_none() => Ok(usize::MAX),
            OverRate::Wait => self.room(now),
        }
    }

    fn room(&mut self, now: Instant) -> Result<usize, Instant> {
        let message_at = self.messages.as_mut().map(|m| m.room_at(now, 1));
        let quantum = self.policy.bytes.map_or(1, quantum);
        let bytes_at = self.bytes.as_mut().map(|b| b.room_at(now, quantum));
        match message_at.max(bytes_at) {
            Some(at) if at > now => Err(at),
            Some(_) | None => {
                let room = self.bytes.as_mut().map_or(u64::MAX, |b| b.room(now));
                Ok(usize::try_from(room).unwrap_or(usize::MAX))
            }
        }
    }
}

fn take(bucket: Option<&mut Bucket>, now: Instant, tokens: u64) -> Within {
    let tokens = planted::one_more(Bug::RateTooLow, tokens);
    let tokens = planted::none(Bug::RateNotKept, tokens);
    within(bucket.is_none_or(|b| b.take(now, tokens)))
}

fn within(taken: bool) -> Within {
    if taken { Within::Yes } else { Within::No }
}

/// Bytes for which a wake-up is worth its cost.
fn quantum(rate: Rate) -> u64 {
    (rate.per_second.get() / READS_PER_SECOND).clamp(1, rate.burst.get())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn rate_limits(bytes: Option<Rate>, messages: Option<Rate>, over: OverRate) -> RateLimits {
        let policy = InboundPolicy {
            bytes,
            messages,
            over,
        };
        RateLimits::new(policy, at(0))
    }

    #[test]
    fn without_rates_anything_goes() {
        let mut rate_limits = rate_limits(None, None, OverRate::Wait);
        assert_eq!(rate_limits.allowance(at(0)), Ok(usize::MAX));
        assert_eq!(rate_limits.bytes(at(0), usize::MAX), Within::Yes);
        assert_eq!(rate_limits.messages(at(0), 1), Within::Yes);
    }

    #[test]
    fn who_waits_reads_exactly_its_bytes() {
        let mut rate_limits = rate_limits(Some(Rate::new(1000, 50)), None, OverRate::Wait);
        assert_eq!(rate_limits.allowance(at(0)), Ok(50));
        assert_eq!(rate_limits.bytes(at(0), 45), Within::Yes);
        assert_eq!(
            rate_limits.allowance(at(0)),
            Err(at(5)),
            "a hundredth of a second's worth"
        );
        assert_eq!(rate_limits.allowance(at(5)), Ok(10));
        assert_eq!(rate_limits.bytes(at(5), 10), Within::Yes);
        assert_eq!(rate_limits.allowance(at(1000)), Ok(50));
    }

    #[test]
    fn who_waits_reads_exactly_its_messages() {
        let mut rate_limits = rate_limits(None, Some(Rate::new(10, 2)), OverRate::Wait);
        for _ in 0..2 {
            assert_eq!(rate_limits.allowance(at(0)), Ok(usize::MAX));
            assert_eq!(rate_limits.messages(at(0), 1), Within::Yes);
        }
        assert_eq!(rate_limits.allowance(at(0)), Err(at(100)));
        assert_eq!(rate_limits.allowance(at(100)), Ok(usize::MAX));
        assert_eq!(rate_limits.messages(at(100), 1), Within::Yes);
        assert_eq!(rate_limits.allowance(at(100)), Err(at(200)));
    }

    #[test]
    fn who_is_to_be_closed_passes_at_the_burst_and_not_one_above() {
        let mut rate_limits = rate_limits(
            Some(Rate::new(1, 50)),
            Some(Rate::new(1, 2)),
            OverRate::Close,
        );
        assert_eq!(rate_limits.allowance(at(0)), Ok(usize::MAX));
        assert_eq!(rate_limits.bytes(at(0), 50), Within::Yes);
        assert_eq!(rate_limits.bytes(at(0), 1), Within::No);
        assert_eq!(rate_limits.messages(at(0), 1), Within::Yes);
        assert_eq!(rate_limits.messages(at(0), 1), Within::Yes);
        assert_eq!(rate_limits.messages(at(0), 1), Within::No);
        assert_eq!(
            rate_limits.messages(at(1000), 1),
            Within::Yes,
            "a second later"
        );
    }

    #[test]
    fn pings_have_a_rate_of_their_own() {
        let mut rate_limits = rate_limits(None, None, OverRate::Wait);
        let pings =
            [0, 0, 0, 1000, 1000].map(|millis| rate_limits.ping(Rate::new(1, 2), at(millis)));
        let (yes, no) = (Within::Yes, Within::No);
        assert_eq!(pings, [yes, yes, no, yes, no]);
    }
}
