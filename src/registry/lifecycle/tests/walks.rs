//! Every short sequence of events and long random ones, compared with a simple account.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

/// A step in any state, which is turned into an event that is possible in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Abort,
    Arrive,
    Crash,
    Drain,
    EarlyTimer,
    Join,
    Leave,
    LeaveArrived,
    Return,
    StaleExit,
    Timer,
}

const STEPS: [Step; 11] = [
    Step::Abort,
    Step::Arrive,
    Step::Crash,
    Step::Drain,
    Step::EarlyTimer,
    Step::Join,
    Step::Leave,
    Step::LeaveArrived,
    Step::Return,
    Step::StaleExit,
    Step::Timer,
];

/// The machine, beside a simple account of its expected state.
#[derive(Clone)]
struct World {
    lifecycle: Lifecycle,
    now: Instant,
    leases: usize,
    /// The number of clients that have arrived.
    arrived: usize,
    instance: Option<Instance>,
    generation: Generation,
    draining: bool,
    grace: Duration,
    aborts: u64,
    /// The time at which the step began; a timer may advance the clock.
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
            arrived: 0,
            instance: None,
            generation: Generation::default(),
            draining: false,
        }
    }

    /// Takes the step; returns `false` if it is impossible in this state.
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
            Step::Arrive => {
                let may = self.draining && self.arrived < self.leases;
                may.then_some(Event::Arrived)
            }
            Step::Leave => (self.leases > self.arrived).then_some(LEAVE),
            Step::LeaveArrived => {
                let has_arrived = true;
                (self.arrived > 0).then_some(Event::Leave { has_arrived })
            }
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

    /// Makes the exit of an instance that is gone, or of the present one's successor.
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
            Step::Arrive => self.arrived += 1,
            Step::Drain => self.draining = true,
            Step::Leave => self.leases -= 1,
            Step::LeaveArrived => {
                self.leases -= 1;
                self.arrived -= 1;
            }
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
                        // The wait is zero once the timer is late.
                        let due = self.lifecycle.deadline().expect("it ends");
                        assert_eq!(retry_after, due.saturating_since(self.now));
                        let state = self.lifecycle.state();
                        assert_eq!(state, State::Failed { until: due });
                    }
                    Refusal::Full { max } => {
                        assert_eq!((self.leases, max), (CLIENTS_MAX, CLIENTS_MAX));
                    }
                }
            }
        }
    }

    /// Checks the conditions that hold after every event.
    fn check(&self) {
        let lifecycle = &self.lifecycle;
        assert_eq!(lifecycle.clients(), self.leases, "the leases are the count");
        assert!(self.leases <= CLIENTS_MAX, "one client too many");
        let is_over = self.leases == 0 && lifecycle.deadline().is_none() && self.instance.is_none();
        assert_eq!(lifecycle.is_over(), is_over);
        assert_eq!(lifecycle.has_instance(), self.instance.is_some());
        assert_eq!(lifecycle.generation(), self.generation);
        assert_eq!(lifecycle.is_draining(), self.draining);
        let all = self.draining && self.arrived == self.leases;
        assert_eq!(lifecycle.have_all_arrived(), all);
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
        // No client waits for ever: it is served, or a timer is due, or an instance will exit.
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
        clients_max: CLIENTS_MAX,
        linger: times[0],
        stop_grace: times[1],
        backoff_min: times[2],
        backoff_max: times[3],
        crash_window: times[4],
        cooldown: times[5],
        crashes_max: NonZeroU32::new(crashes_max).expect("not zero"),
    })
}

proptest! {
    #![proptest_config(crate::cases::cases())]

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

    /// Every time of the policy is zero, the least, a usual one or for ever.
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

    /// After any events: once all clients have left and time passes, nothing is left.
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
            world.step(Step::LeaveArrived);
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
