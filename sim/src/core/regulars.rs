//! How a seed adds clients of journals to a plan of the core: they are lost, and come back.
//!
//! The draws are of a stream of their own, as those of clients of rooms are.

use super::plan::{Plan, Step};
use crate::journal::{JOURNAL, Journal, Recovering};
use crate::rng::Rng;
use crate::rooms::Rooms;

/// The first number of the clients of journals.
const FIRST: u32 = 7_000;

/// Of so many plans that may have journals one has some.
const PLANS: u64 = 2;

/// Adds journals to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "core journals", 0);
    if !rng.chance(1, PLANS) {
        return;
    }
    let journal = bounds(&mut rng);
    let journal = kind(&mut Rng::keyed(plan.seed, "core recovery", 0), journal);
    let mut presence = Rng::keyed(plan.seed, "core presence", 0);
    let is_told = presence.chance(1, 2);
    let journal = Journal {
        leave_delay_ms: is_told.then(|| *presence.pick(&[0, 0, 400, 3_000])),
        ..journal
    };
    plan.journal = Some(journal);
    // Kinds of rooms that no client comes to change nothing.
    plan.wild.rooms.get_or_insert(Rooms {
        most: 1_000,
        per_address: 1_000,
        per_subject: 1_000,
        clients: 1_000,
        echo: true,
    });
    let mut regulars = Regulars::new(rng, journal);
    for _ in 0..regulars.rng.within(5..=40) {
        regulars.step();
    }
    let Regulars { mut rng, steps, .. } = regulars;
    let last = plan.steps.len() as u64;
    // In some plans they come together, and time passes between them alone.
    let from = if rng.chance(1, 2) {
        0
    } else {
        rng.within(0..=last)
    };
    let until = if rng.chance(1, 2) { last } else { from };
    let mut places: Vec<u64> = steps
        .iter()
        .map(|_| rng.within(from..=until.max(from)))
        .collect();
    places.sort_unstable();
    for (place, steps) in places.into_iter().zip(steps).rev() {
        let place = usize::try_from(place).unwrap_or(0);
        plan.steps.splice(place..place, steps);
    }
}

fn bounds(rng: &mut Rng) -> Journal {
    let ttl_ms = *rng.pick(&[500, 2_000, 5_000, 60_000]);
    Journal {
        messages: *rng.pick(&[1, 2, 5, 8, 8, 8]),
        bytes: *rng.pick(&[700, 3_000, 1 << 20, 1 << 20, 1 << 20]),
        ttl_ms,
        recovery_max: *rng.pick(&[None, None, Some(2), Some(4)]),
        window: *rng.pick(&[1, 2, 3, 256]),
        recovers: rng.chance(2, 3),
        echo: rng.chance(1, 2),
        bytes_in_all: *rng.pick(&[2_000, 1 << 30, 1 << 30]),
        positions: *rng.pick(&[1, 2, 1_000, 1_000]),
        position_ttl_ms: *rng.pick(&[ttl_ms / 2, ttl_ms * 2, 86_400_000]),
        recovery: Recovering::Asked,
        is_private: false,
        is_hosted: false,
        leave_delay_ms: None,
    }
}

/// The same, in some plans of another kind.
fn kind(rng: &mut Rng, journal: Journal) -> Journal {
    use Recovering::{Always, Asked, Newest, Off};
    let is_hosted = rng.chance(1, 3);
    Journal {
        recovery: *rng.pick(&[Asked, Asked, Asked, Asked, Asked, Always, Newest, Off]),
        is_hosted,
        // An instance publishes to all.
        echo: journal.echo || is_hosted,
        ..journal
    }
}

/// Deeds around a journal, each as often as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Come,
    /// All leave, time passes, and some come back.
    Empty,
    Erase,
    /// A client is lost and comes back.
    Lapse,
    Live,
    LookUp,
    Record,
    /// A client does not read while much is published.
    Slow,
    Talk,
    Wait,
}

const DEEDS: [Deed; 22] = {
    use Deed::{Come, Empty, Erase, Lapse, Live, LookUp, Record, Slow, Talk, Wait};
    [
        Come, Come, Come, Empty, Empty, Erase, Lapse, Lapse, Lapse, Lapse, Live, LookUp, LookUp,
        Record, Record, Record, Slow, Slow, Talk, Talk, Talk, Wait,
    ]
};

/// Clients of journals while they are drawn; each item of `steps` stays together.
struct Regulars {
    rng: Rng,
    journal: Journal,
    rooms: Vec<String>,
    deeds: Vec<Deed>,
    /// The room of each client that has come.
    clients: Vec<String>,
    texts: u64,
    steps: Vec<Vec<Step>>,
}

impl Regulars {
    fn new(mut rng: Rng, journal: Journal) -> Self {
        let keys = ["a", "b", "c"];
        let count = *rng.pick(&[1, 1, 2, 3]);
        let rooms = keys
            .iter()
            .take(count)
            .map(|key| format!("{JOURNAL}/{key}"));
        let rooms = rooms.collect();
        let part = rng.within(2..=6);
        let deeds = DEEDS.into_iter().filter(|deed| {
            let always = [Deed::Come, Deed::Lapse, Deed::Record];
            always.contains(deed) || rng.chance(part, 6)
        });
        let deeds = deeds.collect();
        Self {
            rng,
            journal,
            rooms,
            deeds,
            clients: Vec::new(),
            texts: 0,
            steps: Vec::new(),
        }
    }

    fn step(&mut self) {
        let deed = *self.rng.pick(&self.deeds);
        let client = self.regular();
        let room = self.rng.pick(&self.rooms).clone();
        let mut steps = match deed {
            Deed::Come => {
                let of = self.rng.chance(1, 4).then_some(client);
                vec![self.come(room, of)]
            }
            Deed::Empty => self.empty(room),
            Deed::Erase => vec![Step::Erase { room }],
            Deed::Lapse => self.lapse(client),
            Deed::Live => vec![self.record(room, true)],
            Deed::LookUp => vec![self.look_up(client)],
            Deed::Record => vec![self.record(room, false)],
            Deed::Slow => self.slow(client),
            Deed::Talk => self.talk(client),
            Deed::Wait => vec![self.wait()],
        };
        self.pause(&mut steps);
        self.steps.push(steps);
    }

    fn pause(&mut self, steps: &mut Vec<Step>) {
        match self.rng.within(0..=5) {
            0 | 1 => {
                let polls = self.rng.within(1..=6) as u32;
                steps.push(Step::Run { polls });
            }
            2 | 3 => steps.push(Step::Settle),
            _ => {}
        }
    }

    /// A time around those that matter.
    fn wait(&mut self) -> Step {
        let Journal {
            ttl_ms,
            position_ttl_ms,
            ..
        } = self.journal;
        let forgotten = position_ttl_ms.min(200_000) + 12_000;
        let times = [
            1,
            100,
            ttl_ms / 2,
            ttl_ms - 1,
            ttl_ms,
            ttl_ms + 1,
            ttl_ms + 11_000,
            forgotten,
        ];
        let ms = *self.rng.pick(&times);
        Step::Advance { ms }
    }

    fn come(&mut self, room: String, of: Option<u32>) -> Step {
        self.clients.push(room.clone());
        let client = FIRST + self.clients.len() as u32 - 1;
        let ahead = u64::from(self.rng.chance(1, 12));
        let last = *self.rng.pick(&[0, 0, 0, 1, 3, 100]);
        let address = self.rng.within(1..=2) as u8;
        Step::Come {
            client,
            room,
            of,
            ahead,
            last,
            address,
        }
    }

    /// A client of the last few.
    fn regular(&mut self) -> u32 {
        let came = self.clients.len() as u64;
        let back = self.rng.within(0..=3).min(came.saturating_sub(1));
        FIRST + (came.saturating_sub(1) - back) as u32
    }

    /// The room of a client that has come.
    fn room_of(&self, client: u32) -> String {
        let index = (client - FIRST) as usize;
        let room = self.clients.get(index).or_else(|| self.rooms.first());
        room.cloned().unwrap_or_default()
    }

    fn record(&mut self, room: String, live: bool) -> Step {
        self.texts += 1;
        let count = self.rng.within(1..=4);
        let text = format!("text from outside {}", self.texts);
        Step::Record {
            room,
            text,
            count,
            live,
        }
    }

    fn look_up(&mut self, client: u32) -> Step {
        self.texts += 1;
        let limit = *self.rng.pick(&[0, 1, 2, 100]);
        let reverse = self.rng.chance(1, 2);
        Step::LookUp {
            client,
            id: self.texts,
            limit,
            reverse,
        }
    }

    fn talk(&mut self, client: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..self.rng.within(1..=4) {
            self.texts += 1;
            let orders = self.journal.is_hosted && self.rng.chance(1, 8);
            let word = match orders {
                true => *self.rng.pick(&["error", "panic"]),
                false => "say",
            };
            let text = format!("{word} client {client} text {}", self.texts);
            let id = self.texts;
            let live = self.rng.chance(1, 12) && self.deeds.contains(&Deed::Live);
            steps.push(if live || self.rng.chance(1, 2) {
                Step::Tell {
                    client,
                    id,
                    text,
                    live,
                }
            } else {
                Step::Text { client, text }
            });
        }
        steps
    }

    fn lose(&mut self, client: u32) -> Step {
        match self.rng.within(0..=3) {
            0 => Step::Drop { client },
            1 => Step::HalfClose { client },
            2 => Step::Leave { client, code: 1000 },
            _ => Step::Reset { client },
        }
    }

    /// A client is lost, and comes back with its position: at once or later, while others publish.
    fn lapse(&mut self, client: u32) -> Vec<Step> {
        let room = self.room_of(client);
        let mut steps = vec![self.lose(client)];
        self.pause(&mut steps);
        for _ in 0..self.rng.within(0..=3) {
            let step = self.record(room.clone(), false);
            steps.push(step);
        }
        if self.rng.chance(1, 3) {
            let step = self.wait();
            steps.push(step);
        }
        let step = self.come(room.clone(), Some(client));
        steps.push(step);
        let back = FIRST + self.clients.len() as u32 - 1;
        match self.rng.within(0..=3) {
            // A publish at the instant at which it comes.
            0 | 1 => {
                if self.rng.chance(1, 2) {
                    steps.push(Step::Run { polls: 1 });
                }
                let step = self.record(room, false);
                steps.push(step);
            }
            // The messages expire while it reads them.
            2 => {
                steps.push(Step::Sip {
                    client: back,
                    bytes: 0,
                });
                steps.push(Step::Settle);
                let step = self.wait();
                steps.push(step);
                steps.push(Step::Resume { client: back });
                steps.push(Step::Settle);
            }
            _ => {}
        }
        steps
    }

    /// A client does not read while more is published than its window has.
    fn slow(&mut self, client: u32) -> Vec<Step> {
        let room = self.room_of(client);
        let mut steps = vec![Step::Sip { client, bytes: 0 }];
        for _ in 0..self.rng.within(2..=12) {
            let step = self.record(room.clone(), false);
            steps.push(step);
            if self.rng.chance(1, 2) {
                steps.push(Step::Settle);
            }
        }
        if self.rng.chance(1, 3) {
            let step = self.wait();
            steps.push(step);
        }
        steps.push(Step::Resume { client });
        steps.push(Step::Settle);
        steps
    }

    /// All leave a room, time passes, and some come back.
    fn empty(&mut self, room: String) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut last = None;
        for (client, of) in (FIRST..).zip(&self.clients) {
            if *of == room {
                steps.push(Step::Leave { client, code: 1000 });
                last = Some(client);
            }
        }
        steps.push(Step::Settle);
        if self.rng.chance(2, 3) {
            let step = self.wait();
            steps.push(step);
        }
        if self.rng.chance(1, 2) {
            let step = self.record(room.clone(), false);
            steps.push(step);
        }
        let step = self.come(room, last);
        steps.push(step);
        steps
    }
}
