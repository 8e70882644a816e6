//! The lifecycle, told again from outside: no state is left too early or too late, one instance at
//! most is there, and the clients are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use busline::limits::LifecyclePolicy;
use busline::registry::{ServiceStatus, State};

use super::Found;
use crate::core::services::{SCRIPT, SERVICES};
use crate::core::world::World;

/// The lives of all services.
pub(crate) struct Lives {
    policy: LifecyclePolicy,
    lives: BTreeMap<String, Life>,
}

#[derive(Default)]
struct Life {
    /// The present status, and since when its state is what it is.
    last: Option<(Duration, ServiceStatus)>,
    started: Duration,
    /// Since the last time it failed.
    crashes: Vec<Duration>,
    is_trial: bool,
}

impl Lives {
    pub(crate) fn new(policy: LifecyclePolicy) -> Self {
        let lives = BTreeMap::new();
        Self { policy, lives }
    }

    /// A service has another status than before.
    pub(crate) fn take(
        &mut self,
        service: &str,
        now: Duration,
        status: &ServiceStatus,
        is_draining: bool,
    ) -> Found {
        let life = self.lives.entry(service.to_owned()).or_default();
        let Some((since, last)) = life.last else {
            life.last = Some((now, *status));
            life.started = now;
            return Ok(());
        };
        let kind = |state: &State| std::mem::discriminant(state);
        let is_same =
            kind(&last.state) == kind(&status.state) && last.generation == status.generation;
        if !is_same {
            let stay = now.saturating_sub(since);
            let found = left(&self.policy, last.state, status.state, (stay, is_draining));
            found.map_err(|text| format!("{service} {text} after {stay:?} {:?}", last.state))?;
        }
        // A run that outlives the window is forgiven, however it ends.
        let has_ended = status.counts.exits != last.counts.exits;
        if has_ended && now.saturating_sub(life.started) >= self.policy.crash_window {
            life.is_trial = false;
        }
        if status.generation != last.generation {
            life.started = now;
        }
        if status.counts.crashes != last.counts.crashes {
            let found = life.crash(&self.policy, now, (status.state, is_draining));
            found.map_err(|text| format!("{service} {text}"))?;
        }
        life.last = Some((if is_same { since } else { now }, *status));
        Ok(())
    }

    /// A room is gone, and with it the memory of its crashes.
    pub(crate) fn gone(&mut self, room: &str, now: Duration, is_draining: bool) -> Found {
        let Some((since, last)) = self.lives.remove(room).and_then(|life| life.last) else {
            return Ok(());
        };
        let stay = now.saturating_sub(since);
        left(
            &self.policy,
            last.state,
            State::Stopped,
            (stay, is_draining),
        )
        .map_err(|text| format!("{room} {text} after {stay:?} {:?}", last.state))
    }

    /// How long the service or the room is what it is.
    pub(crate) fn stay(&self, service: &str, now: Duration) -> Option<Duration> {
        let (since, _) = self.lives.get(service)?.last?;
        Some(now.saturating_sub(since))
    }
}

/// How long a state may last at most; an instance that is prompt returns at once when it is told to
/// stop. `None` of a state without an end.
pub(super) fn longest(lives: &Lives, state: State, is_prompt: bool) -> Option<Duration> {
    let policy = &lives.policy;
    match state {
        State::Backoff { .. } => Some(policy.backoff_max),
        State::Failed { .. } => Some(policy.cooldown),
        State::Lingering { .. } => Some(policy.linger),
        State::Stopping { .. } if is_prompt => Some(Duration::ZERO),
        State::Stopping { .. } => Some(policy.stop_grace),
        State::Running | State::Stopped => None,
    }
}

/// Whether a state may be left for another one after this stay, while draining or not.
fn left(
    policy: &LifecyclePolicy,
    from: State,
    to: State,
    (stay, is_draining): (Duration, bool),
) -> Found {
    let goes = match to {
        State::Stopping { .. } | State::Stopped => true,
        State::Backoff { .. } | State::Failed { .. } | State::Lingering { .. } | State::Running => {
            false
        }
    };
    let early = match from {
        State::Running => goes && !policy.linger.is_zero() && !is_draining,
        State::Lingering { .. } => goes && stay < policy.linger && !is_draining,
        // Half of it is jitter.
        State::Backoff { .. } => stay < policy.backoff_min / 2 && !(goes && is_draining),
        State::Failed { .. } => stay < policy.cooldown && !(goes && is_draining),
        State::Stopped | State::Stopping { .. } => false,
    };
    if early {
        return Err(format!("is {to:?} too early,"));
    }
    Ok(())
}

impl Life {
    /// An instance has crashed: too many within the window make the service fail, and so does one
    /// that follows a failure.
    fn crash(
        &mut self,
        policy: &LifecyclePolicy,
        now: Duration,
        (state, is_draining): (State, bool),
    ) -> Found {
        self.crashes
            .retain(|at| now.saturating_sub(*at) < policy.crash_window);
        self.crashes.push(now);
        let too_many = self.crashes.len() >= policy.crashes_max.get() as usize;
        let must_fail = too_many || self.is_trial;
        self.is_trial = must_fail;
        let crashes = self.crashes.len();
        if must_fail {
            self.crashes.clear();
        }
        // For nobody it need not be anything while the core drains.
        let is_over = is_draining && state == State::Stopped;
        if !is_over && must_fail != matches!(state, State::Failed { .. }) {
            let max = policy.crashes_max;
            return Err(format!("is {state:?} after {crashes} of {max} crashes"));
        }
        Ok(())
    }
}

/// What must be true of all services whenever no task is ready.
pub(crate) fn at_rest(world: &mut World) -> Found {
    for service in SERVICES {
        if world.bodies(service).most() > 1 {
            return Err(format!("{service} had two instances at once"));
        }
        let found = overdue(world, service)
            .and_then(|()| instance(world, service))
            .and_then(|()| clients(world, service));
        found.map_err(|text| format!("{service} {text}"))?;
    }
    Ok(())
}

/// No state lasts longer than it may.
fn overdue(world: &World, service: &str) -> Found {
    let life = world.lives.lives.get(service);
    let Some((since, status)) = life.and_then(|life| life.last) else {
        return Ok(());
    };
    let stay = world.rt.time().saturating_sub(since);
    // The others return at once.
    let is_prompt = service != SCRIPT || !world.bodies(service).is_busy();
    match longest(&world.lives, status.state, is_prompt) {
        Some(limit) if stay >= limit => Err(format!("is {:?} for {stay:?}", status.state)),
        Some(_) | None => Ok(()),
    }
}

/// An instance is there if the service says so.
fn instance(world: &World, service: &str) -> Found {
    let Some(status) = world.app.registry().status(service) else {
        return Ok(());
    };
    let says = match status.state {
        State::Lingering { .. } | State::Running | State::Stopping { .. } => 1,
        State::Backoff { .. } | State::Failed { .. } | State::Stopped => 0,
    };
    let there = world.bodies(service).tasks().len();
    if there != says {
        return Err(format!("is {:?} with {there} instances", status.state));
    }
    Ok(())
}

/// It counts all clients that are there, and none that are not.
fn clients(world: &World, service: &str) -> Found {
    let status = world.app.registry().status(service);
    let counted = status.map_or(0, |status| status.clients);
    let of = || {
        world
            .clients
            .values()
            .filter(|client| client.service == service)
    };
    let most = of().filter(|client| !client.is_ended()).count();
    let is_sure = world.drained.is_none();
    let least = of().filter(|client| is_sure && client.is_sound()).count();
    if counted < least || counted > most {
        return Err(format!("counts {counted} clients of {least} to {most}"));
    }
    Ok(())
}
