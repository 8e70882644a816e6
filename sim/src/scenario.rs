//! How a seed becomes a plan.

use crate::plan::{Action, Network, Plan, Timed, Way};
use crate::rng::Rng;

const CLIENTS: u32 = 50;
const ZONES: u8 = 3;

/// The zone whose link is held for a while.
const HELD: u8 = 1;
/// The zone that is partitioned.
const CUT: u8 = 2;

/// Ends of the phases, in milliseconds.
const JOINED: u64 = 60_000;
const HEALED: u64 = 150_000;
const LEFT: u64 = 165_000;

/// A crowd that gathers at `ping`, `timenow` and `echo`, meets a hold and a partition, and leaves;
/// then the server is drained.
///
/// ```text
///   0 s        60 s           130 s  150 s   165 s   170-200 s
///   | join, talk, some leave ...      | leave | idle  | drain
///                | hold of a zone
///                   | partition of another ...
///                              | some join late
/// ```
pub fn gathering(seed: u64) -> Plan {
    let mut rng = Rng::keyed(seed, "gathering", 0);
    let network = network(&mut rng);
    let drain = rng.within(170_000..=200_000);
    let stay = rng.chance(1, 2);
    // Mostly some; in every third run nearly all, so that services stop and start again.
    let early = *rng.pick(&[3, 3, 9]);
    let mut actions = faults(&mut rng);
    actions.push(at(drain, Action::Drain));
    for client in 1..=CLIENTS {
        let rng = Rng::keyed(seed, "life", u64::from(client));
        let stays = stay && client % 16 == 0;
        actions.extend(life(rng, client, Temper { early, stays }));
    }
    // Stable, so that what a client does in one millisecond keeps its order.
    actions.sort_by_key(|timed| timed.at_ms);
    Plan {
        seed,
        network,
        actions,
        end_ms: drain + 20_000,
        wild: None,
    }
}

/// Many clients without a fault, to see how fast it is: they come within 5 s, stay for a minute,
/// and are half of them told the time, while the others say something every few seconds.
pub fn crowd(seed: u64, clients: u32) -> Plan {
    let mut rng = Rng::keyed(seed, "crowd", 0);
    let latency_ms_min = rng.within(1..=20);
    let network = Network {
        zones: ZONES,
        tick_ms: 1,
        latency_ms_min,
        latency_ms_max: latency_ms_min + rng.within(0..=40),
        slack_ms: 0,
    };
    let mut actions: Vec<Timed> = Vec::new();
    for client in 1..=clients {
        actions.extend(regular(
            Rng::keyed(seed, "regular", u64::from(client)),
            client,
        ));
    }
    actions.push(at(CROWD_LEAVES + 5_000, Action::Drain));
    actions.sort_by_key(|timed| timed.at_ms);
    Plan {
        seed,
        network,
        actions,
        end_ms: CROWD_LEAVES + 15_000,
        wild: None,
    }
}

/// When a crowd leaves, in milliseconds.
const CROWD_LEAVES: u64 = 65_000;

/// What one client of a crowd does.
fn regular(mut rng: Rng, client: u32) -> Vec<Timed> {
    let service = ["timenow", "echo"][client as usize % 2];
    let joins = rng.within(0..=5_000);
    let connect = Action::Connect {
        client,
        service: service.to_owned(),
        zone: (client % u32::from(ZONES)) as u8,
        again: false,
    };
    let mut actions = vec![at(joins, connect)];
    let texts = if service == "echo" { 10 } else { 0 };
    for number in 0..texts {
        let text = format!("client {client} text {number}");
        let time = 6_000 + number * 5_500 + rng.within(0..=5_000);
        actions.push(at(time, Action::Text { client, text }));
    }
    let leaves = CROWD_LEAVES - rng.within(0..=2_000);
    actions.push(at(leaves, Action::Leave { client, code: 1000 }));
    actions
}

fn at(at_ms: u64, action: Action) -> Timed {
    Timed { at_ms, action }
}

fn network(rng: &mut Rng) -> Network {
    let tick_ms = *rng.pick(&[1, 5, 10, 10]);
    let latency_ms_min = tick_ms + rng.within(0..=5);
    Network {
        zones: ZONES,
        tick_ms,
        latency_ms_min,
        latency_ms_max: latency_ms_min + rng.within(0..=40),
        slack_ms: 0,
    }
}

fn faults(rng: &mut Rng) -> Vec<Timed> {
    let held = rng.within(JOINED..=90_000);
    let released = held + rng.within(2_000..=20_000);
    let cut = rng.within(80_000..=120_000);
    let repaired = cut + rng.within(5_000..=60_000);
    vec![
        at(held, Action::Hold { zone: HELD }),
        at(released, Action::Release { zone: HELD }),
        at(
            cut,
            Action::Partition {
                zone: CUT,
                way: Way::Both,
            },
        ),
        at(repaired, Action::Repair { zone: CUT }),
    ]
}

/// How long a client likes to stay.
struct Temper {
    /// Chance, of 10, that it leaves within a minute.
    early: u64,
    /// Whether it waits to be sent away.
    stays: bool,
}

/// What one client does; its draws are its own.
fn life(mut rng: Rng, client: u32, temper: Temper) -> Vec<Timed> {
    let service = match rng.within(0..=99) {
        0..=47 => "ping",
        48..=91 => "timenow",
        _ => "echo",
    };
    let zone = rng.within(0..=u64::from(ZONES - 1)) as u8;
    let joins = if rng.chance(1, 8) {
        rng.within(130_000..=140_000)
    } else {
        rng.within(0..=JOINED)
    };
    let leaves = if rng.chance(temper.early, 10) {
        (joins + rng.within(500..=60_000)).min(LEFT)
    } else {
        rng.within(HEALED..=LEFT)
    };
    let connect = Action::Connect {
        client,
        service: service.to_owned(),
        zone,
        again: false,
    };
    let mut actions = vec![at(joins, connect)];
    actions.extend(texts(&mut rng, client, (joins, leaves)));
    if rng.chance(1, 6) {
        actions.push(at(leaves, Action::Abort { client }));
    } else if !temper.stays {
        let code = *rng.pick(&[1000, 1000, 1001, 3000, 4999]);
        actions.push(at(leaves, Action::Leave { client, code }));
    }
    actions
}

/// Texts between `joins` and `leaves`, some of them in bursts; each text is sent once in a run.
fn texts(rng: &mut Rng, client: u32, (joins, leaves): (u64, u64)) -> Vec<Timed> {
    let mut texts = Vec::new();
    for _ in 0..rng.within(0..=14) {
        let time = rng.within(joins..=leaves);
        let burst = if rng.chance(1, 8) { 6 } else { 1 };
        texts.extend((0..burst).map(|_| time));
    }
    texts.sort_unstable();
    let mut timed = Vec::new();
    for (number, time) in texts.into_iter().enumerate() {
        let filler = "x".repeat(*rng.pick(&[0, 0, 3, 120, 130, 3_000]));
        let text = format!("client {client} text {number} {filler}");
        timed.push(at(time, Action::Text { client, text }));
    }
    timed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        assert_eq!(gathering(1), gathering(1));
        assert_ne!(gathering(1), gathering(2));
    }

    #[test]
    fn a_crowd_is_sorted_and_of_the_size_asked_for() {
        let plan = crowd(1, 30);
        assert!(plan.actions.is_sorted_by_key(|timed| timed.at_ms));
        assert_eq!(plan.scripts().len(), 30);
    }

    #[test]
    fn actions_are_in_the_order_of_time_and_before_the_end() {
        for seed in 0..50 {
            let plan = gathering(seed);
            assert!(plan.actions.is_sorted_by_key(|timed| timed.at_ms));
            let last = plan.actions.last().expect("a drain at least");
            assert!(last.at_ms < plan.end_ms, "seed {seed}");
        }
    }
}
