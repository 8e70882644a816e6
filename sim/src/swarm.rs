//! How a seed becomes a wild plan: each seed draws its own mix of sizes, limits and deeds.

use crate::plan::{Action, Network, Plan, Timed};
use crate::rng::Rng;
use crate::wild::{Deed, Lengths, Offence, Tcp, Wild};

/// The first number of the clients that come when all faults are over.
pub const PROBES: u32 = 10_000;

/// The services that a wild plan has.
pub const SERVICES: [&str; 4] = ["echo", "ping", "timenow", "script"];

const ZONES: u8 = 3;

/// Milliseconds from the end of the faults: to new clients, to their leaving, to the drain, and
/// from the drain to the end of the run.
const TO_PROBES: u64 = 12_000;
const TO_LEAVING: u64 = 35_000;
const TO_DRAIN: u64 = 40_000;
const TO_END: u64 = 50_000;

/// Chaos, then healing, then new clients that must be served, then everybody leaves.
///
/// ```text
///   0 s      5-30 s     +12 s            +35 s      +40 s    +50 s
///   | chaos   | healed  | probes come ... | they go  | drain  | end
/// ```
pub fn swarm(seed: u64) -> Plan {
    let mut rng = Rng::keyed(seed, "swarm", 0);
    let healed = rng.within(5_000..=30_000);
    let wild = settings(&mut rng, healed);
    let latency_ms_min = rng.within(0..=20);
    let network = Network {
        zones: ZONES,
        tick_ms: 100,
        latency_ms_min,
        latency_ms_max: latency_ms_min + rng.within(0..=60),
    };
    // An early drain leaves nobody to probe for.
    let early = rng.chance(1, 6).then(|| rng.within(500..=healed));
    let mut actions = faults(&mut rng, healed);
    let drain = early.unwrap_or(healed + TO_DRAIN);
    actions.push(at(drain, Action::Drain));
    let clients = match rng.within(0..=99) {
        0 => 200,
        _ => rng.within(1..=12) as u32,
    };
    let mood = Mood::draw(&mut rng, &wild);
    for client in 1..=clients {
        let rng = Rng::keyed(seed, "client", u64::from(client));
        actions.extend(life(rng, client, &mood));
    }
    if early.is_none() {
        for (client, service) in (PROBES..).zip(SERVICES) {
            actions.extend(probe(client, service, healed));
        }
    }
    // Stable, so that what a client does in one millisecond keeps its order.
    actions.sort_by_key(|timed| timed.at_ms);
    Plan {
        seed,
        network,
        actions,
        end_ms: healed.max(drain) + TO_END,
        wild: Some(wild),
    }
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
    let message_bytes = *rng.pick(&[120, 1_000, 5_000, 65_536]);
    Wild {
        tcp,
        window_messages: *rng.pick(&[1, 2, 5, 256]),
        window_bytes: *rng.pick(&[1, 500, 1 << 20]),
        message_bytes,
        outbox_bytes: *rng.pick(&[1, 100, 1_000, 16 * 1024]),
        inbound_batch: *rng.pick(&[1, 2, 64]),
        sessions: *rng.pick(&[6, 1_000, 1_000, 1_000]),
        keepalive_ms: *rng.pick(&[1_000, 5_000, 30_000]),
        missed_max: *rng.pick(&[1, 2, 3]),
        accept_timeout_ms: *rng.pick(&[2_000, 60_000]),
        write_timeout_ms: *rng.pick(&[1_000, 5_000, 60_000]),
        close_timeout_ms: *rng.pick(&[500, 5_000]),
        linger_ms: *rng.pick(&[0, 0, 100, 3_000]),
        stop_grace_ms: *rng.pick(&[500, 5_000]),
        crashes_max: *rng.pick(&[1, 2, 5]),
        closes_slow: rng.chance(1, 3),
        healed_ms,
    }
}

fn faults(rng: &mut Rng, healed: u64) -> Vec<Timed> {
    let mut faults = Vec::new();
    for zone in 0..ZONES {
        if rng.chance(1, 2) {
            let held = rng.within(0..=healed - 1);
            faults.push(at(held, Action::Hold { zone }));
            faults.push(at(rng.within(held..=healed), Action::Release { zone }));
        }
    }
    if rng.chance(1, 4) {
        let zone = rng.within(0..=u64::from(ZONES) - 1) as u8;
        let cut = rng.within(0..=healed - 1);
        faults.push(at(cut, Action::Partition { zone }));
        faults.push(at(rng.within(cut..=healed), Action::Repair { zone }));
    }
    faults
}

/// What the clients of a seed like to do.
struct Mood {
    healed: u64,
    kinds: Vec<Kind>,
    services: Vec<&'static str>,
    message_bytes: u64,
    deeds_max: u64,
    /// The time in which all clients come, in milliseconds.
    come_within: u64,
    /// Whether all come to a service that is slow to stop, and leave it soon.
    churns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Binary,
    Burst,
    Fragments,
    HalfClose,
    Leave,
    Offend,
    Order,
    Partial,
    Ping,
    Reset,
    Stop,
    Text,
    Trickle,
    Vanish,
}

const KINDS: [Kind; 14] = [
    Kind::Binary,
    Kind::Burst,
    Kind::Fragments,
    Kind::HalfClose,
    Kind::Leave,
    Kind::Offend,
    Kind::Order,
    Kind::Partial,
    Kind::Ping,
    Kind::Reset,
    Kind::Stop,
    Kind::Text,
    Kind::Trickle,
    Kind::Vanish,
];

impl Mood {
    fn draw(rng: &mut Rng, wild: &Wild) -> Self {
        let part = rng.within(2..=5);
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| rng.chance(part, 6)).collect();
        // Those that end nothing are more often than those that do.
        let gentle = [Kind::Text, Kind::Burst, Kind::Stop, Kind::Order];
        for kind in gentle {
            if kinds.contains(&kind) {
                kinds.extend([kind; 4]);
            }
        }
        kinds.push(Kind::Text);
        let mut services = SERVICES.to_vec();
        services.retain(|_| rng.chance(2, 3));
        services.push(*rng.pick(&SERVICES));
        Self {
            healed: wild.healed_ms,
            kinds,
            services,
            message_bytes: wild.message_bytes as u64,
            deeds_max: rng.within(1..=40),
            churns: rng.chance(1, 6),
            come_within: *rng.pick(&[1, 1_000, wild.healed_ms]),
        }
    }
}

/// Comes, makes its service slow to stop, and leaves: others come while that stops.
fn visit(mut rng: Rng, client: u32, healed: u64) -> Vec<Timed> {
    let comes = rng.within(0..=healed - 1);
    let connect = Action::Connect {
        client,
        service: "script".to_owned(),
        zone: rng.within(0..=u64::from(ZONES) - 1) as u8,
    };
    let text = format!("slow client {client} text 0.0");
    let leaves = comes + rng.within(300..=2_000);
    vec![
        at(comes, connect),
        at(leaves - 100, Action::Text { client, text }),
        at(leaves, Action::Leave { client, code: 1000 }),
    ]
}

fn life(mut rng: Rng, client: u32, mood: &Mood) -> Vec<Timed> {
    if mood.churns {
        return visit(rng, client, mood.healed);
    }
    let service = (*rng.pick(&mood.services)).to_owned();
    let joins = rng.within(0..=mood.come_within - 1);
    let zone = rng.within(0..=u64::from(ZONES) - 1) as u8;
    let connect = Action::Connect {
        client,
        service,
        zone,
    };
    let mut actions = vec![at(joins, connect)];
    if rng.chance(1, 20) {
        let offence = Offence::BadHandshake;
        actions.push(at(joins, act(client, Deed::Offend { offence })));
    }
    let mut times: Vec<u64> = (0..rng.within(0..=mood.deeds_max))
        .map(|_| rng.within(joins..=mood.healed - 1))
        .collect();
    times.sort_unstable();
    for (number, time) in times.into_iter().enumerate() {
        let deeds = deeds(&mut rng, client, number, mood);
        actions.extend(deeds.into_iter().map(|action| at(time, action)));
    }
    // A client with a deed is a raw one.
    if rng.chance(2, 3) {
        actions.push(at(mood.healed, act(client, Deed::Resume)));
    }
    actions
}

fn act(client: u32, deed: Deed) -> Action {
    Action::Act { client, deed }
}

fn deeds(rng: &mut Rng, client: u32, number: usize, mood: &Mood) -> Vec<Action> {
    let text = |rng: &mut Rng, word: &str, part: usize| {
        let mut text = format!("{word} client {client} text {number}.{part} ");
        let most = (mood.message_bytes as usize).saturating_sub(text.len());
        let filler = *rng.pick(&[0, 0, 3, 60, 800, 3_000]);
        text.extend(std::iter::repeat_n('x', filler.min(most)));
        text
    };
    match *rng.pick(&mood.kinds) {
        Kind::Binary => {
            let bytes = rng.within(0..=mood.message_bytes.min(4_000)) as usize;
            vec![act(client, Deed::Binary { bytes })]
        }
        Kind::Burst => (0..rng.within(2..=30) as usize)
            .map(|part| Action::Text {
                client,
                text: text(rng, "say", part),
            })
            .collect(),
        Kind::Fragments => {
            let text = text(rng, "say", 0);
            let bytes = *rng.pick(&[1, 7, 100, 1_000]);
            let bytes = bytes.max(text.len() / 20);
            vec![act(client, Deed::Fragments { text, bytes })]
        }
        Kind::HalfClose => vec![act(client, Deed::HalfClose)],
        Kind::Leave => {
            let code = *rng.pick(&[1000, 1001, 1002, 1011, 3000, 4999]);
            vec![Action::Leave { client, code }]
        }
        Kind::Offend => {
            let offence = *rng.pick(&[
                Offence::BadCloseCode,
                Offence::BadUtf8,
                Offence::FragmentedPing,
                Offence::LoneContinuation,
                Offence::LongPing,
                Offence::ReservedOpcode,
                Offence::TooLong,
                Offence::Unmasked,
            ]);
            vec![act(client, Deed::Offend { offence })]
        }
        Kind::Order => {
            let word = *rng.pick(&["doze", "error", "panic", "slow"]);
            let text = text(rng, word, 0);
            vec![Action::Text { client, text }]
        }
        Kind::Partial => vec![act(client, Deed::Partial)],
        Kind::Ping => vec![act(client, Deed::Ping)],
        Kind::Reset => vec![act(client, Deed::Reset)],
        Kind::Stop => {
            let deed = *rng.pick(&[0, 0, 1]);
            vec![act(client, [Deed::Stop, Deed::Resume][deed].clone())]
        }
        Kind::Text => vec![Action::Text {
            client,
            text: text(rng, "say", 0),
        }],
        Kind::Trickle => {
            let text = text(rng, "say", 0);
            vec![act(client, Deed::Trickle { text })]
        }
        Kind::Vanish => vec![act(client, Deed::Vanish)],
    }
}

/// A polite client that comes when the faults are over.
fn probe(client: u32, service: &str, healed: u64) -> Vec<Timed> {
    let comes = healed + TO_PROBES;
    let connect = Action::Connect {
        client,
        service: service.to_owned(),
        zone: (client % u32::from(ZONES)) as u8,
    };
    let text = format!("say client {client} text 0.0");
    vec![
        at(comes, connect),
        at(comes + 10_000, Action::Text { client, text }),
        at(healed + TO_LEAVING, Action::Leave { client, code: 1000 }),
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
