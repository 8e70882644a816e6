//! How any bytes become a wild plan, so that a fuzzer can look for plans that reach new code.
//!
//! ```text
//!   byte 0, 1   the settings: limits, sizes, the network
//!   then fours  when | who, and where it connects first | what | how
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::life::{KINDS, Mood, deeds};
use super::{LONG, PROBES, Phases, SERVICES, ZONES, at, more, probe, settings, speech};
use crate::plan::{Action, Network, Plan, Timed, Way};
use crate::plan_file::PlanFile;
use crate::report::Report;
use crate::rng::Rng;
use crate::run::run;
use crate::script::Start;
use crate::speech::Speech;
use crate::trace::Digest;
use crate::wild::{Deed, Wild};

/// When the faults are over.
const HEALED_MS: u64 = 20_000;

/// Most fours that are read.
const FOURS_MAX: usize = 120;

/// Clients there are besides those that come when the faults are over.
const CLIENTS: u32 = 8;

/// Waits before something is done, in milliseconds.
const WAITS_MS: [u64; 8] = [0, 0, 1, 7, 30, 150, 700, 2_500];

/// Kinds of faults.
const FAULTS: usize = 10;

/// The plan of these bytes; every byte string is one.
pub fn plan(bytes: &[u8]) -> Plan {
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let setting = head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let mut rng = Rng::keyed(setting, "guided", 0);
    let mut wild = settings(&mut rng, HEALED_MS);
    more(&mut Rng::keyed(setting, "more", 0), &mut wild);
    let latency_ms_min = rng.within(0..=20);
    let network = Network {
        zones: ZONES,
        tick_ms: 100,
        latency_ms_min,
        latency_ms_max: latency_ms_min + rng.within(0..=60),
        slack_ms: 0,
    };
    let mut writing = Writing::new(setting, &wild, &network);
    for four in rest.chunks(4).take(FOURS_MAX) {
        let byte = |place: usize| four.get(place).copied().unwrap_or(0);
        writing.read([byte(0), byte(1), byte(2), byte(3)]);
    }
    let Phases { drain, end, .. } = LONG;
    Plan {
        seed: setting,
        network: network.clone(),
        actions: writing.end(),
        end_ms: HEALED_MS + drain + end,
        wild: Some(wild.clone()),
    }
}

/// The body of the fuzz target: runs the plan of these bytes, and judges it.
///
/// # Panics
///
/// When a rule is broken or there is no result, with the file in which the plan is saved.
pub fn fuzz(bytes: &[u8]) {
    let plan = plan(bytes);
    let broken = match run(&plan) {
        Ok(trace) => Report::new(plan.clone(), trace)
            .violations
            .into_iter()
            .next(),
        Err(error) => panic!(
            "{}: {error}",
            save(bytes, plan, &error.to_string()).display()
        ),
    };
    if let Some(violation) = broken {
        let path = save(bytes, plan, &violation.to_string());
        panic!(
            "cargo run -p sim -- replay {}  # {violation}",
            path.display()
        );
    }
}

/// Saves the plan where it can be replayed from.
fn save(bytes: &[u8], plan: Plan, shows: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("plan-{}.json", Digest::of(bytes)));
    match PlanFile::new(plan, shows).write(&path) {
        Ok(()) => path,
        Err(error) => panic!("{shows}, and the plan is not saved: {error}"),
    }
}

/// A plan while its bytes are read.
struct Writing<'a> {
    setting: u64,
    wild: &'a Wild,
    network: &'a Network,
    now: u64,
    actions: Vec<Timed>,
    connected: BTreeSet<u32>,
    number: usize,
}

impl<'a> Writing<'a> {
    fn new(setting: u64, wild: &'a Wild, network: &'a Network) -> Self {
        Self {
            setting,
            wild,
            network,
            now: 0,
            actions: Vec::new(),
            connected: BTreeSet::new(),
            number: 0,
        }
    }

    fn read(&mut self, [wait, who, what, how]: [u8; 4]) {
        let wait = WAITS_MS[usize::from(wait) % WAITS_MS.len()];
        self.now = (self.now + wait).min(HEALED_MS - 1);
        let what = usize::from(what) % (KINDS.len() + FAULTS);
        match KINDS.get(what) {
            Some(kind) => {
                let client = 1 + u32::from(who) % CLIENTS;
                self.connect(client, who / CLIENTS as u8);
                let mut rng = Rng::keyed(u64::from(how), "guided", what as u64);
                let mood = Mood::of(*kind, self.wild).speaking(self.speech(client));
                let done = deeds(&mut rng, client, self.number, &mood);
                self.number += 1;
                let now = self.now;
                self.actions
                    .extend(done.into_iter().map(|action| at(now, action)));
            }
            None => self.fault(what - KINDS.len(), who % ZONES, how),
        }
    }

    fn speech(&self, client: u32) -> Speech {
        speech((self.setting, client), self.wild)
    }

    fn connect(&mut self, client: u32, how: u8) {
        if self.connected.insert(client) {
            let service = SERVICES[usize::from(how) % SERVICES.len()].to_owned();
            let connect = Action::Connect {
                client,
                service,
                zone: how / 4 % ZONES,
                again: how >= 16,
            };
            self.actions.push(at(self.now, connect));
            let Speech { json, deflate } = self.speech(client);
            if json || deflate {
                let deed = Deed::Speak { json, deflate };
                self.actions
                    .push(at(self.now, Action::Act { client, deed }));
            }
        }
    }

    fn fault(&mut self, what: usize, zone: u8, how: u8) {
        let ways = [Way::Both, Way::Down, Way::Up];
        let starts = [Start::Panics, Start::Returns, Start::Slowly, Start::Ready];
        let slow = u64::from(how);
        let action = match what {
            0 => Action::Hold { zone },
            1 => Action::Release { zone },
            2 => Action::Partition {
                zone,
                way: ways[usize::from(how) % ways.len()],
            },
            3 => Action::Repair { zone },
            4 => Action::Latency {
                zone,
                ms_min: slow,
                ms_max: slow + 50,
            },
            5 => Action::Bandwidth {
                zone,
                bytes_per_second: Some(100 + slow * 100),
            },
            6 if how < 128 => Action::Crash,
            6 => Action::PowerLoss,
            7 => Action::Bounce,
            8 => Action::Exhaust {
                ms: (slow * 10 + 1).min(HEALED_MS - self.now),
            },
            _ if how >= 128 => Action::Wall {
                by_ms: (i64::from(how) - 192) * 60_000,
            },
            _ => Action::Start {
                how: starts[usize::from(how) % starts.len()],
            },
        };
        self.actions.push(at(self.now, action));
    }

    /// Heals what is to be healed; then others come, and all leave.
    fn end(mut self) -> Vec<Timed> {
        for zone in 0..ZONES {
            let Network {
                latency_ms_min: ms_min,
                latency_ms_max: ms_max,
                ..
            } = *self.network;
            let bytes_per_second = self.wild.tcp.bytes_per_second;
            let healing = [
                Action::Release { zone },
                Action::Repair { zone },
                Action::Latency {
                    zone,
                    ms_min,
                    ms_max,
                },
                Action::Bandwidth {
                    zone,
                    bytes_per_second,
                },
            ];
            self.actions
                .extend(healing.map(|action| at(HEALED_MS, action)));
        }
        let how = Start::Ready;
        self.actions.push(at(HEALED_MS, Action::Bounce));
        self.actions.push(at(HEALED_MS, Action::Start { how }));
        for client in self
            .connected
            .iter()
            .copied()
            .filter(|client| client % 3 != 0)
        {
            let deed = Deed::Resume;
            self.actions
                .push(at(HEALED_MS, Action::Act { client, deed }));
        }
        for (client, service) in (PROBES..).zip(SERVICES) {
            self.actions
                .extend(probe(client, service, (HEALED_MS, &LONG)));
        }
        self.actions.push(at(HEALED_MS + LONG.drain, Action::Drain));
        self.actions.sort_by_key(|timed| timed.at_ms);
        self.actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_is_a_plan_that_can_be_saved() {
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37) ^ length).collect();
            let plan = plan(&bytes);
            assert!(plan.actions.is_sorted_by_key(|timed| timed.at_ms));
            let text = serde_json::to_string(&plan).expect("a plan is JSON");
            assert_eq!(serde_json::from_str::<Plan>(&text).ok(), Some(plan));
        }
    }

    #[test]
    fn a_byte_more_is_an_action_more() {
        let count = |bytes: &[u8]| plan(bytes).actions.len();
        assert_eq!(
            count(&[1, 2]) + 2,
            count(&[1, 2, 0, 2, KINDS.len() as u8 - 1, 0])
        );
    }
}
