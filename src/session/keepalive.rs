//! When to ping a silent peer and when to take it for dead: a pure machine.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::KeepalivePolicy;
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// The keepalive of one session.
///
/// Anything the peer sends shows that it is alive. Intervals are counted from the last ping and not
/// from the last sign of life, so that a pause of the whole machine kills nobody unasked.
#[derive(Clone, Debug)]
pub struct Keepalive {
    /// In nanoseconds; zero sends no pings.
    interval: u64,
    missed_max: NonZeroU32,
    /// Pings since the last sign of life.
    unanswered: u32,
    deadline: Instant,
}

/// What to do when a deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The peer is dead.
    Dead,
    /// Send a ping.
    Ping,
    /// Nothing yet.
    Wait,
}

impl Keepalive {
    /// A peer that was alive at `now`.
    pub fn new(policy: KeepalivePolicy, now: Instant) -> Self {
        let interval = policy.interval.as_nanos();
        let mut keepalive = Self {
            interval: u64::try_from(interval).unwrap_or(u64::MAX),
            missed_max: policy.missed_max,
            unanswered: 0,
            deadline: now,
        };
        keepalive.wait(now);
        keepalive
    }

    /// The peer has sent something.
    pub fn heard(&mut self, now: Instant) {
        self.unanswered = 0;
        self.wait(now);
    }

    /// The peer cannot be heard, because we do not read, or cannot have been asked, because the
    /// ping waits for the socket: no ping counts as missed.
    pub fn excuse(&mut self) {
        self.unanswered = 0;
    }

    /// When [`on_time`](Self::on_time) is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is to be done at `now`.
    pub fn on_time(&mut self, now: Instant) -> Pulse {
        if now < self.deadline {
            return Pulse::Wait;
        }
        let unanswered = planted::one_more(Bug::SilentTooEarly, self.unanswered);
        if unanswered >= self.missed_max.get() && !planted::is(Bug::SilentKept) {
            return Pulse::Dead;
        }
        self.unanswered += 1;
        self.wait(now);
        Pulse::Ping
    }

    /// The longest silence before a peer counts as dead, on a clock that does not jump.
    pub fn longest_silence(policy: KeepalivePolicy) -> Duration {
        policy
            .interval
            .saturating_mul(policy.missed_max.get().saturating_add(1))
    }

    /// Waits for one interval after `now`; for ever, if there is none.
    fn wait(&mut self, now: Instant) {
        self.deadline = if self.interval == 0 {
            Instant::END
        } else {
            now.after_nanos(planted::twice(Bug::IntervalDoubled, self.interval))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn keepalive(missed_max: u32) -> Keepalive {
        let policy = KeepalivePolicy {
            interval: Duration::from_secs(30),
            missed_max: NonZeroU32::new(missed_max).expect("not zero"),
        };
        Keepalive::new(policy, at(0))
    }

    #[test]
    fn a_silent_peer_is_pinged_twice_and_dead_after_90_s() {
        let mut keepalive = keepalive(2);
        let mut seen = Vec::new();
        for second in 0..=90 {
            match keepalive.on_time(at(second)) {
                Pulse::Wait => {}
                pulse @ (Pulse::Dead | Pulse::Ping) => seen.push((second, pulse)),
            }
        }
        assert_eq!(
            seen,
            [(30, Pulse::Ping), (60, Pulse::Ping), (90, Pulse::Dead)]
        );
        let silence = Keepalive::longest_silence(KeepalivePolicy::default());
        assert_eq!(silence, Duration::from_secs(90));
    }

    #[test]
    fn a_sign_of_life_at_the_last_moment_saves_the_peer() {
        let mut keepalive = keepalive(1);
        assert_eq!(keepalive.on_time(at(30)), Pulse::Ping);
        keepalive.heard(at(59));
        assert_eq!(keepalive.on_time(at(60)), Pulse::Wait);
        assert_eq!(keepalive.on_time(at(89)), Pulse::Ping);
        assert_eq!(keepalive.on_time(at(119)), Pulse::Dead);
    }

    #[test]
    fn a_clock_that_jumps_ahead_kills_nobody_unasked() {
        let mut keepalive = keepalive(2);
        assert_eq!(keepalive.on_time(at(100_000)), Pulse::Ping);
        assert_eq!(keepalive.on_time(at(100_000)), Pulse::Wait);
        assert_eq!(keepalive.on_time(at(100_030)), Pulse::Ping);
        assert_eq!(keepalive.on_time(at(100_060)), Pulse::Dead);
    }

    #[test]
    fn nobody_is_dead_while_we_do_not_listen() {
        let mut keepalive = keepalive(1);
        for second in (30..3000).step_by(30) {
            keepalive.excuse();
            assert_eq!(keepalive.on_time(at(second)), Pulse::Ping, "{second}");
        }
    }

    #[test]
    fn an_interval_of_zero_pings_nobody() {
        let policy = KeepalivePolicy {
            interval: Duration::ZERO,
            ..KeepalivePolicy::default()
        };
        let mut keepalive = Keepalive::new(policy, at(0));
        assert_eq!(keepalive.on_time(at(1_000_000)), Pulse::Wait);
        keepalive.heard(at(5));
        assert_eq!(keepalive.on_time(at(1_000_000)), Pulse::Wait);
    }

    #[test]
    fn the_longest_interval_and_the_most_pings_do_not_overflow() {
        let forever = KeepalivePolicy {
            interval: Duration::MAX,
            missed_max: NonZeroU32::MAX,
        };
        assert_eq!(Keepalive::longest_silence(forever), Duration::MAX);
        let mut keepalive = Keepalive::new(forever, at(1));
        assert_eq!(keepalive.deadline(), Instant::from_start(Duration::MAX));
        assert_eq!(keepalive.on_time(at(1_000_000)), Pulse::Wait);
        let least = KeepalivePolicy {
            interval: Duration::from_nanos(1),
            missed_max: NonZeroU32::MIN,
        };
        assert_eq!(Keepalive::longest_silence(least), Duration::from_nanos(2));
        let mut keepalive = Keepalive::new(least, at(0));
        assert_eq!(keepalive.on_time(at(0)), Pulse::Wait);
        let after = |nanos| Instant::from_start(Duration::from_nanos(nanos));
        assert_eq!(keepalive.on_time(after(1)), Pulse::Ping);
        assert_eq!(keepalive.on_time(after(1)), Pulse::Wait);
        assert_eq!(keepalive.on_time(after(2)), Pulse::Dead);
    }
}
