//! What the clients of a swarm do: each draws its own life.

use super::{SERVICES, ZONES, at};
use crate::plan::{Action, Timed};
use crate::rng::Rng;
use crate::speech::Speech;
use crate::wild::{Deed, Head, Offence, Wild};

/// What is around a text in JSON.
const ENVELOPE_BYTES: u64 = 11;

/// What the clients of a seed like to do.
#[derive(Clone)]
pub(super) struct Mood {
    healed: u64,
    kinds: Vec<Kind>,
    services: Vec<&'static str>,
    message_bytes: u64,
    deeds_max: u64,
    /// The time in which all clients come, in milliseconds.
    come_within: u64,
    /// Whether all come to a service that is slow to stop, and leave it soon.
    churns: bool,
    /// The latency of all links, if each client takes over from the one before at the same instant.
    relay: Option<u64>,
    /// Of how many clients one does anything: a crowd must not be dear.
    quiet: u64,
    /// Of 4, how many try again when they are not let in.
    stubborn: u64,
    speech: Speech,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Binary,
    Burst,
    Edge,
    Flood,
    Fragments,
    HalfClose,
    Leave,
    Offend,
    Order,
    Partial,
    Ping,
    Reset,
    Sip,
    Stop,
    Text,
    Trickle,
    Vanish,
}

pub(super) const KINDS: [Kind; 17] = [
    Kind::Binary,
    Kind::Burst,
    Kind::Edge,
    Kind::Flood,
    Kind::Fragments,
    Kind::HalfClose,
    Kind::Leave,
    Kind::Offend,
    Kind::Order,
    Kind::Partial,
    Kind::Ping,
    Kind::Reset,
    Kind::Sip,
    Kind::Stop,
    Kind::Text,
    Kind::Trickle,
    Kind::Vanish,
];

impl Mood {
    pub(super) fn draw(rng: &mut Rng, wild: &Wild, clients: u32) -> Self {
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
            relay: None,
            come_within: *rng.pick(&[1, 1_000, wild.healed_ms]),
            quiet: if clients > 500 { 50 } else { 1 },
            stubborn: rng.within(0..=2),
            speech: Speech::default(),
        }
    }
}

impl Mood {
    /// To do this and nothing else.
    pub(super) fn of(kind: Kind, wild: &Wild) -> Self {
        Self {
            healed: wild.healed_ms,
            kinds: vec![kind],
            services: Vec::new(),
            message_bytes: wild.message_bytes as u64,
            deeds_max: 1,
            come_within: 1,
            churns: false,
            relay: None,
            quiet: 1,
            stubborn: 0,
            speech: Speech::default(),
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
        again: false,
    };
    let text = format!("slow client {client} text 0.0");
    let leaves = comes + rng.within(300..=2_000);
    vec![
        at(comes, connect),
        at(leaves - 100, Action::Text { client, text }),
        at(leaves, Action::Leave { client, code: 1000 }),
    ]
}

impl Mood {
    /// Of a client that asks for this.
    pub(super) fn speaking(&self, speech: Speech) -> Self {
        // What is in an envelope is longer.
        let envelope = if speech.json { ENVELOPE_BYTES } else { 0 };
        Self {
            speech,
            message_bytes: self.message_bytes - envelope,
            ..self.clone()
        }
    }

    /// With clients that come as the one before leaves, over links of this latency.
    pub(super) fn with_relay(self, latency_ms: Option<u64>) -> Self {
        let relay = latency_ms;
        Self { relay, ..self }
    }
}

/// Comes so that its request arrives as the close frame of the client before does.
fn take_over(client: u32, mood: &Mood, latency_ms: u64) -> Vec<Timed> {
    const STAY_MS: u64 = 400;
    let starts = 100 + u64::from(client) * STAY_MS;
    let connect = Action::Connect {
        client,
        service: mood.services[0].to_owned(),
        zone: 0,
        again: false,
    };
    let code = 1000;
    vec![
        // There and back for the connection, and then the request.
        at(starts - 2 * latency_ms, connect),
        at(starts + STAY_MS, Action::Leave { client, code }),
    ]
}

pub(super) fn life(mut rng: Rng, client: u32, mood: &Mood) -> Vec<Timed> {
    if let Some(latency_ms) = mood.relay {
        return take_over(client, mood, latency_ms);
    }
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
        again: rng.chance(mood.stubborn, 4),
    };
    let mut actions = vec![at(joins, connect)];
    let Speech { json, deflate } = mood.speech;
    if json || deflate {
        actions.push(at(joins, act(client, Deed::Speak { json, deflate })));
    }
    if !rng.chance(1, mood.quiet) {
        return actions;
    }
    if rng.chance(1, 12) {
        let offence = Offence::BadHandshake;
        let deed = match *rng.pick(&[
            None,
            Some(Head::Garbage),
            Some(Head::Half),
            Some(Head::Slow),
        ]) {
            None => Deed::Offend { offence },
            Some(head) => Deed::Opening { head },
        };
        actions.push(at(joins, act(client, deed)));
    }
    let mut times: Vec<u64> = (0..rng.within(0..=mood.deeds_max))
        .map(|_| rng.within(joins..=mood.healed - 1))
        .collect();
    times.sort_unstable();
    for (number, time) in times.into_iter().enumerate() {
        let deeds = deeds(&mut rng, client, number, mood);
        actions.extend(deeds.into_iter().map(|action| at(time, action)));
    }
    // A client with a deed is a raw one; it is there at least for that.
    if rng.chance(2, 3) {
        actions.push(at(mood.healed, act(client, Deed::Resume)));
    }
    actions
}

fn act(client: u32, deed: Deed) -> Action {
    Action::Act { client, deed }
}

pub(super) fn deeds(rng: &mut Rng, client: u32, number: usize, mood: &Mood) -> Vec<Action> {
    let text = |rng: &mut Rng, word: &str, part: usize| {
        let mut text = format!("{word} client {client} text {number}.{part} ");
        let most = (mood.message_bytes as usize).saturating_sub(text.len());
        let filler = *rng.pick(&[0, 0, 3, 60, 800, 3_000]);
        text.push_str(&"x".repeat(filler.min(most)));
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
        Kind::Edge => {
            let over = rng.within(0..=1);
            let bytes = (mood.message_bytes + over) as usize;
            vec![act(client, Deed::Binary { bytes })]
        }
        Kind::Flood => {
            let pings = rng.within(2..=200) as u32;
            vec![act(client, Deed::Flood { pings })]
        }
        Kind::Fragments => {
            let text = text(rng, "say", 0);
            let bytes = *rng.pick(&[1, 7, 100, 1_000]);
            let bytes = bytes.max(text.len() / 20);
            vec![act(client, Deed::Fragments { text, bytes })]
        }
        Kind::HalfClose => vec![act(client, Deed::HalfClose)],
        Kind::Leave => {
            let any = rng.within(0..=0xffff) as u16;
            let code = *rng.pick(&[1000, 1001, 1002, 1011, 3000, 4999, any]);
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
        Kind::Sip => {
            let bytes_per_second = *rng.pick(&[1, 20, 300, 5_000]);
            vec![act(client, Deed::Sip { bytes_per_second })]
        }
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
