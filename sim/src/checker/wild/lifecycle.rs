//! The lifecycle, told again from the log: no state is left too early, none is kept too long.

use std::collections::BTreeMap;

use busline::limits::LifecyclePolicy;

use super::crashes;
use crate::checker::{Breach, Checker, History, Scope};
use crate::rooms::is_room;
use crate::trace::{Event, micros};

/// A service lingers as long as it is to; an instance that is told to stop returns, or is gone with
/// its grace; a service that crashed is not started before its backoff, one that crashed as often
/// as it may has failed, and one that failed is not started before its cool-down.
pub struct Lifecycle;

impl Checker for Lifecycle {
    fn name(&self) -> &'static str {
        "lifecycle"
    }

    fn scope(&self) -> Scope {
        Scope::Wild
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(wild) = &history.wild else {
            return Ok(());
        };
        let policy = wild.lifecycle();
        let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
        for entry in history.epoch() {
            let Event::Log {
                message, fields, ..
            } = &entry.event
            else {
                continue;
            };
            let Some(service) = fields.get("service") else {
                continue;
            };
            let now = Now {
                t: entry.t,
                grace: history.grace + TIMER,
                slack: history.slack,
                drains: history.drains(entry.t),
            };
            let life = lives.entry(service).or_default();
            let found = life.take(service, message, &policy, &now);
            found.map_err(|text| Breach::new(entry.t, format!("{service} {text}")))?;
        }
        Ok(())
    }
}

/// The grain of timers, in microseconds.
const TIMER: u64 = 2_000;

/// One service. All times in microseconds.
#[derive(Default)]
struct Life {
    started: u64,
    /// Since when it is what it is, if it is that.
    lingers: Option<u64>,
    stops: Option<u64>,
    backs_off: Option<u64>,
    failed: Option<u64>,
    /// Since it last failed.
    crashes: Vec<u64>,
    is_trial: bool,
}

/// The moment of an entry of the log.
struct Now {
    t: u64,
    /// What any time may be longer by.
    grace: u64,
    /// What any time may seem shorter by: in real time the line that begins it is written late.
    slack: u64,
    drains: bool,
}

impl Life {
    fn take(
        &mut self,
        service: &str,
        message: &str,
        policy: &LifecyclePolicy,
        now: &Now,
    ) -> Result<(), String> {
        match message {
            "service lingers" => self.lingers = Some(now.t),
            "service stops" => {
                let linger = micros(policy.linger);
                let lingered = self.lingers.take().map_or(0, |since| now.t - since);
                if lingered + now.slack < linger && !now.drains {
                    return Err(format!("stops after {lingered} us of {linger}"));
                }
                self.stops = Some(now.t);
            }
            "instance returned" | "instance ended" => {
                // A run that outlives the window is forgiven, however it ends.
                let is_forgiven = now.t - self.started >= micros(policy.crash_window);
                self.is_trial = self.is_trial && !is_forgiven;
                return self.ended(service, policy, now);
            }
            "service started" => {
                let found = self.rested(policy, now);
                *self = Self {
                    started: now.t,
                    crashes: std::mem::take(&mut self.crashes),
                    is_trial: self.is_trial,
                    ..Self::default()
                };
                return found;
            }
            "service stopped" => {
                let found = self.rested(policy, now);
                // A room is gone, and with it the memory of its crashes.
                if is_room(service) {
                    *self = Self::default();
                }
                return if now.drains { Ok(()) } else { found };
            }
            _ if message.starts_with("service crashed") => {
                self.backs_off = Some(now.t);
                return self.crash(policy, now.t, false);
            }
            _ if message.starts_with("service failed") => {
                self.failed = Some(now.t);
                return self.crash(policy, now.t, true);
            }
            _ => {}
        }
        Ok(())
    }

    /// An instance that was told to stop: at once, unless it is one that may have other things to
    /// do.
    fn ended(&mut self, service: &str, policy: &LifecyclePolicy, now: &Now) -> Result<(), String> {
        let Some(stops) = self.stops.take() else {
            return Ok(());
        };
        let most = if crashes(service) {
            micros(policy.stop_grace)
        } else {
            0
        };
        let took = now.t - stops;
        if took > most + now.grace {
            return Err(format!("took {took} us to stop"));
        }
        Ok(())
    }

    /// Whether a service that crashed has waited long enough.
    fn rested(&mut self, policy: &LifecyclePolicy, now: &Now) -> Result<(), String> {
        // Half of the backoff is jitter.
        let backoff = micros(policy.backoff_min) / 2;
        let waits = [
            ("crashed", self.backs_off.take(), backoff),
            ("failed", self.failed.take(), micros(policy.cooldown)),
        ];
        for (what, since, least) in waits {
            if let Some(since) = since
                && now.t - since + now.slack < least
            {
                let waited = now.t - since;
                return Err(format!("has {what}, and rested {waited} us of {least}"));
            }
        }
        Ok(())
    }

    /// A crash within the window after too many others makes the service fail, and so does one
    /// that follows a failure.
    fn crash(&mut self, policy: &LifecyclePolicy, t: u64, failed: bool) -> Result<(), String> {
        let window = micros(policy.crash_window);
        self.crashes.retain(|at| t - at < window);
        self.crashes.push(t);
        let crashes = self.crashes.len();
        let most = policy.crashes_max.get() as usize;
        let must_fail = crashes >= most || self.is_trial;
        self.is_trial = must_fail;
        if must_fail {
            self.crashes.clear();
        }
        if must_fail != failed {
            return Err(format!(
                "has failed: {failed}, after {crashes} of {most} crashes"
            ));
        }
        Ok(())
    }
}
