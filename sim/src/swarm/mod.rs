//! How a seed becomes a wild plan: each seed draws its own mix of sizes, limits, faults and deeds.

use crate::plan::{Action, Network, Plan, Timed};
use crate::rng::Rng;
use crate::speech::Speech;
use crate::wild::{Inbound, Lengths, Pace, Tcp, Wild};

mod calls;
mod faults;
pub mod guided;
mod journals;
mod life;
mod restarts;
mod rooms;

use self::faults::faults;
use self::life::{Mood, life};

/// The first number of the clients that come when all faults are over.
pub const PROBES: u32 = 10_000;

/// The services that a wild plan has.
pub const SERVICES: [&str; 4] = ["echo", "ping", "timenow", "script"];

const ZONES: u8 = 3;

/// Milliseconds from the end of the faults to what follows.
struct Phases {
    /// New clients come.
    probes: u64,
    /// They send a text.
    talk: u64,
    /// They leave.
    leaving: u64,
    /// The server is drained.
    drain: u64,
    /// From the drain, or from the end of the faults, to the end of the run.
    end: u64,
}

const LONG: Phases = Phases {
    probes: 12_000,
    talk: 22_000,
    leaving: 35_000,
    drain: 40_000,
    end: 50_000,
};

/// For real time.
const BRIEF: Phases = Phases {
    probes: 800,
    talk: 1_500,
    leaving: 4_500,
    drain: 5_000,
    end: 3_000,
};

/// Chaos, then healing, then new clients that must be served, then everybody leaves.
///
/// ```text
///   0 s      5-30 s     +12 s            +35 s      +40 s    +50 s
///   | chaos   | healed  | probes come ... | they go  | drain  | end
/// ```
pub fn swarm(seed: u64) -> Plan {
    let mut rng = Rng::keyed(seed, "swarm", 0);
    let healed = rng.within(5_000..=30_000);
    let mut wild = settings(&mut rng, healed);
    more(&mut Rng::keyed(seed, "more", 0), &mut wild);
    let mut rng_of_message = Rng::keyed(seed, "message", 0);
    wild.message_timeout_ms = *rng_of_message.pick(&[5_000, 20_000, 60_000]);
    let clients = match rng.within(0..=1_999) {
        0 => 2_000,
        1..=19 => 200,
        _ => rng.within(1..=12) as u32,
    };
    assemble(seed, rng, wild, (clients, &LONG))
}

/// As [`swarm`], but over in ten seconds: for networks whose time is real.
///
/// Limits are shorter in proportion; buffers are large, as a real kernel's are.
pub fn brief(seed: u64) -> Plan {
    let mut rng = Rng::keyed(seed, "brief", 0);
    let healed = rng.within(1_000..=2_500);
    let mut wild = settings(&mut rng, healed);
    wild.tcp = Tcp::default();
    wild.keepalive_ms = *rng.pick(&[400, 5_000]);
    wild.accept_timeout_ms = *rng.pick(&[700, 60_000]);
    wild.write_timeout_ms = *rng.pick(&[700, 60_000]);
    wild.close_timeout_ms = 500;
    wild.stop_grace_ms = 500;
    wild.linger_ms = *rng.pick(&[0, 0, 100]);
    wild.handshake_timeout_ms = 700;
    wild.served_ms = 2_500;
    let clients = rng.within(4..=12) as u32;
    assemble(seed, rng, wild, (clients, &BRIEF))
}

fn assemble(seed: u64, mut rng: Rng, wild: Wild, (clients, phases): (u32, &Phases)) -> Plan {
    let healed = wild.healed_ms;
    let latency_ms_min = rng.within(0..=20);
    let relays = rng.chance(1, 12);
    let spread = if relays { 0 } else { rng.within(0..=60) };
    let network = Network {
        zones: ZONES,
        tick_ms: 100,
        latency_ms_min,
        latency_ms_max: latency_ms_min + spread,
        slack_ms: 0,
    };
    // An early drain leaves nobody to probe for.
    let early = rng.chance(1, 6).then(|| rng.within(500..=healed));
    let mut actions = faults(&mut rng, &wild);
    let drain = early.unwrap_or(healed + phases.drain);
    actions.push(at(drain, Action::Drain));
    let mood = Mood::draw(&mut rng, &wild, clients);
    let mood = mood.with_relay(relays.then_some(latency_ms_min));
    for client in 1..=clients {
        let rng = Rng::keyed(seed, "client", u64::from(client));
        let speech = speech((seed, client), &wild);
        actions.extend(life(rng, client, &mood.speaking(speech)));
    }
    if early.is_none() {
        for (client, service) in (PROBES..).zip(SERVICES) {
            actions.extend(probe(client, service, (healed, phases)));
        }
    }
    // Stable, so that what a client does in one millisecond keeps its order.
    actions.sort_by_key(|timed| timed.at_ms);
    let mut plan = Plan {
        seed,
        network,
        actions,
        end_ms: healed.max(drain) + phases.end,
        wild: Some(wild),
    };
    rooms::invite(&mut plan);
    journals::invite(&mut plan);
    restarts::plan(&mut plan);
    calls::invite(&mut plan);
    plan
}

fn at(at_ms: u64, action: Action) -> Timed {
    Timed { at_ms, action }
}

/// Limits and sizes of a wild plan.
pub(crate) fn settings(rng: &mut Rng, healed_ms: u64) -> Wild {
    let buffers = [64, 200, 1_000, 4_096, 65_536];
    let tcp = Tcp {
        send_bytes: *rng.pick(&buffers),
        receive_bytes: *rng.pick(&buffers),
        bytes_per_second: *rng.pick(&[None, None, Some(2_000), Some(50_000)]),
        lengths: *rng.pick(&[Lengths::Full, Lengths::Short, Lengths::Short]),
    };
    // Where buffers are large, what is late is the server's fault.
    let tcp = if rng.chance(1, 4) {
        Tcp::default()
    } else {
        tcp
    };
    let message_bytes = *rng.pick(&[120, 1_000, 5_000, 65_536]);
    Wild {
        tcp,
        window_messages: *rng.pick(&[1, 2, 5, 256]),
        window_bytes: *rng.pick(&[1, 500, 1 << 20]),
        message_bytes,
        outbox_bytes: *rng.pick(&[1, 100, 1_000, 16 * 1024]),
        inbound_batch: *rng.pick(&[1, 2, 128]),
        sessions: *rng.pick(&[6, 1_000, 1_000, 1_000]),
        keepalive_ms: *rng.pick(&[1_000, 5_000, 30_000]),
        pong_timeout_ms: *rng.pick(&[1_000, 5_000, 10_000]),
        message_timeout_ms: 60_000,
        accept_timeout_ms: *rng.pick(&[2_000, 60_000]),
        write_timeout_ms: *rng.pick(&[1_000, 5_000, 60_000]),
        close_timeout_ms: *rng.pick(&[500, 5_000]),
        linger_ms: *rng.pick(&[0, 0, 100, 3_000]),
        stop_grace_ms: *rng.pick(&[500, 5_000]),
        crashes_max: *rng.pick(&[1, 2, 5]),
        closes_slow: rng.chance(1, 3),
        healed_ms,
        handshake_timeout_ms: *rng.pick(&[1_000, 10_000]),
        served_ms: 20_000,
        inbound: None,
        keeps_latest: false,
        drain_per_second: None,
        compress_bytes_min: None,
        rooms: None,
        calls: None,
        journal: None,
    }
}

/// What some plans of the whole server have on top: rates, the newest message only, a paced drain,
/// clients that ask for JSON or for compressed messages.
pub(crate) fn more(rng: &mut Rng, wild: &mut Wild) {
    if rng.chance(1, 5) {
        wild.inbound = Some(inbound(rng));
    }
    wild.keeps_latest = !wild.closes_slow && rng.chance(1, 4);
    if rng.chance(1, 4) {
        wild.drain_per_second = Some(*rng.pick(&[1, 2, 5]));
    }
    if rng.chance(1, 3) {
        wild.compress_bytes_min = Some(*rng.pick(&[1, 60, 512]));
    }
}

fn inbound(rng: &mut Rng) -> Inbound {
    let messages = Pace {
        per_second: rng.within(2..=20),
        burst: rng.within(1..=20),
    };
    let bytes = Pace {
        per_second: *rng.pick(&[300, 5_000]),
        burst: *rng.pick(&[200, 3_000, 70_000]),
    };
    let which = rng.within(0..=3);
    Inbound {
        messages: (which != 0).then_some(messages),
        bytes: (which <= 1).then_some(bytes),
        closes: rng.chance(1, 2),
    }
}

/// What a client of a plan asks for; nothing where nobody is compressed for.
pub(crate) fn speech((seed, client): (u64, u32), wild: &Wild) -> Speech {
    let mut rng = Rng::keyed(seed, "speech", u64::from(client));
    let speaks = wild.compress_bytes_min.is_some();
    Speech {
        json: speaks && rng.chance(1, 2),
        deflate: speaks && rng.chance(1, 2),
    }
}

/// A polite client that comes when the faults are over.
fn probe(client: u32, service: &str, (healed, phases): (u64, &Phases)) -> Vec<Timed> {
    let connect = Action::Connect {
        client,
        service: service.to_owned(),
        zone: (client % u32::from(ZONES)) as u8,
        again: false,
    };
    let text = format!("say client {client} text 0.0");
    vec![
        at(healed + phases.probes, connect),
        at(healed + phases.talk, Action::Text { client, text }),
        at(
            healed + phases.leaving,
            Action::Leave { client, code: 1000 },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        assert_eq!(swarm(1), swarm(1));
        assert_ne!(swarm(1), swarm(2));
    }

    #[test]
    fn a_plan_is_the_same_after_it_was_written() {
        for seed in 0..50 {
            let plan = swarm(seed);
            let text = serde_json::to_string(&plan).expect("a plan is JSON");
            assert_eq!(serde_json::from_str::<Plan>(&text).ok(), Some(plan));
        }
    }
}
