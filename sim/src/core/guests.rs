//! How a seed adds clients of rooms to a plan of the core.
//!
//! The draws are of a stream of their own, and what else the plan has stays as it is: the steps of
//! clients of rooms are put between the others.

use super::plan::{Plan, Step};
use crate::rng::Rng;
use crate::rooms::{FIRST, HALL, KEYS, KINDS, RELAY, Rooms};

/// Of so many plans that may have rooms one has some.
const PLANS: u64 = 2;

/// Adds rooms to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "core rooms", 0);
    if !rng.chance(1, PLANS) {
        return;
    }
    plan.wild.rooms = Some(bounds(&mut rng));
    let mut guests = Guests::new(rng, plan.wild.linger_ms);
    for _ in 0..guests.rng.within(5..=60) {
        guests.step();
    }
    guests.end();
    let Guests { mut rng, steps, .. } = guests;
    let last = plan.steps.len() as u64;
    let mut places: Vec<u64> = steps.iter().map(|_| rng.within(0..=last)).collect();
    places.sort_unstable();
    // From the end, so that the places before it stay.
    for (place, steps) in places.into_iter().zip(steps).rev() {
        let place = usize::try_from(place).unwrap_or(0);
        plan.steps.splice(place..place, steps);
    }
}

fn bounds(rng: &mut Rng) -> Rooms {
    let bound = |rng: &mut Rng| *rng.pick(&[1, 2, 3, 1_000, 1_000, 1_000, 1_000, 1_000]);
    Rooms {
        most: bound(rng),
        per_address: bound(rng),
        per_subject: bound(rng),
        clients: bound(rng),
        echo: rng.chance(1, 2),
    }
}

/// Deeds of a client of a room, each as often as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// The room is left by all, and others come at once, or later.
    Change,
    Drop,
    Enter,
    Evict,
    HalfClose,
    Leave,
    Order,
    Reset,
    Resume,
    Stop,
    Talk,
    Wait,
}

const DEEDS: [Deed; 30] = {
    use Deed::{
        Change, Drop, Enter, Evict, HalfClose, Leave, Order, Reset, Resume, Stop, Talk, Wait,
    };
    [
        Change, Change, Drop, Enter, Enter, Enter, Enter, Enter, Enter, Enter, Enter, Evict,
        HalfClose, Leave, Leave, Leave, Order, Order, Order, Reset, Resume, Stop, Talk, Talk, Talk,
        Talk, Talk, Talk, Wait, Wait,
    ]
};

/// The first words of texts that a hall answers.
const SAYS: [&str; 6] = ["ask", "both", "but", "but", "say", "say"];

/// The first words of texts that end something in a hall, or hold it up.
const ORDERS: [&str; 5] = ["doze", "error", "panic", "shut", "slow"];

/// Clients of rooms while they are drawn; each item of `steps` stays together.
struct Guests {
    rng: Rng,
    linger_ms: u64,
    rooms: Vec<String>,
    deeds: Vec<Deed>,
    /// The room of each client that has come.
    clients: Vec<String>,
    stopped: Vec<u32>,
    texts: u32,
    steps: Vec<Vec<Step>>,
}

impl Guests {
    fn new(mut rng: Rng, linger_ms: u64) -> Self {
        let kinds: &[&str] = match rng.within(0..=3) {
            0 => &[RELAY],
            1 => &KINDS,
            _ => &[HALL],
        };
        let keys = rng.within(1..=KEYS.len() as u64) as usize;
        let keys = if rng.chance(1, 2) { 1 } else { keys };
        let rooms = kinds.iter().flat_map(|kind| {
            let keys = KEYS.iter().take(keys);
            keys.map(move |key| format!("{kind}/{key}"))
        });
        let rooms = rooms.collect();
        let part = rng.within(2..=6);
        let deeds = DEEDS.into_iter().filter(|deed| {
            let always = [Deed::Enter, Deed::Talk, Deed::Wait];
            rng.chance(part, 6) || always.contains(deed)
        });
        let deeds = deeds.collect();
        Self {
            rng,
            linger_ms,
            rooms,
            deeds,
            clients: Vec::new(),
            stopped: Vec::new(),
            texts: 0,
            steps: Vec::new(),
        }
    }

    fn step(&mut self) {
        let deed = *self.rng.pick(&self.deeds);
        let client = self.someone();
        let mut steps = match deed {
            Deed::Change => self.change(),
            Deed::Drop => vec![Step::Drop { client }],
            Deed::Enter => {
                let room = self.room();
                vec![self.enter(room)]
            }
            Deed::Evict => {
                let room = self.room();
                vec![Step::Evict { room }]
            }
            Deed::HalfClose => vec![Step::HalfClose { client }],
            Deed::Leave => vec![Step::Leave { client, code: 1000 }],
            Deed::Order => self.order(client),
            Deed::Reset => vec![Step::Reset { client }],
            Deed::Resume => vec![Step::Resume { client }],
            Deed::Stop => {
                self.stopped.push(client);
                vec![Step::Sip { client, bytes: 0 }]
            }
            Deed::Talk => {
                let count = self.rng.within(1..=3);
                (0..count).map(|_| self.text(client, &SAYS)).collect()
            }
            Deed::Wait => vec![self.wait()],
        };
        if self.rng.chance(1, 4) {
            let polls = self.rng.within(1..=6) as u32;
            steps.push(Step::Run { polls });
        }
        if self.rng.chance(1, 5) {
            steps.push(Step::Settle);
        }
        self.steps.push(steps);
    }

    /// All leave a room, and another client comes: while the room stops, in its linger, at the
    /// instant at which the linger ends, or afterwards.
    fn change(&mut self) -> Vec<Step> {
        let room = self.room();
        let mut steps = Vec::new();
        if self.rng.chance(1, 3) {
            let client = self.someone();
            steps.push(self.text(client, &["slow", "doze", "say"]));
        }
        for (client, of) in (FIRST..).zip(&self.clients) {
            if *of == room {
                steps.push(Step::Leave { client, code: 1000 });
            }
        }
        if self.rng.chance(1, 2) {
            steps.push(Step::Settle);
        } else {
            let polls = self.rng.within(1..=9) as u32;
            steps.push(Step::Run { polls });
        }
        if self.rng.chance(2, 3) {
            let ms = self.linger_ms;
            let ms = *self.rng.pick(&[ms, ms, ms / 2, ms + 1]);
            steps.push(Step::Advance { ms });
        }
        for _ in 0..self.rng.within(1..=2) {
            steps.push(self.enter(room.clone()));
        }
        steps
    }

    /// A client gives an order; others talk, come or leave while it is carried out.
    fn order(&mut self, client: u32) -> Vec<Step> {
        let mut steps = vec![self.text(client, &ORDERS)];
        for _ in 0..self.rng.within(0..=3) {
            let client = self.someone();
            let step = match self.rng.within(0..=3) {
                0 => Step::Leave { client, code: 1000 },
                1 => {
                    let room = self.room();
                    self.enter(room)
                }
                _ => self.text(client, &SAYS),
            };
            steps.push(step);
        }
        steps
    }

    fn wait(&mut self) -> Step {
        let most = *self.rng.pick(&[50, 1_000, 3_000, 10_000]);
        let ms = self.rng.within(1..=most);
        Step::Advance { ms }
    }

    fn room(&mut self) -> String {
        if self.rng.chance(1, 60) {
            // No keys: none at all, and a character that no key has.
            return (*self.rng.pick(&["hall/", "relay/%80"])).to_owned();
        }
        self.rng.pick(&self.rooms).clone()
    }

    fn enter(&mut self, room: String) -> Step {
        self.clients.push(room.clone());
        let client = FIRST + self.clients.len() as u32 - 1;
        let address = self.rng.within(1..=2) as u8;
        let subject = self.rng.within(0..=2) as u8;
        Step::Enter {
            client,
            room,
            address,
            subject,
        }
    }

    /// One of the last clients that came.
    fn someone(&mut self) -> u32 {
        let came = self.clients.len() as u64;
        let back = self.rng.within(0..=5).min(came.saturating_sub(1));
        FIRST + (came.saturating_sub(1) - back) as u32
    }

    fn text(&mut self, client: u32, words: &[&str]) -> Step {
        self.texts += 1;
        let word = *self.rng.pick(words);
        let text = format!("{word} client {client} text {}", self.texts);
        Step::Text { client, text }
    }

    /// All read again, in some plans.
    fn end(&mut self) {
        if self.rng.chance(1, 2) {
            let stopped = std::mem::take(&mut self.stopped).into_iter();
            let mut steps: Vec<Step> = stopped.map(|client| Step::Resume { client }).collect();
            steps.push(Step::Settle);
            self.steps.push(steps);
        }
    }
}
