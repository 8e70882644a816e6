//! The lifecycle of a service as a pure state machine: events in, at most one effect out.
//!
//! ```text
//!              first Join: Start                 last Leave, linger > 0
//!   Stopped ----------------------> Running <-----------------------------> Lingering
//!     ^ ^ ^                         |  |  ^          Join                      |
//!     | | |        Exited: a crash  |  |  |                                    | Timer, Drain:
//!     | | |    +--------------------+  |  | Exited with clients: Start         | Stop
//!     | | |    |                       |  |                                    |
//!     | | |    |      last Leave, linger 0: Stop                               v
//!     | | |    |                       +--+---------------------------> Stopping (after grace:
//!     | | +----|--------------------------------------------------------   |   Abort)
//!     | |      v                          Exited without clients           | a crash
//!     | +-- Backoff <------------------------------------------------------+
//!     |        |  Timer: Start if there are clients, else Stopped
//!     |        v  too many crashes
//!     +---- Failed   joins are refused; Timer: one trial Start if there are clients, else Stopped
//! ```
//!
//! The machine reads no clock: every event comes with the present time, and [`Lifecycle::deadline`]
//! says when the next [`Event::Timer`] is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Generation;
use crate::limits::LifecyclePolicy;
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// The state machine of one service.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    policy: Arc<LifecyclePolicy>,
    state: State,
    generation: Generation,
    clients: usize,
    /// The number of clients whose messages from before the drain are handed over.
    arrived: usize,
    draining: bool,
    /// The time at which the present instance was started.
    started: Instant,
    /// The times of the crashes within the window, oldest first; at most as many as make the
    /// service Failed.
    crashes: VecDeque<Instant>,
    /// The number of crashes in a row, each of an instance that did not outlive the window.
    streak: u32,
    /// Whether the next crash within the window fails the service at once.
    trial: bool,
    jitter: Jitter,
    counts: LifecycleCounts,
}

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The instance crashed; a new one is started after a wait, if there are clients then.
    Backoff {
        /// The end of the wait.
        until: Instant,
    },
    /// The service crashed too often; joins are refused.
    Failed {
        /// The end of the refusals.
        until: Instant,
    },
    /// An instance is kept running without clients.
    Lingering {
        /// The time at which the instance is stopped.
        until: Instant,
    },
    /// An instance runs for at least one client.
    Running,
    /// The service has no instance and no clients.
    Stopped,
    /// An instance was told to return; clients that join wait for the next instance.
    Stopping {
        /// The time at which the instance is aborted; `None` once it has been aborted.
        until: Option<Instant>,
    },
}

/// An input of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client has handed over all messages that it had sent when the application began to stop.
    Arrived,
    /// The application stops: no more clients, no more starts than necessary.
    Drain,
    /// An instance has ended.
    Exited {
        /// The generation of the instance.
        generation: Generation,
        /// The kind of the exit.
        exit: ExitKind,
    },
    /// A client joins the service.
    Join,
    /// A client that had joined has left.
    Leave {
        /// Whether the client [has arrived](Event::Arrived).
        has_arrived: bool,
    },
    /// The deadline may have passed.
    Timer,
}

/// The way in which an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// The instance was aborted, after its grace or by its runtime.
    Aborted,
    /// The instance panicked, or returned an error.
    Crashed,
    /// The instance returned.
    Returned,
}

/// The action that an event requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an effect that is not carried out is lost"]
pub enum Effect {
    /// Abort the instance of this generation.
    Abort(Generation),
    /// Refuse the client that wanted to join; the client has not joined.
    Refuse(Refusal),
    /// Start an instance of this generation.
    Start(Generation),
    /// Tell the instance of this generation to return.
    Stop(Generation),
}

/// The reason why a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The application stops.
    Draining,
    /// The service has as many clients as it may.
    Full {
        /// The limit.
        max: usize,
    },
    /// The service crashed too often.
    Failed {
        /// The time after which the next start may be tried.
        retry_after: Duration,
    },
}

/// The totals of a lifecycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifecycleCounts {
    /// Instances that were started.
    pub starts: u64,
    /// Instances that have ended.
    pub exits: u64,
    /// Instances that ended by a crash.
    pub crashes: u64,
    /// Instances that did not return within their grace.
    pub aborts: u64,
    /// Ignored exits of another generation, and ignored timers before their deadline.
    pub stale: u64,
    /// Clients that were refused.
    pub refused: u64,
}

impl Lifecycle {
    /// Makes a stopped service; `seed` feeds the jitter of its backoff.
    pub fn new(policy: impl Into<Arc<LifecyclePolicy>>, seed: u64) -> Self {
        Self {
            policy: policy.into(),
            state: State::Stopped,
            generation: Generation::default(),
            clients: 0,
            arrived: 0,
            draining: false,
            started: Instant::ZERO,
            crashes: VecDeque::new(),
            streak: 0,
            trial: false,
            jitter: Jitter(seed),
            counts: LifecycleCounts::default(),
        }
    }

    /// Numbers the instances from the one after `last`.
    #[must_use]
    pub fn after(mut self, last: Generation) -> Self {
        self.generation = last;
        self
    }

    /// Applies an event at time `now` and returns the required action, if there is one.
    ///
    /// # Panics
    ///
    /// On an [`Event::Leave`] without a client, which a move-only lease cannot produce.
    pub fn on(&mut self, now: Instant, event: Event) -> Option<Effect> {
        let numbered_after = self.numbered_after();
        let effect = match event {
            Event::Arrived => {
                self.arrived += 1;
                None
            }
            Event::Drain => self.on_drain(now),
            Event::Exited { generation, exit } => self.on_exited(now, generation, exit),
            Event::Join => self.on_join(now),
            Event::Leave { has_arrived } => {
                self.arrived -= usize::from(has_arrived);
                self.on_leave(now)
            }
            Event::Timer => self.on_timer(now),
        };
        self.settle();
        self.check(numbered_after);
        effect
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The number of clients that have joined and not left.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The generation of the last start; before the first start, 0 or the value given to
    /// [`after`](Self::after).
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The generation that serves a client which joins now: the running one, or else the next.
    pub fn next_to_serve(&self) -> Generation {
        match self.state {
            State::Running | State::Lingering { .. } => self.generation,
            State::Backoff { .. }
            | State::Failed { .. }
            | State::Stopped
            | State::Stopping { .. } => self.generation.next(),
        }
    }

    /// Whether the application stops.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether an instance exists.
    pub fn has_instance(&self) -> bool {
        match self.state {
            State::Running | State::Lingering { .. } | State::Stopping { .. } => true,
            State::Backoff { .. } | State::Failed { .. } | State::Stopped => false,
        }
    }

    /// Whether each remaining client has handed over all messages that it had sent when the
    /// application began to stop.
    pub fn have_all_arrived(&self) -> bool {
        self.draining && self.arrived >= self.clients
    }

    /// Whether neither an instance nor a client is left.
    pub fn is_idle(&self) -> bool {
        !self.has_instance() && self.clients == 0
    }

    /// Whether nothing is left to remember: no instance, no client, and no crash that bars a start.
    pub fn is_over(&self) -> bool {
        self.state == State::Stopped
    }

    /// The time at which the next [`Event::Timer`] is due; `None` if no timer is needed.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Backoff { until } | State::Failed { until } | State::Lingering { until } => {
                Some(until)
            }
            State::Stopping { until } => until,
            State::Running | State::Stopped => None,
        }
    }

    /// The totals so far.
    pub fn counts(&self) -> LifecycleCounts {
        self.counts
    }

    fn on_join(&mut self, now: Instant) -> Option<Effect> {
        if self.draining && !planted::is(Bug::DrainAdmits) {
            return self.refuse(Refusal::Draining);
        }
        let max = self.policy.clients_max;
        if self.clients >= max {
            return self.refuse(Refusal::Full { max });
        }
        match self.state {
            State::Failed { until } => {
                let retry_after = until.saturating_since(now);
                return self.refuse(Refusal::Failed { retry_after });
            }
            State::Backoff { .. } | State::Running | State::Stopping { .. } => {}
            State::Lingering { .. } => self.state = State::Running,
            State::Stopped => {
                self.clients += 1;
                return self.start(now);
            }
        }
        self.clients += 1;
        None
    }

    fn on_leave(&mut self, now: Instant) -> Option<Effect> {
        let Some(clients) = self.clients.checked_sub(1) else {
            unreachable!(
                "a client leaves the service, but it has none: {:?}",
                self.state
            );
        };
        self.clients = clients;
        match self.state {
            State::Running if clients == 0 => {
                let skipped = planted::is(Bug::LingerSkipped);
                if self.policy.linger.is_zero() || self.draining || skipped {
                    return self.stop(now);
                }
                let until = now + self.policy.linger;
                self.state = State::Lingering { until };
            }
            State::Backoff { .. } | State::Failed { .. } | State::Running => {}
            State::Stopping { .. } => {}
            State::Lingering { .. } | State::Stopped => {
                unreachable!("a client leaves the service while it is {:?}", self.state)
            }
        }
        None
    }

    fn on_exited(
        &mut self,
        now: Instant,
        generation: Generation,
        exit: ExitKind,
    ) -> Option<Effect> {
        if generation != self.generation || !self.has_instance() {
            self.counts.stale += 1;
            return None;
        }
        self.counts.exits += 1;
        if now.saturating_since(self.started) >= self.policy.crash_window {
            // The instance lived long enough, so the crashes before it no longer count as a row.
            self.trial = false;
            self.streak = 0;
        }
        let stopping = matches!(self.state, State::Stopping { .. });
        match exit {
            ExitKind::Returned if self.clients == 0 => self.state = State::Stopped,
            ExitKind::Aborted if stopping && self.clients == 0 => self.state = State::Stopped,
            ExitKind::Aborted | ExitKind::Returned if stopping => return self.start(now),
            ExitKind::Aborted | ExitKind::Crashed | ExitKind::Returned => self.crash(now),
        }
        None
    }

    fn on_timer(&mut self, now: Instant) -> Option<Effect> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            self.counts.stale += 1;
            return None;
        }
        match self.state {
            State::Backoff { .. } | State::Failed { .. } if self.clients > 0 => self.start(now),
            State::Backoff { .. } | State::Failed { .. } => {
                self.state = State::Stopped;
                None
            }
            State::Lingering { .. } => self.stop(now),
            State::Stopping { .. } => {
                self.counts.aborts += 1;
                self.state = State::Stopping { until: None };
                let effect = Effect::Abort(self.generation);
                (!planted::is(Bug::GraceIgnored)).then_some(effect)
            }
            State::Running | State::Stopped => unreachable!("{:?} has no deadline", self.state),
        }
    }

    fn on_drain(&mut self, now: Instant) -> Option<Effect> {
        self.draining = true;
        match self.state {
            State::Lingering { .. } => return self.stop(now),
            State::Backoff { .. } | State::Failed { .. } | State::Running => {}
            State::Stopped | State::Stopping { .. } => {}
        }
        None
    }

    /// Stops a drained service without clients that waits for a start: the start would be for no
    /// client.
    fn settle(&mut self) {
        let waits = matches!(self.state, State::Backoff { .. } | State::Failed { .. });
        if self.draining && self.clients == 0 && waits {
            self.state = State::Stopped;
        }
    }

    fn start(&mut self, now: Instant) -> Option<Effect> {
        self.generation = self.generation.next();
        self.started = now;
        self.state = State::Running;
        self.counts.starts += 1;
        Some(Effect::Start(self.generation))
    }

    fn stop(&mut self, now: Instant) -> Option<Effect> {
        let until = Some(now + self.policy.stop_grace);
        self.state = State::Stopping { until };
        self.counts.exits = planted::one_more(Bug::StopNotAwaited, self.counts.exits);
        if planted::is(Bug::StopNotAwaited) {
            self.state = State::Stopped;
        }
        Some(Effect::Stop(self.generation))
    }

    fn refuse(&mut self, refusal: Refusal) -> Option<Effect> {
        self.counts.refused += 1;
        Some(Effect::Refuse(refusal))
    }

    /// Enters Backoff or Failed. A service without clients does so, too: otherwise clients that
    /// come and go could start a broken service without end.
    fn crash(&mut self, now: Instant) {
        self.counts.crashes += 1;
        let window = self.policy.crash_window;
        self.streak = self.streak.saturating_add(1);
        while self
            .crashes
            .front()
            .is_some_and(|at| now.saturating_since(*at) >= window)
        {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        let max = planted::one_more(Bug::CrashTolerated, self.policy.crashes_max.get() as usize);
        let too_many = self.crashes.len() >= max;
        if too_many || self.trial {
            self.crashes.clear();
            self.trial = true;
            let until = if planted::is(Bug::CooldownIgnored) {
                now
            } else {
                now + self.policy.cooldown
            };
            self.state = State::Failed { until };
        } else {
            self.trial = false;
            let until = now + self.backoff();
            self.state = State::Backoff { until };
        }
    }

    /// Computes the wait after a crash. The full wait doubles with each crash in a row, up to the
    /// maximum. The wait is drawn from its upper half, so that services that crashed together do
    /// not start together.
    fn backoff(&mut self) -> Duration {
        let doublings = self.streak.saturating_sub(1).min(31);
        let full = self.policy.backoff_min.saturating_mul(1 << doublings);
        let full = full.min(self.policy.backoff_max);
        let half = full / 2;
        if planted::is(Bug::BackoffSkipped) {
            return Duration::ZERO;
        }
        half + self.jitter.up_to(full - half)
    }
}

/// A small pseudo-random generator with a seed (SplitMix64).
#[derive(Clone, Debug)]
struct Jitter(u64);

impl Jitter {
    fn up_to(&mut self, max: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(z % nanos.saturating_add(1).max(1))
    }
}

mod check;

#[cfg(test)]
mod tests;
