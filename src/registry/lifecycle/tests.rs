//! Every short sequence of events, long random ones, and the numbers of each policy.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

fn policy(linger: u64) -> LifecyclePolicy {
    LifecyclePolicy {
        linger: Duration::from_millis(linger),
        stop_grace: Duration::from_millis(50),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(40),
        crashes_max: NonZeroU32::new(3).expect("not zero"),
        crash_window: Duration::from_millis(1000),
        cooldown: Duration::from_millis(500),
    }
}

/// What may happen, whatever the state: each is turned into the event that is possible there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Abort,
    Crash,
    Drain,
    EarlyTimer,
    Join,
    Leave,
    Return,
    StaleExit,
    Timer,
}

const STEPS: [Step; 9] = [
    Step::Abort,
    Step::Crash,
    Step::Drain,
    Step::EarlyTimer,
    Step::Join,
    Step::Leave,
    Step::Return,
    Step::StaleExit,
    Step::Timer,
];

/// The machine beside a plain account of what must be true.
#[derive(Clone)]
struct World {
    lifecycle: Lifecycle,
    now: Instant,
    leases: usize,
    instance: Option<Instance>,
    generation: Generation,
    draining: bool,
    grace: Duration,
    aborts: u64,
    /// When the step began; a timer may take the clock further.
    began: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instance {
    told_to_stop: Option<Instant>,
    aborted: bool,
}

impl World {
    fn new(linger: u64) -> Self {
        Self::with(policy(linger))
    }

    fn with(policy: LifecyclePolicy) -> Self {
        Self {
            grace: policy.stop_grace,
            aborts: 0,
            began: at(0),
            lifecycle: Lifecycle::new(policy, 7),
            now: at(0),
            leases: 0,
            instance: None,
            generation: Generation::default(),
            draining: false,
        }
    }

    /// Takes the step; `false` if it cannot happen here.
    fn step(&mut self, step: Step) -> bool {
        let Some(event) = self.event(step) else {
            return false;
        };
        let before = self.lifecycle.state();
        let stale = self.lifecycle.counts().stale;
        self.account_event(step);
        let effect = self.lifecycle.on(self.now, event);
        self.account_effect(step, effect);
        let ignored = matches!(step, Step::EarlyTimer | Step::StaleExit);
        assert_eq!(
            self.lifecycle.counts().stale,
            stale + u64::from(ignored),
            "{step:?}"
        );
        if ignored {
            assert_eq!((self.lifecycle.state(), effect), (before, None), "{step:?}");
        }
        self.check();
        true
    }

    fn event(&mut self, step: Step) -> Option<Event> {
        self.now = self.now + Duration::from_millis(1);
        self.began = self.now;
        let generation = self.generation;
        let exit = |exit| Event::Exited { generation, exit };
        match step {
            Step::Drain => Some(Event::Drain),
            Step::Join => Some(Event::Join),
            Step::Leave => (self.leases > 0).then_some(Event::Leave),
            Step::Abort => self.instance.map(|_| exit(ExitKind::Aborted)),
            Step::Crash => self.instance.map(|_| exit(ExitKind::Crashed)),
            Step::Return => self.instance.map(|_| exit(ExitKind::Returned)),
            Step::StaleExit => self.stale_exit(),
            Step::EarlyTimer => {
                let due = self.lifecycle.deadline();
                due.is_none_or(|due| self.now < due).then_some(Event::Timer)
            }
            Step::Timer => {
                self.now = self.lifecycle.deadline()?.max(self.now);
                Some(Event::Timer)
            }
        }
    }

    /// The exit of an instance that is gone, or of the present one's successor.
    fn stale_exit(&self) -> Option<Event> {
        let generation = match self.instance {
            None => self.generation,
            Some(_) => self.generation.next(),
        };
        Some(Event::Exited {
            generation,
            exit: ExitKind::Crashed,
        })
    }

    fn account_event(&mut self, step: Step) {
        match step {
            Step::Abort | Step::Crash | Step::Return => self.instance = None,
            Step::Drain => self.draining = true,
            Step::Leave => self.leases -= 1,
            Step::Join => self.leases += 1,
            Step::EarlyTimer | Step::StaleExit | Step::Timer => {}
        }
    }

    fn account_effect(&mut self, step: Step, effect: Option<Effect>) {
        match effect {
            None => {}
            Some(Effect::Start(generation)) => {
                assert_eq!(self.instance, None, "a second instance");
                assert_eq!(
                    generation,
                    self.generation.next(),
                    "generations are contiguous"
                );
                assert!(self.leases > 0, "a start for nobody");
                self.generation = generation;
                self.instance = Some(Instance {
                    told_to_stop: None,
                    aborted: false,
                });
            }
            Some(Effect::Stop(generation)) => {
                assert_eq!(generation, self.generation);
                assert_eq!(self.leases, 0, "stopped under its clients");
                let instance = self.instance.as_mut().expect("an instance to stop");
                assert_eq!(instance.told_to_stop.replace(self.now), None, "told twice");
            }
            Some(Effect::Abort(generation)) => {
                assert_eq!((step, generation), (Step::Timer, self.generation));
                self.aborts += 1;
                let instance = self.instance.as_mut().expect("an instance to abort");
                let told = instance.told_to_stop.expect("told to stop before");
                assert_eq!(self.now, self.began.max(told + self.grace));
                assert!(
                    !std::mem::replace(&mut instance.aborted, true),
                    "aborted twice"
                );
            }
            Some(Effect::Refuse(refusal)) => {
                assert_eq!(step, Step::Join);
                self.leases -= 1;
                match refusal {
                    Refusal::Draining => assert!(self.draining),
                    Refusal::Failed { retry_after } => {
                        // Zero once the timer is late.
                        let due = self.lifecycle.deadline().expect("it ends");
                        assert_eq!(retry_after, due.saturating_since(self.now));
                        let state = self.lifecycle.state();
                        assert_eq!(state, State::Failed { until: due });
                    }
                }
            }
        }
    }

    /// What must be true after every event.
    fn check(&self) {
        let lifecycle = &self.lifecycle;
        assert_eq!(lifecycle.clients(), self.leases, "the leases are the count");
        assert_eq!(lifecycle.has_instance(), self.instance.is_some());
        assert_eq!(lifecycle.generation(), self.generation);
        assert_eq!(lifecycle.is_draining(), self.draining);
        assert_eq!(lifecycle.counts().aborts, self.aborts);
        let idle = self.leases == 0 && self.instance.is_none();
        assert_eq!(lifecycle.is_idle(), idle);
        let backs_off = matches!(lifecycle.state(), State::Backoff { .. });
        assert!(
            !(backs_off && self.draining && idle),
            "waits to start for nobody"
        );
        let told = self
            .instance
            .is_some_and(|instance| instance.told_to_stop.is_some());
        let stopping = matches!(lifecycle.state(), State::Stopping { .. });
        assert_eq!(told, stopping);
        // Nobody waits for ever: who has a lease is served, or something is due or will exit.
        let failed = matches!(lifecycle.state(), State::Failed { .. });
        let waits_for_exit = stopping;
        let due = lifecycle.deadline().is_some();
        assert!(self.leases == 0 || self.instance.is_some() || due || failed);
        // A deadline exists exactly where the machine waits for time.
        let aborted = self.instance.is_some_and(|instance| instance.aborted);
        match lifecycle.state() {
            State::Running | State::Stopped => assert!(!due),
            State::Stopping { .. } => assert_eq!(due, !aborted && waits_for_exit),
            State::Backoff { .. } | State::Failed { .. } | State::Lingering { .. } => assert!(due),
        }
        let serving = matches!(lifecycle.state(), State::Running | State::Lingering { .. });
        let next = if serving {
            self.generation
        } else {
            self.generation.next()
        };
        assert_eq!(lifecycle.next_to_serve(), next);
    }
}

fn enumerate(world: &World, depth: usize, visited: &mut u64) {
    *visited += 1;
    if depth == 0 {
        return;
    }
    for step in STEPS {
        let mut next = world.clone();
        if next.step(step) {
            enumerate(&next, depth - 1, visited);
        }
    }
}

#[test]
fn every_short_sequence_of_events_keeps_the_invariants() {
    let depth = if cfg!(miri) { 3 } else { 9 };
    for linger in [0, 20] {
        let mut visited = 0;
        enumerate(&World::new(linger), depth, &mut visited);
        assert!(visited > 100, "the enumeration went nowhere: {visited}");
    }
}

fn edges() -> impl Strategy<Value = LifecyclePolicy> {
    let times = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(20),
        Duration::MAX,
    ];
    let crashes_max = prop::sample::select(vec![1, 2, u32::MAX]);
    let times = prop::array::uniform6(prop::sample::select(times.to_vec()));
    (times, crashes_max).prop_map(|(times, crashes_max)| LifecyclePolicy {
        linger: times[0],
        stop_grace: times[1],
        backoff_min: times[2],
        backoff_max: times[3],
        crash_window: times[4],
        cooldown: times[5],
        crashes_max: NonZeroU32::new(crashes_max).expect("not zero"),
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn long_random_sequences_keep_the_invariants(
        linger in prop_oneof![Just(0), Just(20)],
        steps in prop::collection::vec(prop::sample::select(STEPS.to_vec()), 0..=1000),
    ) {
        let mut world = World::new(linger);
        for step in steps {
            world.step(step);
        }
    }

    /// Every time of the policy nothing, the least, a usual one or for ever.
    #[test]
    fn a_policy_at_its_edges_keeps_the_invariants(
        policy in edges(),
        steps in prop::collection::vec(prop::sample::select(STEPS.to_vec()), 0..200),
    ) {
        let mut world = World::with(policy);
        for step in steps {
            world.step(step);
        }
    }

    /// Whatever happened: once everybody has left and time passes, nothing is left.
    #[test]
    fn everything_ends_once_everybody_has_left(
        steps in prop::collection::vec(prop::sample::select(STEPS.to_vec()), 0..200),
    ) {
        let mut world = World::new(20);
        for step in steps {
            world.step(step);
        }
        for _ in 0..world.leases {
            world.step(Step::Leave);
        }
        for _ in 0..4 {
            world.step(Step::Timer);
            if world.instance.is_some() {
                world.step(Step::Return);
            }
        }
        prop_assert_eq!(world.lifecycle.state(), State::Stopped);
        prop_assert!(world.lifecycle.is_idle());
    }
}

fn crash(lifecycle: &mut Lifecycle, now: Instant) -> Option<Effect> {
    let generation = lifecycle.generation();
    let exit = ExitKind::Crashed;
    lifecycle.on(now, Event::Exited { generation, exit })
}

#[test]
fn the_first_client_starts_and_the_last_one_stops() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    let first = Generation::new(1);
    assert_eq!(lifecycle.on(at(0), Event::Join), Some(Effect::Start(first)));
    assert_eq!(lifecycle.on(at(1), Event::Join), None);
    assert_eq!(lifecycle.on(at(2), Event::Leave), None);
    assert_eq!(lifecycle.on(at(3), Event::Leave), Some(Effect::Stop(first)));
    let until = Some(at(53));
    assert_eq!(lifecycle.state(), State::Stopping { until });
}

#[test]
fn a_client_that_joins_while_it_lingers_finds_it_warm() {
    let mut lifecycle = Lifecycle::new(policy(20), 1);
    let first = Generation::new(1);
    assert_eq!(lifecycle.on(at(0), Event::Join), Some(Effect::Start(first)));
    assert_eq!(lifecycle.on(at(1), Event::Leave), None);
    assert_eq!(lifecycle.state(), State::Lingering { until: at(21) });
    assert_eq!(lifecycle.on(at(20), Event::Timer), None, "not yet");
    assert_eq!(lifecycle.on(at(20), Event::Join), None);
    assert_eq!(lifecycle.state(), State::Running);
    assert_eq!(lifecycle.on(at(22), Event::Leave), None);
    assert_eq!(
        lifecycle.on(at(42), Event::Timer),
        Some(Effect::Stop(first))
    );
}

#[test]
fn joiners_wait_for_the_stopping_instance_and_get_the_next_one() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert!(lifecycle.on(at(1), Event::Leave).is_some());
    assert_eq!(lifecycle.next_to_serve(), Generation::new(2));
    assert_eq!(lifecycle.on(at(2), Event::Join), None);
    let generation = Generation::new(1);
    let exit = ExitKind::Returned;
    let effect = lifecycle.on(at(3), Event::Exited { generation, exit });
    assert_eq!(effect, Some(Effect::Start(Generation::new(2))));
}

#[test]
fn backoff_doubles_up_to_its_maximum_with_jitter_in_its_upper_half() {
    let policy = LifecyclePolicy {
        crashes_max: NonZeroU32::new(1000).expect("not zero"),
        ..LifecyclePolicy::default()
    };
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut lifecycle = Lifecycle::new(policy.clone(), seed);
        let mut now = at(0);
        assert!(lifecycle.on(now, Event::Join).is_some());
        for full in [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            assert_eq!(crash(&mut lifecycle, now), None);
            let wait = lifecycle
                .deadline()
                .expect("backs off")
                .saturating_since(now);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            waits.push(wait);
            now = now + wait;
            assert!(lifecycle.on(now, Event::Timer).is_some());
        }
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(
        waits.len() > 500,
        "no jitter: {} different waits",
        waits.len()
    );
}

#[test]
fn an_instance_that_outlives_the_window_starts_the_backoff_afresh() {
    let policy = LifecyclePolicy {
        backoff_max: Duration::from_millis(400),
        ..policy(0)
    };
    // The second instance lives for one millisecond less than the window, or for all of it.
    for (life, longest) in [(999, 20), (1000, 10)] {
        let mut lifecycle = Lifecycle::new(policy.clone(), 1);
        assert!(lifecycle.on(at(0), Event::Join).is_some());
        assert_eq!(crash(&mut lifecycle, at(0)), None);
        assert!(lifecycle.on(at(10), Event::Timer).is_some());
        assert_eq!(crash(&mut lifecycle, at(10 + life)), None);
        let wait = lifecycle
            .deadline()
            .expect("backs off")
            .saturating_since(at(10 + life));
        let longest = Duration::from_millis(longest);
        assert!(
            wait > longest / 2 && wait <= longest,
            "{wait:?} after {life} ms"
        );
    }
}

#[test]
fn too_many_crashes_in_the_window_fail_the_service_and_not_one_fewer() {
    // The third crash is 999 ms or 1,000 ms after the first: inside or outside of the window.
    for (last, failed) in [(999, true), (1000, false)] {
        let mut lifecycle = Lifecycle::new(policy(0), 1);
        assert!(lifecycle.on(at(0), Event::Join).is_some());
        for now in [0, 500, last] {
            assert_eq!(crash(&mut lifecycle, at(now)), None);
            let is_failed = matches!(lifecycle.state(), State::Failed { .. });
            assert_eq!(is_failed, failed && now == last, "crash at {now}");
            if let State::Backoff { until } = lifecycle.state() {
                assert!(lifecycle.on(until, Event::Timer).is_some());
            }
        }
    }
}

fn failed() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    for now in [0, 100, 200] {
        assert_eq!(crash(&mut lifecycle, at(now)), None);
        if let State::Backoff { until } = lifecycle.state() {
            assert!(lifecycle.on(until, Event::Timer).is_some());
        }
    }
    assert_eq!(lifecycle.state(), State::Failed { until: at(700) });
    assert_eq!(lifecycle.counts().crashes, 3);
    lifecycle
}

#[test]
fn a_failed_service_waits_for_nothing_once_nobody_can_join() {
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(300), Event::Leave), None);
    assert_eq!(lifecycle.on(at(301), Event::Drain), None);
    assert_eq!(
        (lifecycle.state(), lifecycle.deadline()),
        (State::Stopped, None)
    );
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(300), Event::Drain), None);
    assert!(
        lifecycle.deadline().is_some(),
        "its client is told to leave"
    );
    assert_eq!(lifecycle.on(at(301), Event::Leave), None);
    assert_eq!(
        (lifecycle.state(), lifecycle.deadline()),
        (State::Stopped, None)
    );
}

#[test]
fn a_failed_service_refuses_until_its_cooldown_and_then_has_one_trial() {
    let mut lifecycle = failed();
    let retry_after = Duration::from_millis(1);
    let refused = Effect::Refuse(Refusal::Failed { retry_after });
    assert_eq!(lifecycle.on(at(699), Event::Join), Some(refused));
    assert_eq!(
        lifecycle.on(at(699), Event::Leave),
        None,
        "its old client is told to leave"
    );
    assert_eq!(lifecycle.on(at(700), Event::Timer), None);
    assert_eq!(lifecycle.state(), State::Stopped);
    let trial = Some(Effect::Start(Generation::new(4)));
    assert_eq!(lifecycle.on(at(800), Event::Join), trial);
    assert_eq!(crash(&mut lifecycle, at(801)), None);
    assert_eq!(
        lifecycle.state(),
        State::Failed { until: at(1301) },
        "one trial, not three"
    );
}

#[test]
fn a_trial_that_outlives_the_window_is_forgiven() {
    let mut lifecycle = failed();
    assert!(
        lifecycle.on(at(700), Event::Timer).is_some(),
        "a client is still there: start"
    );
    assert_eq!(crash(&mut lifecycle, at(1700)), None);
    assert!(matches!(lifecycle.state(), State::Backoff { .. }));
    let until = lifecycle.deadline().expect("backs off");
    assert!(lifecycle.on(until, Event::Timer).is_some());
    assert_eq!(crash(&mut lifecycle, until), None);
    assert!(
        matches!(lifecycle.state(), State::Backoff { .. }),
        "no trial any more"
    );
}

#[test]
fn a_trial_that_outlives_the_window_and_ends_well_is_forgiven_too() {
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(600), Event::Leave), None);
    assert_eq!(lifecycle.on(at(700), Event::Timer), None);
    assert!(lifecycle.on(at(700), Event::Join).is_some(), "the trial");
    assert!(lifecycle.on(at(1700), Event::Leave).is_some());
    let generation = lifecycle.generation();
    let exit = ExitKind::Returned;
    assert_eq!(
        lifecycle.on(at(1701), Event::Exited { generation, exit }),
        None
    );
    assert!(lifecycle.on(at(9000), Event::Join).is_some());
    assert_eq!(crash(&mut lifecycle, at(9001)), None);
    let until = lifecycle.deadline().expect("backs off");
    assert!(
        matches!(lifecycle.state(), State::Backoff { .. }),
        "one crash is not too many"
    );
    assert!(
        until.saturating_since(at(9001)) <= Duration::from_millis(10),
        "the first of a row"
    );
}

#[test]
fn a_broken_service_is_not_started_anew_by_clients_that_come_and_go() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert_eq!(crash(&mut lifecycle, at(0)), None);
    assert_eq!(lifecycle.on(at(1), Event::Leave), None);
    assert_eq!(
        lifecycle.on(at(1), Event::Join),
        None,
        "waits for the backoff"
    );
    assert!(matches!(lifecycle.state(), State::Backoff { .. }));
}

#[test]
fn drain_stops_what_lingers_and_refuses_what_comes() {
    let mut lifecycle = Lifecycle::new(policy(20), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert_eq!(lifecycle.on(at(1), Event::Leave), None);
    assert_eq!(
        lifecycle.on(at(2), Event::Drain),
        Some(Effect::Stop(Generation::new(1)))
    );
    let refused = Effect::Refuse(Refusal::Draining);
    assert_eq!(lifecycle.on(at(3), Event::Join), Some(refused));
    assert_eq!(lifecycle.counts().refused, 1);
}

#[test]
#[should_panic(expected = "a leave without a client")]
fn a_leave_without_a_client_is_a_bug_and_says_so() {
    let _ = Lifecycle::new(policy(0), 1).on(at(0), Event::Leave);
}

#[test]
#[should_panic(expected = "Stopped with clients")]
fn a_broken_invariant_is_a_bug_and_says_so() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    lifecycle.clients = 1;
    let _ = lifecycle.on(at(0), Event::Timer);
}

#[test]
fn the_jitter_is_splitmix64_within_its_maximum() {
    let mut jitter = Jitter(0);
    for number in [
        0xe220_a839_7b1d_cdaf,
        0x6e78_9e6a_a1b9_65f4,
        0x06c4_5d18_8009_454f,
    ] {
        let nanos = jitter.up_to(Duration::MAX).as_nanos();
        assert_eq!(nanos, number, "the first numbers of the seed 0");
    }
    assert_eq!(jitter.up_to(Duration::ZERO), Duration::ZERO);
    let one = Duration::from_nanos(1);
    let mut seen: Vec<_> = (0..64).map(|_| jitter.up_to(one)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [Duration::ZERO, one], "both ends are drawn");
}
