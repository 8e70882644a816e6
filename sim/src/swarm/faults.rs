//! What a swarm meets until it is healed: faults of the network, of the server and of its machine.

use super::{ZONES, at};
use crate::plan::{Action, Timed, Way};
use crate::rng::Rng;
use crate::script::Start;
use crate::wild::Wild;

/// All faults of a plan; what lasts is over when it is healed.
pub(super) fn faults(rng: &mut Rng, wild: &Wild) -> Vec<Timed> {
    let mut faults = links(rng, wild.healed_ms);
    faults.extend(steps(rng, wild));
    faults.extend(server(rng, wild.healed_ms));
    faults.extend(clock(rng, wild.healed_ms));
    faults
}

fn zone(rng: &mut Rng) -> u8 {
    rng.within(0..=u64::from(ZONES) - 1) as u8
}

/// Holds and partitions.
fn links(rng: &mut Rng, healed: u64) -> Vec<Timed> {
    let mut faults = Vec::new();
    for zone in 0..ZONES {
        if rng.chance(2, 5) {
            let held = rng.within(0..=healed - 1);
            faults.push(at(held, Action::Hold { zone }));
            faults.push(at(rng.within(held..=healed), Action::Release { zone }));
        }
    }
    if rng.chance(1, 3) {
        let zone = zone(rng);
        let way = *rng.pick(&[Way::Both, Way::Both, Way::Down, Way::Up]);
        let cut = rng.within(0..=healed - 1);
        faults.push(at(cut, Action::Partition { zone, way }));
        faults.push(at(rng.within(cut..=healed), Action::Repair { zone }));
    }
    faults
}

/// Steps of the latency and of the bandwidth, and back.
fn steps(rng: &mut Rng, wild: &Wild) -> Vec<Timed> {
    let healed = wild.healed_ms;
    let mut steps = Vec::new();
    if rng.chance(1, 5) {
        let zone = zone(rng);
        let ms_min = rng.within(0..=300);
        let ms_max = ms_min + rng.within(0..=100);
        let slow = Action::Latency {
            zone,
            ms_min,
            ms_max,
        };
        let (ms_min, ms_max) = (0, 20);
        let quick = Action::Latency {
            zone,
            ms_min,
            ms_max,
        };
        steps.push(at(rng.within(0..=healed - 1), slow));
        steps.push(at(healed, quick));
    }
    if rng.chance(1, 5) {
        let zone = zone(rng);
        let bytes_per_second = Some(*rng.pick(&[100, 1_000, 20_000]));
        let slow = Action::Bandwidth {
            zone,
            bytes_per_second,
        };
        let quick = Action::Bandwidth {
            zone,
            bytes_per_second: wild.tcp.bytes_per_second,
        };
        steps.push(at(rng.within(0..=healed - 1), slow));
        steps.push(at(healed, quick));
    }
    steps
}

/// What happens to the server, its machine and its service `script`.
fn server(rng: &mut Rng, healed: u64) -> Vec<Timed> {
    let mut faults = Vec::new();
    if rng.chance(1, 6) {
        let dies = rng.within(0..=healed - 1);
        let death = [Action::Crash, Action::PowerLoss];
        faults.push(at(dies, rng.pick(&death).clone()));
        let back = dies + rng.within(0..=4_000);
        faults.push(at(back.min(healed), Action::Bounce));
    }
    if rng.chance(1, 6) {
        let from = rng.within(0..=healed - 1);
        let ms = rng.within(1..=3_000).min(healed - from);
        faults.push(at(from, Action::Exhaust { ms }));
    }
    if rng.chance(1, 4) {
        let how = *rng.pick(&[Start::Panics, Start::Returns, Start::Slowly, Start::Slowly]);
        let from = *rng.pick(&[0, rng.clone().within(0..=healed - 1)]);
        faults.push(at(from, Action::Start { how }));
        let how = Start::Ready;
        faults.push(at(healed, Action::Start { how }));
    }
    faults
}

/// Hands on the wall clock, also when everything else is healed.
fn clock(rng: &mut Rng, healed: u64) -> Vec<Timed> {
    let count = if rng.chance(1, 4) {
        rng.within(1..=3)
    } else {
        0
    };
    let jump = |rng: &mut Rng| {
        let ms = rng.within(1..=*rng.clone().pick(&[999, 10_000, 7_200_000]));
        let by_ms = i64::try_from(ms).unwrap_or(i64::MAX);
        let by_ms = if rng.chance(1, 2) { by_ms } else { -by_ms };
        at(rng.within(0..=healed * 2), Action::Wall { by_ms })
    };
    (0..count).map(|_| jump(rng)).collect()
}
