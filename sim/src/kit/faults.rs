//! What may go wrong in a run of a user's test, and how a seed draws it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stage::ZONES;
use crate::plan::{Action, Network, Plan, Timed, Way};
use crate::rng::Rng;
use crate::wild::{Lengths, Tcp};

/// Something that may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Sockets have buffers of some hundred bytes, so that writers wait.
    Buffers,
    /// The server's process is gone, and is started again after up to 5 s; breaks connections.
    Crash,
    /// Nothing passes between a zone and the server for up to 5 s; all of it arrives later.
    Hold,
    /// Reads and writes take less than there is.
    Lengths,
    /// What passes between a zone and the server is lost for up to 10 s; breaks connections.
    Partition,
    /// Links send a few thousand bytes a second.
    Slow,
    /// The wall clock is set, by up to a day.
    Wall,
}

/// All faults there are.
const ALL: [Fault; 7] = [
    Fault::Buffers,
    Fault::Crash,
    Fault::Hold,
    Fault::Lengths,
    Fault::Partition,
    Fault::Slow,
    Fault::Wall,
];

/// What may go wrong in the runs of a test; each seed draws about half of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// Nothing but latency.
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything.
    pub fn all() -> Self {
        Self(ALL.into())
    }

    /// Everything after which connections go on: all but [`Fault::Crash`] and
    /// [`Fault::Partition`]. A client that gets an error then breaks a rule.
    pub fn gentle() -> Self {
        Self::all().without(Fault::Crash).without(Fault::Partition)
    }

    /// This one too.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.0.insert(fault);
        self
    }

    /// Not this one.
    #[must_use]
    pub fn without(mut self, fault: Fault) -> Self {
        self.0.remove(&fault);
        self
    }

    /// What a seed draws of them, in the first third of `within`, and the drain at its end.
    pub(super) fn plan(&self, seed: u64, within: Duration) -> (Plan, Tcp) {
        let mut rng = Rng::keyed(seed, "kit", 0);
        let latency_ms_min = rng.within(0..=20);
        let network = Network {
            zones: ZONES,
            tick_ms: 1,
            latency_ms_min,
            latency_ms_max: latency_ms_min + rng.within(0..=60),
            slack_ms: 0,
        };
        let drain_ms = u64::try_from(within.as_millis())
            .unwrap_or(u64::MAX / 4)
            .max(3);
        let (mut tcp, mut actions) = (Tcp::default(), Vec::new());
        for fault in ALL {
            // Drawn for every fault, so that leaving one out changes no other.
            let mut rng = Rng::keyed(seed, "fault", fault as u64);
            let is_drawn = rng.chance(1, 2);
            if is_drawn && self.0.contains(&fault) {
                draw(fault, &mut rng, drain_ms / 3, (&mut tcp, &mut actions));
            }
        }
        actions.push(at(drain_ms, Action::Drain));
        actions.sort_by_key(|timed| timed.at_ms);
        let plan = Plan {
            seed,
            network,
            actions,
            end_ms: drain_ms + TO_END_MS,
            wild: None,
        };
        (plan, tcp)
    }
}

/// From the drain to the end, longer than every timeout of the server's default limits.
const TO_END_MS: u64 = 120_000;

fn at(at_ms: u64, action: Action) -> Timed {
    Timed { at_ms, action }
}

fn draw(fault: Fault, rng: &mut Rng, until: u64, (tcp, actions): (&mut Tcp, &mut Vec<Timed>)) {
    let begins = rng.within(0..=until);
    let zone = rng.within(0..=u64::from(ZONES) - 1) as u8;
    match fault {
        Fault::Buffers => {
            tcp.send_bytes = *rng.pick(&[64, 200, 1_000]);
            tcp.receive_bytes = *rng.pick(&[64, 200, 1_000]);
        }
        Fault::Crash => {
            actions.push(at(begins, Action::Crash));
            actions.push(at(begins + rng.within(1..=5_000), Action::Bounce));
        }
        Fault::Hold => {
            actions.push(at(begins, Action::Hold { zone }));
            let ends = begins + rng.within(1..=5_000);
            actions.push(at(ends, Action::Release { zone }));
        }
        Fault::Lengths => tcp.lengths = Lengths::Short,
        Fault::Partition => {
            let way = *rng.pick(&[Way::Both, Way::Up, Way::Down]);
            actions.push(at(begins, Action::Partition { zone, way }));
            let ends = begins + rng.within(1..=10_000);
            actions.push(at(ends, Action::Repair { zone }));
        }
        Fault::Slow => tcp.bytes_per_second = Some(rng.within(2_000..=20_000)),
        Fault::Wall => {
            let by_ms = rng.within(0..=172_800_000).cast_signed() - 86_400_000;
            actions.push(at(begins, Action::Wall { by_ms }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(faults: &Faults, seed: u64) -> Plan {
        faults.plan(seed, Duration::from_secs(60)).0
    }

    #[test]
    fn a_fault_that_is_left_out_changes_no_other() {
        for seed in 0..50 {
            let mut all = plan(&Faults::all(), seed);
            let without = plan(&Faults::all().without(Fault::Hold), seed);
            let is_hold =
                |action: &Action| matches!(action, Action::Hold { .. } | Action::Release { .. });
            all.actions.retain(|timed| !is_hold(&timed.action));
            assert_eq!(all, without, "seed {seed}");
        }
    }

    #[test]
    fn every_fault_is_drawn_by_some_seeds_and_not_by_others() {
        for fault in ALL {
            let none = |seed| Faults::none().plan(seed, Duration::from_secs(60));
            let with = |seed| {
                Faults::none()
                    .with(fault)
                    .plan(seed, Duration::from_secs(60))
            };
            let drawn = (0..50).filter(|seed| with(*seed) != none(*seed)).count();
            assert!((10..40).contains(&drawn), "{fault:?}: {drawn} of 50");
        }
    }
}
