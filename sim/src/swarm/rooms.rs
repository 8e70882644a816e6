//! How a seed adds clients of rooms to a wild plan.
//!
//! The draws are of a stream of their own, and what else the plan has stays as it is.

use super::{ZONES, at};
use crate::plan::{Action, Plan, Timed};
use crate::rng::Rng;
use crate::rooms::{FIRST, HALL, KEYS, KINDS, RELAY, Rooms};
use crate::wild::{Deed, Wild};

/// Of so many plans one has rooms.
const PLANS: u64 = 3;

/// Adds rooms to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "rooms", 0);
    let Some(wild) = plan.wild.as_mut().filter(|_| rng.chance(1, PLANS)) else {
        return;
    };
    let bounds = bounds(&mut rng);
    wild.rooms = Some(bounds);
    let guests = Guests::new(&mut rng, wild);
    let count = rng.within(2..=14) as u32;
    for client in FIRST..FIRST + count {
        let rng = Rng::keyed(plan.seed, "guest", u64::from(client));
        plan.actions.extend(guests.life(rng, client));
    }
    // Stable, so that what a client does in one millisecond keeps its order.
    plan.actions.sort_by_key(|timed| timed.at_ms);
}

fn bounds(rng: &mut Rng) -> Rooms {
    let bound = |rng: &mut Rng| *rng.pick(&[1, 2, 1_000, 1_000, 1_000, 1_000]);
    Rooms {
        most: bound(rng),
        per_address: bound(rng),
        per_subject: 1_000,
        clients: bound(rng),
        echo: rng.chance(1, 2),
    }
}

/// The first words of texts to a room.
const WORDS: [&str; 14] = [
    "ask", "ask", "both", "both", "but", "but", "doze", "error", "panic", "say", "say", "say",
    "shut", "slow",
];

/// What the clients of rooms of a plan like to do.
struct Guests {
    healed: u64,
    rooms: Vec<String>,
    words: Vec<&'static str>,
    /// The moments at which clients come and leave, if they do so together.
    moments: Vec<u64>,
}

impl Guests {
    fn new(rng: &mut Rng, wild: &Wild) -> Self {
        let kinds: &[&str] = match rng.within(0..=3) {
            0 => &[RELAY],
            1 => &KINDS,
            _ => &[HALL],
        };
        let keys = *rng.pick(&[1, 1, 2, KEYS.len()]);
        let rooms = kinds.iter().flat_map(|kind| {
            let keys = KEYS.iter().take(keys);
            keys.map(move |key| format!("{kind}/{key}"))
        });
        let rooms = rooms.collect();
        let part = rng.within(2..=6);
        let words = WORDS
            .into_iter()
            .filter(|word| rng.chance(part, 6) || *word == "say");
        let words = words.collect();
        let count = *rng.pick(&[0, 0, 2, 4]);
        let moments = (0..count).map(|_| rng.within(0..=wild.healed_ms - 1));
        Self {
            healed: wild.healed_ms,
            rooms,
            words,
            moments: moments.collect(),
        }
    }

    fn moment(&self, rng: &mut Rng, from: u64) -> u64 {
        let later = self.moments.iter().filter(|moment| **moment >= from);
        let later: Vec<u64> = later.copied().collect();
        if later.is_empty() || rng.chance(1, 4) {
            return rng.within(from..=self.healed.max(from));
        }
        *rng.pick(&later)
    }

    fn life(&self, mut rng: Rng, client: u32) -> Vec<Timed> {
        let joins = self.moment(&mut rng, 0);
        let connect = Action::Connect {
            client,
            service: rng.pick(&self.rooms).clone(),
            zone: rng.within(0..=u64::from(ZONES) - 1) as u8,
            again: false,
        };
        let mut actions = vec![at(joins, connect)];
        let leaves = self.moment(&mut rng, joins);
        for number in 0..rng.within(0..=8) {
            let word = *rng.pick(&self.words);
            let text = format!("{word} client {client} text {number}");
            let time = rng.within(joins..=leaves);
            actions.push(at(time, Action::Text { client, text }));
        }
        if rng.chance(1, 4) {
            let time = rng.within(joins..=leaves);
            let deed = Deed::Stop;
            actions.push(at(time, Action::Act { client, deed }));
            let time = rng.within(time..=leaves);
            let deed = Deed::Resume;
            actions.push(at(time, Action::Act { client, deed }));
        }
        if rng.chance(4, 5) {
            actions.push(at(leaves, end(&mut rng, client)));
        }
        actions
    }
}

/// How a client of a room leaves it.
fn end(rng: &mut Rng, client: u32) -> Action {
    let deed = match rng.within(0..=9) {
        0 => Deed::Reset,
        1 => Deed::Vanish,
        2 => Deed::HalfClose,
        3 => return Action::Abort { client },
        _ => return Action::Leave { client, code: 1000 },
    };
    Action::Act { client, deed }
}
