//! When to ping a silent peer and when to declare it dead: a pure state machine.
//!
//! ```text
//!         silence for `interval`     pushed       the socket has taken it     `pong_timeout`
//!   Heard ---------------------> Due -------> Sent ----------------------> Asked ---> dead
//!     ^                           |            |                             |
//!     +---------------------------+------------+-----------------------------+
//!                                 anything is heard
//! ```
//!
//! The time for an answer begins when the socket has accepted the ping. The session counts that
//! time in parts: a part begins only when the end of the part before was noticed. So a pause of the
//! whole machine, however long, uses up one part of the answer's time and not all of it.

use std::time::Duration;

use crate::limits::KeepalivePolicy;
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// The number of parts that a time is divided into, so that a pause of the whole machine does not
/// use it up.
pub(super) const PARTS: u8 = 4;

/// The keepalive of one session.
///
/// Any input of the peer shows that it is alive, and counts as an answer to a ping. The caller
/// passes the same policy to each call; a session has the policy in its limits.
#[derive(Clone, Debug)]
pub struct Keepalive {
    /// The last sign of life, or the beginning of the present part of the time for an answer.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The number of parts of the time for an answer that have passed.
    Asked(u8),
    /// A ping is to be sent.
    Due,
    /// No ping is waiting for an answer.
    Heard,
    /// The ping is on its way to the socket.
    Sent,
}

/// The action for a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The peer is dead.
    Dead,
    /// Send a ping.
    Ping,
    /// No action is due yet.
    Wait,
}

impl Keepalive {
    /// The keepalive of a peer that was alive at `now`.
    pub fn new(now: Instant) -> Self {
        let (since, state) = (now, State::Heard);
        Self { since, state }
    }

    /// Notes that the peer has sent something.
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Notes that the session does not read, so that the peer cannot be heard: the pending ping
    /// needs no answer, and the next one is sent after an interval.
    pub fn excuse(&mut self, now: Instant) {
        match self.state {
            State::Asked(_) => self.heard(now),
            State::Due | State::Heard | State::Sent => {}
        }
    }

    /// Whether a ping is to be sent and is not in the outbox yet.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.state == State::Due
    }

    /// Whether a ping is to be sent or is on its way to the socket.
    #[inline]
    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Due | State::Sent)
    }

    /// Whether the time for the answer to a ping runs.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked(_))
    }

    /// Notes that the ping that was due is on its way to the socket.
    pub fn sent(&mut self) {
        if self.state == State::Due {
            self.state = State::Sent;
        }
    }

    /// Notes that the socket has accepted the whole outbox; returns whether a ping was in it.
    pub fn written(&mut self, now: Instant) -> bool {
        let is_asked = self.state == State::Sent;
        if is_asked {
            self.since = now;
            self.state = State::Asked(0);
        }
        is_asked
    }

    /// When [`on_time`](Self::on_time) is due; never while a ping waits for the socket.
    pub fn deadline(&self, policy: &KeepalivePolicy) -> Instant {
        match self.state {
            State::Heard if policy.interval.is_zero() => Instant::END,
            State::Heard => self.since + planted::twice(Bug::IntervalDoubled, policy.interval),
            State::Due | State::Sent => Instant::END,
            State::Asked(parts) => self.since + part(policy.pong_timeout, parts),
        }
    }

    /// The action that is due at `now`.
    pub fn on_time(&mut self, policy: &KeepalivePolicy, now: Instant) -> Pulse {
        if now < self.deadline(policy) {
            return Pulse::Wait;
        }
        match self.state {
            State::Heard if planted::is(Bug::PingNotSent) => {
                *self = Self {
                    since: now,
                    state: State::Asked(0),
                };
                Pulse::Ping
            }
            State::Heard => {
                self.state = State::Due;
                Pulse::Ping
            }
            State::Due | State::Sent => Pulse::Wait,
            State::Asked(parts) => self.pass(parts + 1, now),
        }
    }

    /// Notes that `parts` parts of the time for an answer have passed.
    fn pass(&mut self, parts: u8, now: Instant) -> Pulse {
        let is_over = planted::one_more(Bug::SilentTooEarly, parts) >= PARTS;
        if is_over && !planted::is(Bug::SilentKept) {
            return Pulse::Dead;
        }
        self.since = now;
        self.state = State::Asked(parts.min(PARTS - 1));
        Pulse::Wait
    }

    /// Begins the last part again: a peer that was declared dead has input that is not read yet.
    pub fn spare(&mut self, now: Instant) {
        self.since = now;
    }

    /// The longest silence before a peer is declared dead, provided that its socket accepts a ping
    /// at once and the clock does not jump.
    pub fn longest_silence(policy: KeepalivePolicy) -> Duration {
        policy.interval.saturating_add(policy.pong_timeout)
    }
}

/// The length of the part that follows `parts` parts; all parts add up to the whole time.
fn part(time: Duration, parts: u8) -> Duration {
    let one = time / u32::from(PARTS);
    if parts + 1 < PARTS {
        one
    } else {
        time - one * (u32::from(PARTS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: KeepalivePolicy = KeepalivePolicy {
        interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn after(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    /// A peer whose ping was written at this second.
    fn asked(second: u64) -> Keepalive {
        let mut keepalive = Keepalive::new(at(second - 25));
        assert_eq!(keepalive.on_time(&POLICY, at(second)), Pulse::Ping);
        keepalive.sent();
        assert!(keepalive.written(at(second)));
        keepalive
    }

    #[test]
    fn a_silent_peer_is_pinged_after_25_s_and_dead_10_s_later() {
        assert_eq!(POLICY, KeepalivePolicy::default());
        let mut keepalive = Keepalive::new(at(0));
        let mut seen = Vec::new();
        for tenth in 0..=350 {
            let now = after(tenth * 100);
            match keepalive.on_time(&POLICY, now) {
                Pulse::Wait => {}
                pulse @ (Pulse::Dead | Pulse::Ping) => seen.push((now, pulse)),
            }
            keepalive.sent();
            keepalive.written(now);
        }
        assert_eq!(seen, [(at(25), Pulse::Ping), (at(35), Pulse::Dead)]);
        let silence = Keepalive::longest_silence(POLICY);
        assert_eq!(silence, Duration::from_secs(35));
    }

    #[test]
    fn a_sign_of_life_at_the_last_moment_saves_the_peer() {
        let mut keepalive = asked(25);
        for millis in [27_500, 30_000, 32_500] {
            assert_eq!(keepalive.deadline(&POLICY), after(millis));
            assert_eq!(keepalive.on_time(&POLICY, after(millis)), Pulse::Wait);
        }
        keepalive.heard(after(34_999));
        assert_eq!(keepalive.on_time(&POLICY, at(35)), Pulse::Wait);
        assert_eq!(keepalive.deadline(&POLICY), after(59_999));
    }

    #[test]
    fn the_time_for_an_answer_begins_when_the_socket_has_taken_the_ping() {
        let mut keepalive = Keepalive::new(at(0));
        assert!(!keepalive.written(at(1)), "no ping was on its way");
        assert_eq!(keepalive.on_time(&POLICY, at(25)), Pulse::Ping);
        assert!(!keepalive.written(at(26)), "it waits behind something else");
        assert!(keepalive.is_due());
        keepalive.sent();
        for second in [30, 300, 3_000] {
            assert!(keepalive.is_asking() && !keepalive.is_due());
            assert_eq!(keepalive.on_time(&POLICY, at(second)), Pulse::Wait);
        }
        assert!(keepalive.written(at(3_000)));
        assert_eq!(keepalive.deadline(&POLICY), after(3_002_500));
    }

    #[test]
    fn a_peer_that_is_heard_while_its_ping_waits_owes_no_answer() {
        for is_sent in [false, true] {
            let mut keepalive = Keepalive::new(at(0));
            assert_eq!(keepalive.on_time(&POLICY, at(25)), Pulse::Ping);
            if is_sent {
                keepalive.sent();
            }
            keepalive.heard(at(26));
            assert!(!keepalive.is_asking() && !keepalive.written(at(27)));
            assert_eq!(keepalive.deadline(&POLICY), at(51));
        }
    }

    /// Runs a machine that sleeps now and then: each tick of its clock is a second, and after each
    /// tick it is asked for the action that is due, unless it sleeps.
    fn lives(pauses: &[(u64, u64)]) -> Option<(u64, u64)> {
        let policy = KeepalivePolicy {
            interval: Duration::from_secs(4),
            pong_timeout: Duration::from_secs(4),
        };
        let mut keepalive = Keepalive::new(at(0));
        let (mut clock, mut pinged, mut awake) = (0, None, 0);
        for tick in 1..40 {
            let pause = pauses.iter().find(|(before, _)| *before == tick);
            clock += 1 + pause.map_or(0, |(_, seconds)| *seconds);
            awake += 1;
            match keepalive.on_time(&policy, at(clock)) {
                Pulse::Wait => {}
                Pulse::Ping => {
                    keepalive.sent();
                    assert!(keepalive.written(at(clock)));
                    pinged = Some(awake);
                }
                Pulse::Dead => return pinged.map(|pinged| (awake - pinged, clock)),
            }
        }
        None
    }

    #[test]
    fn a_machine_that_slept_kills_nobody_who_had_no_time_to_answer() {
        assert_eq!(lives(&[]), Some((4, 8)));
        for before in 1..12 {
            for seconds in [1, 2, 3, 4, 5, 50, 100_000] {
                let (awake, _) = lives(&[(before, seconds)]).expect("it is silent for ever");
                assert!(awake >= 3, "{awake} s awake: {seconds} s before {before}");
                for again in before..12 {
                    let pauses = [(before, seconds), (again, 100_000)];
                    let (awake, _) = lives(&pauses).expect("it is silent for ever");
                    assert!(awake >= 2, "{awake} s awake: {pauses:?}");
                }
            }
        }
    }

    #[test]
    fn nobody_is_dead_while_we_do_not_listen() {
        let mut keepalive = Keepalive::new(at(0));
        let mut pings = 0;
        for second in 1..=1_000 {
            match keepalive.on_time(&POLICY, at(second)) {
                Pulse::Dead => panic!("dead after {second} s"),
                Pulse::Ping => pings += 1,
                Pulse::Wait => {}
            }
            keepalive.sent();
            keepalive.written(at(second));
            keepalive.excuse(at(second));
        }
        assert_eq!(pings, 40, "it is asked all the same");
    }

    #[test]
    fn an_excuse_changes_nothing_before_the_peer_is_asked() {
        let mut keepalive = Keepalive::new(at(0));
        keepalive.excuse(at(24));
        assert_eq!(keepalive.on_time(&POLICY, at(25)), Pulse::Ping);
        keepalive.excuse(at(26));
        assert!(keepalive.is_due());
        keepalive.sent();
        keepalive.excuse(at(27));
        assert!(keepalive.written(at(28)));
    }

    #[test]
    fn a_dead_peer_that_has_sent_something_has_one_part_more() {
        let mut keepalive = asked(25);
        for millis in [27_500, 30_000, 32_500] {
            assert_eq!(keepalive.on_time(&POLICY, after(millis)), Pulse::Wait);
        }
        assert_eq!(keepalive.on_time(&POLICY, at(35)), Pulse::Dead);
        keepalive.spare(at(35));
        assert_eq!(keepalive.on_time(&POLICY, at(36)), Pulse::Wait);
        assert_eq!(keepalive.on_time(&POLICY, after(37_500)), Pulse::Dead);
    }

    #[test]
    fn an_interval_of_zero_pings_nobody() {
        let policy = KeepalivePolicy {
            interval: Duration::ZERO,
            ..POLICY
        };
        let mut keepalive = Keepalive::new(at(0));
        assert_eq!(keepalive.on_time(&policy, at(1_000_000)), Pulse::Wait);
        keepalive.heard(at(5));
        assert_eq!(keepalive.on_time(&policy, at(1_000_000)), Pulse::Wait);
    }

    #[test]
    fn the_longest_and_the_shortest_times_do_not_overflow() {
        let forever = KeepalivePolicy {
            interval: Duration::MAX,
            pong_timeout: Duration::MAX,
        };
        assert_eq!(Keepalive::longest_silence(forever), Duration::MAX);
        let mut keepalive = Keepalive::new(at(1));
        assert_eq!(keepalive.deadline(&forever), Instant::END);
        assert_eq!(keepalive.on_time(&forever, at(1_000_000)), Pulse::Wait);
        let nanos = |nanos| Instant::from_start(Duration::from_nanos(nanos));
        for short in 0..9 {
            let policy = KeepalivePolicy {
                interval: Duration::from_nanos(1),
                pong_timeout: Duration::from_nanos(short),
            };
            let mut keepalive = Keepalive::new(nanos(0));
            assert_eq!(keepalive.on_time(&policy, nanos(1)), Pulse::Ping);
            keepalive.sent();
            assert!(keepalive.written(nanos(1)));
            let mut now = nanos(1);
            while keepalive.on_time(&policy, now) != Pulse::Dead {
                now = keepalive.deadline(&policy);
            }
            assert_eq!(now, nanos(1 + short), "no part is lost to the division");
        }
    }
}
