//! The schedule for fetching published keys, and the waits of clients: a pure state machine.

use std::time::Duration;

use crate::limits::FetchPolicy;
use crate::rt::Instant;

/// Decides when the next fetch begins, and whether a client whose token names an unknown key waits
/// for it.
///
/// At most one fetch runs at a time. A fetch begins at the start; when the keys have reached the
/// age [`FetchPolicy::refresh`]; after a failure, with a growing wait; at once for the operator;
/// and at once for a token, unless another token was the reason of a fetch less than
/// [`FetchPolicy::cooldown`] ago.
#[derive(Debug)]
pub(super) struct Schedule {
    policy: FetchPolicy,
    /// The number of fetches that have begun, which is the number of the latest fetch.
    begun: u64,
    is_running: bool,
    /// Whether the fetch that ended last brought keys.
    is_good: bool,
    /// Consecutive failures.
    failures: u32,
    /// When the next regular fetch begins.
    due: Instant,
    /// Whether the operator has requested a fetch.
    is_ordered: bool,
    /// Whether a token has requested a fetch.
    is_asked: bool,
    /// Whether a token requested the running fetch.
    is_answer: bool,
    /// Whether the running fetch began before the regular time.
    is_early: bool,
    /// From when on a token may request a fetch.
    open_at: Instant,
}

/// The fetch that a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    number: u64,
    /// Whether the fetch begins after the client has asked. A fetch that was already running may
    /// miss a key that was published meanwhile.
    is_fresh: bool,
}

/// The answer to a client that asks for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Try again after this time.
    Later(Duration),
    /// Wait for this fetch.
    Wait(Ticket),
}

/// The outcome of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The fetch has brought no keys.
    Failed,
    /// The fetch has brought keys; if it is fresh, all keys that were published when the client
    /// asked.
    Fetched { is_fresh: bool },
    /// The fetch has not ended.
    Pending,
}

impl Schedule {
    /// A schedule whose first fetch is due at once.
    pub(super) fn new(policy: FetchPolicy) -> Self {
        Self {
            policy,
            begun: 0,
            is_running: false,
            is_good: false,
            failures: 0,
            due: Instant::ZERO,
            is_ordered: false,
            is_asked: false,
            is_answer: false,
            is_early: false,
            open_at: Instant::ZERO,
        }
    }

    /// Asks for keys that are newer than `now`, for a token that names an unknown key.
    pub(super) fn ask(&mut self, now: Instant) -> Told {
        if self.is_running {
            return Told::Wait(Ticket {
                number: self.begun,
                is_fresh: false,
            });
        }
        // A fetch that is about to begin serves this client as well.
        if now < self.begins_at() {
            if now < self.open_at {
                return Told::Later(self.retry_after(now));
            }
            self.is_asked = true;
        }
        Told::Wait(Ticket {
            number: self.begun + 1,
            is_fresh: true,
        })
    }

    /// Requests a fetch that begins at once, or as soon as the running fetch has ended.
    pub(super) fn order(&mut self) {
        self.is_ordered = true;
    }

    /// When the next fetch begins, provided that none runs.
    pub(super) fn begins_at(&self) -> Instant {
        if self.is_ordered || self.is_asked {
            Instant::ZERO
        } else {
            self.due
        }
    }

    /// Notes that a fetch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun += 1;
        self.is_running = true;
        self.is_early = now < self.due;
        self.is_ordered = false;
        self.is_answer = std::mem::take(&mut self.is_asked);
    }

    /// Notes that the running fetch has ended, with keys or without.
    pub(super) fn end(&mut self, now: Instant, is_good: bool, random: u64) {
        self.settle(now, is_good);
        if is_good {
            self.failures = 0;
            self.due = now + self.policy.refresh;
            return;
        }
        // A failed fetch for an operator or a token does not lengthen the waits of regular fetches.
        if !self.is_early || self.failures == 0 {
            self.failures = self.failures.saturating_add(1);
        }
        let next = now + self.backoff(random);
        self.due = if self.due > now {
            self.due.min(next)
        } else {
            next
        };
    }

    /// Notes that the fetching task is gone, with its running fetch, if there is one; the next task
    /// fetches at once.
    pub(super) fn abandon(&mut self, now: Instant) {
        if self.is_running {
            self.settle(now, false);
            self.due = now;
        }
    }

    fn settle(&mut self, now: Instant, is_good: bool) {
        self.is_running = false;
        self.is_good = is_good;
        if std::mem::take(&mut self.is_answer) {
            self.open_at = now + self.policy.cooldown;
        }
    }

    /// The wait after the present number of consecutive failures.
    fn backoff(&self, random: u64) -> Duration {
        let policy = &self.policy;
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let wait = policy.retry_min.saturating_mul(doubled);
        let wait = wait.min(policy.retry_max).min(policy.refresh);
        let quarter = u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX);
        wait - Duration::from_nanos(random % quarter.saturating_add(1))
    }

    /// The outcome of a client's fetch.
    pub(super) fn outcome(&self, ticket: Ticket) -> Outcome {
        let ended = self.begun - u64::from(self.is_running);
        if ended < ticket.number {
            Outcome::Pending
        } else if self.is_good {
            let is_fresh = ticket.is_fresh || ended > ticket.number;
            Outcome::Fetched { is_fresh }
        } else {
            Outcome::Failed
        }
    }

    /// The time after which a client that asks again may wait for a fetch.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        if self.is_running {
            return Duration::ZERO;
        }
        self.begins_at().min(self.open_at).saturating_since(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: FetchPolicy = FetchPolicy {
        refresh: Duration::from_secs(300),
        cooldown: Duration::from_secs(5),
        retry_min: Duration::from_secs(1),
        retry_max: Duration::from_secs(30),
    };

    fn at(seconds: f64) -> Instant {
        Instant::from_start(Duration::from_secs_f64(seconds))
    }

    /// A schedule whose first fetch began at 0 s and ended at 1 s.
    fn fetched(policy: FetchPolicy, is_good: bool) -> Schedule {
        let mut schedule = Schedule::new(policy);
        assert!(schedule.begins_at() <= at(0.0), "the first one is due");
        schedule.begin(at(0.0));
        schedule.end(at(1.0), is_good, 0);
        schedule
    }

    fn wait(schedule: &mut Schedule, now: f64) -> Ticket {
        match schedule.ask(at(now)) {
            Told::Wait(ticket) => ticket,
            Told::Later(wait) => panic!("it is told to come again after {wait:?}"),
        }
    }

    #[test]
    fn keys_are_fetched_again_once_they_are_as_old_as_they_may_be() {
        let schedule = fetched(POLICY, true);
        assert_eq!(schedule.begins_at(), at(301.0));
    }

    #[test]
    fn the_waits_after_failures_double_up_to_their_bound() {
        let mut schedule = Schedule::new(POLICY);
        let mut now = at(0.0);
        for wait in [1, 2, 4, 8, 16, 30, 30, 30] {
            schedule.begin(now);
            schedule.end(now, false, 0);
            assert_eq!(schedule.begins_at(), now + Duration::from_secs(wait));
            now = schedule.begins_at();
        }
        schedule.begin(now);
        schedule.end(now, true, 0);
        now = schedule.begins_at();
        schedule.begin(now);
        schedule.end(now, false, 0);
        let second = now + Duration::from_secs(1);
        assert_eq!(schedule.begins_at(), second, "a success ends the row");
        let often = FetchPolicy {
            refresh: Duration::from_millis(3),
            ..POLICY
        };
        let schedule = fetched(often, false);
        assert_eq!(schedule.begins_at(), at(1.003), "no later than a refresh");
    }

    #[test]
    fn a_fetch_that_was_asked_for_and_fails_makes_no_wait_longer() {
        let mut schedule = fetched(POLICY, false);
        wait(&mut schedule, 1.5);
        schedule.begin(at(1.5));
        schedule.end(at(1.75), false, 0);
        assert_eq!(schedule.begins_at(), at(2.0), "as it was");
        schedule.begin(at(2.0));
        schedule.end(at(2.0), false, 0);
        assert_eq!(schedule.begins_at(), at(4.0), "the second wait");
        let mut schedule = fetched(POLICY, true);
        schedule.order();
        schedule.begin(at(2.0));
        schedule.end(at(3.0), false, 0);
        assert_eq!(schedule.begins_at(), at(4.0), "the first wait");
    }

    #[test]
    fn a_wait_after_a_failure_is_up_to_a_quarter_shorter() {
        for (random, expected) in [
            (0, 1_000_000_000),
            (1, 999_999_999),
            (250_000_000, 750_000_000),
            (250_000_001, 1_000_000_000),
        ] {
            let mut schedule = Schedule::new(POLICY);
            schedule.begin(at(0.0));
            schedule.end(at(0.0), false, random);
            let expected = Instant::from_start(Duration::from_nanos(expected));
            assert_eq!(schedule.begins_at(), expected, "{random}");
        }
    }

    #[test]
    fn failures_without_end_overflow_nothing() {
        let mut schedule = Schedule::new(POLICY);
        schedule.failures = u32::MAX - 1;
        for _ in 0..3 {
            let now = schedule.begins_at();
            schedule.begin(now);
            schedule.end(now, false, u64::MAX);
            assert!(schedule.begins_at() <= now + POLICY.retry_max);
        }
    }

    #[test]
    fn an_unknown_key_is_fetched_at_once_and_all_who_ask_wait_for_the_same_fetch() {
        let mut schedule = fetched(POLICY, true);
        let first = wait(&mut schedule, 2.0);
        let second = wait(&mut schedule, 2.1);
        assert_eq!(first, second);
        assert!(schedule.begins_at() <= at(2.0));
        assert_eq!(schedule.outcome(first), Outcome::Pending);
        schedule.begin(at(3.0));
        assert_eq!(schedule.outcome(first), Outcome::Pending);
        schedule.end(at(3.0), true, 0);
        let fetched = Outcome::Fetched { is_fresh: true };
        assert_eq!(schedule.outcome(first), fetched);
        assert_eq!(schedule.begins_at(), at(303.0), "there is no other fetch");
    }

    #[test]
    fn tokens_cause_no_other_fetch_before_the_cooldown_is_over() {
        let mut schedule = fetched(POLICY, true);
        wait(&mut schedule, 2.0);
        schedule.begin(at(3.0));
        schedule.end(at(3.0), true, 0);
        for (now, left) in [(3.0, 5.0), (4.5, 3.5), (7.5, 0.5)] {
            let later = Told::Later(Duration::from_secs_f64(left));
            assert_eq!(schedule.ask(at(now)), later, "{now}");
            assert_eq!(schedule.begins_at(), at(303.0), "{now}");
        }
        wait(&mut schedule, 8.0);
        assert!(schedule.begins_at() <= at(8.0), "it is over");
    }

    #[test]
    fn a_client_comes_again_for_the_regular_fetch_if_that_is_sooner() {
        let often = FetchPolicy {
            refresh: Duration::from_secs(2),
            ..POLICY
        };
        let mut schedule = fetched(often, true);
        wait(&mut schedule, 1.0);
        schedule.begin(at(2.0));
        schedule.end(at(2.0), true, 0);
        let later = Told::Later(Duration::from_secs(1));
        assert_eq!(schedule.ask(at(3.0)), later);
        let ticket = wait(&mut schedule, 4.0);
        schedule.begin(at(5.0));
        schedule.end(at(5.0), true, 0);
        assert_eq!(
            schedule.outcome(ticket),
            Outcome::Fetched { is_fresh: true }
        );
        let later = Told::Later(Duration::from_secs(1));
        assert_eq!(
            schedule.ask(at(6.0)),
            later,
            "the cooldown is of the fetch that was asked for"
        );
    }

    #[test]
    fn a_fetch_that_began_before_somebody_asked_may_miss_the_key() {
        let mut schedule = fetched(POLICY, true);
        schedule.order();
        schedule.begin(at(3.0));
        let ticket = wait(&mut schedule, 2.0);
        schedule.end(at(3.0), true, 0);
        let old = Outcome::Fetched { is_fresh: false };
        assert_eq!(schedule.outcome(ticket), old);
        // Waiting for a running fetch does not start the cooldown.
        let ticket = wait(&mut schedule, 3.0);
        schedule.begin(at(4.0));
        schedule.end(at(4.0), true, 0);
        let fresh = Outcome::Fetched { is_fresh: true };
        assert_eq!(schedule.outcome(ticket), fresh);
        let first = Ticket {
            number: 2,
            is_fresh: false,
        };
        assert_eq!(schedule.outcome(first), fresh, "the later one has it");
    }

    #[test]
    fn a_fetch_that_fails_tells_when_the_next_one_begins() {
        let mut schedule = fetched(POLICY, true);
        let ticket = wait(&mut schedule, 2.0);
        schedule.begin(at(3.0));
        schedule.end(at(3.0), false, 0);
        assert_eq!(schedule.outcome(ticket), Outcome::Failed);
        assert_eq!(schedule.retry_after(at(3.25)), Duration::from_millis(750));
        schedule.begin(at(3.0));
        assert_eq!(schedule.retry_after(at(3.25)), Duration::ZERO, "it runs");
    }

    #[test]
    fn an_order_begins_a_fetch_at_once_and_another_one_after_the_one_that_runs() {
        let mut schedule = fetched(POLICY, true);
        wait(&mut schedule, 2.0);
        schedule.begin(at(3.0));
        schedule.end(at(3.0), true, 0);
        schedule.order();
        assert!(schedule.begins_at() <= at(3.0), "no cooldown is for it");
        schedule.begin(at(4.0));
        schedule.order();
        schedule.end(at(4.0), true, 0);
        assert!(schedule.begins_at() <= at(4.0));
        schedule.begin(at(5.0));
        schedule.end(at(5.0), true, 0);
        assert_eq!(schedule.begins_at(), at(305.0));
    }

    #[test]
    fn a_fetch_whose_task_is_gone_has_failed_and_is_due() {
        let mut schedule = fetched(POLICY, true);
        let ticket = wait(&mut schedule, 2.0);
        schedule.begin(at(3.0));
        schedule.abandon(at(3.0));
        assert_eq!(schedule.outcome(ticket), Outcome::Failed);
        assert_eq!(schedule.begins_at(), at(3.0));
        let mut idle = fetched(POLICY, true);
        idle.abandon(at(3.0));
        assert_eq!(idle.begins_at(), at(301.0), "the keys are no older by it");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        Begin,
        End(bool, u64),
        Order,
        Pass(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Ask),
            2 => Just(Step::Begin),
            2 => (any::<bool>(), any::<u64>()).prop_map(|(good, random)| Step::End(good, random)),
            1 => Just(Step::Order),
            3 => (0_u32..4_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// A client that waits is answered by the fetch of its ticket. A client that is refused may
        /// wait when it asks again after the time given. Tokens cause no fetch before the cooldown
        /// has passed.
        #[test]
        fn long_sequences_keep_their_promises(steps in prop::collection::vec(step(), 0..200)) {
            let mut schedule = Schedule::new(POLICY);
            let mut now = Instant::ZERO;
            let mut cooled = Instant::ZERO;
            let mut asked = false;
            let mut waiting: Vec<(Ticket, u64)> = Vec::new();
            let (mut begun, mut running) = (0, false);
            for step in steps {
                match step {
                    Step::Ask => {
                        let was_due = schedule.begins_at() <= now;
                        match schedule.ask(now) {
                            Told::Wait(ticket) => {
                                waiting.push((ticket, begun + 1));
                                let causes = !running && !was_due;
                                prop_assert!(!causes || cooled <= now);
                                asked |= causes;
                            }
                            Told::Later(wait) => {
                                prop_assert!(!running && wait > Duration::ZERO);
                                prop_assert!(wait <= POLICY.cooldown);
                                let later = now + wait;
                                let mut again = Schedule { ..schedule };
                                prop_assert!(matches!(again.ask(later), Told::Wait(_)));
                            }
                        }
                    }
                    Step::Begin if !running && schedule.begins_at() <= now => {
                        schedule.begin(now);
                        begun += 1;
                        running = true;
                    }
                    Step::End(is_good, random) if running => {
                        schedule.end(now, is_good, random);
                        running = false;
                        if std::mem::take(&mut asked) {
                            cooled = now + POLICY.cooldown;
                        }
                        let soon = now + POLICY.refresh;
                        prop_assert!(schedule.begins_at() <= soon);
                        for (ticket, fresh) in waiting.drain(..) {
                            let expected = if is_good {
                                Outcome::Fetched { is_fresh: fresh <= begun }
                            } else {
                                Outcome::Failed
                            };
                            prop_assert_eq!(schedule.outcome(ticket), expected);
                        }
                    }
                    Step::Order => schedule.order(),
                    Step::Pass(millis) => now = now + Duration::from_millis(millis.into()),
                    Step::Begin | Step::End(..) => {}
                }
                for (ticket, _) in &waiting {
                    prop_assert_eq!(schedule.outcome(*ticket), Outcome::Pending);
                }
            }
        }
    }
}
