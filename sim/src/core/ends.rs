//! How a seed adds the ends of streams to a plan of the core.
//!
//! The draws are of a stream of their own: the other steps of the plan stay as they are.

use super::plan::{Plan, Step};
use crate::rng::Rng;

/// Of so many plans with journals one has ends.
const PLANS: u64 = 4;

/// The first number of the clients that come after an end.
const FIRST: u32 = 9_000;

/// The first number of the texts and of the data, above those of other clients of journals; with
/// three digits, as a request is to fit into the shortest messages of a plan.
const TEXTS: u64 = 700;

/// Adds ends to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "core ends", 0);
    let Some(journal) = plan.journal.filter(|_| rng.chance(1, PLANS)) else {
        return;
    };
    let mut ends = Ends {
        rng,
        is_hosted: journal.is_hosted,
        clients: FIRST,
        texts: TEXTS,
    };
    for _ in 0..ends.rng.within(1..=2) {
        ends.add(plan);
    }
}

/// Ends while they are drawn.
struct Ends {
    rng: Rng,
    is_hosted: bool,
    /// The number of the next client that comes.
    clients: u32,
    texts: u64,
}

impl Ends {
    /// Adds an end to the journal of a client that comes, and clients that come later.
    fn add(&mut self, plan: &mut Plan) {
        let steps = plan.steps.iter().enumerate();
        let comes = steps.filter_map(|(place, step)| {
            let Step::Come { client, room, .. } = step else {
                return None;
            };
            Some((place, *client, room.clone()))
        });
        let comes: Vec<(usize, u32, String)> = comes.collect();
        if comes.is_empty() {
            return;
        }
        let (place, client, room) = self.rng.pick(&comes).clone();
        let drain = plan.steps.iter().position(|step| *step == Step::Drain);
        let last = drain.unwrap_or(plan.steps.len()).max(place + 1);
        let place = self.between(place + 1, last);
        for _ in 0..self.rng.within(0..=2) {
            let later = self.between(place, last);
            let steps = self.come(client, &room);
            plan.steps.splice(later..later, steps);
        }
        let steps = self.end(client, &room);
        plan.steps.splice(place..place, steps);
    }

    fn between(&mut self, first: usize, last: usize) -> usize {
        self.rng.within(first as u64..=last as u64) as usize
    }

    /// A stream ends: while a client says something, while one does not read, or at any time.
    fn end(&mut self, client: u32, room: &str) -> Vec<Step> {
        let (mut steps, mut client) = (Vec::new(), client);
        // Many of the others have left by then.
        if self.rng.chance(2, 3) {
            steps = self.come(client, room);
            client = self.clients - 1;
        }
        match self.rng.within(0..=3) {
            0 => {
                steps.push(self.tell(client));
                steps.push(self.order(client, room));
                steps.push(self.tell(client));
            }
            1 | 2 => {
                steps.push(Step::Sip { client, bytes: 0 });
                // As many as fill small buffers, in most plans.
                for _ in 0..self.rng.within(0..=9) {
                    steps.push(self.record(room));
                }
                if self.rng.chance(3, 4) {
                    steps.push(Step::Settle);
                }
                steps.push(self.order(client, room));
                steps.push(self.tell(client));
                steps.push(Step::Settle);
                steps.push(Step::Resume { client });
            }
            _ => steps.push(self.order(client, room)),
        }
        if self.rng.chance(1, 3) {
            let polls = self.rng.within(1..=6) as u32;
            steps.push(Step::Run { polls });
        }
        if self.rng.chance(1, 3) {
            steps.push(self.record(room));
        }
        if self.rng.chance(1, 6) {
            let room = room.to_owned();
            steps.push(Step::Erase { room });
        }
        if self.rng.chance(1, 2) {
            let more = self.come(client, room);
            steps.extend(more);
        }
        steps
    }

    /// The program ends the stream, or tells the instance to do so through a client.
    fn order(&mut self, client: u32, room: &str) -> Step {
        self.texts += 1;
        let number = self.texts;
        if self.is_hosted && self.rng.chance(1, 2) {
            let text = format!("end client {client} text {number}");
            return Step::Text { client, text };
        }
        Step::End {
            room: room.to_owned(),
            data: number,
        }
    }

    fn tell(&mut self, client: u32) -> Step {
        self.texts += 1;
        Step::Tell {
            client,
            id: self.texts,
            text: format!("say client {client} text {}", self.texts),
            live: self.rng.chance(1, 12),
        }
    }

    fn record(&mut self, room: &str) -> Step {
        self.texts += 1;
        Step::Record {
            room: room.to_owned(),
            text: format!("text from outside {}", self.texts),
            count: self.rng.within(1..=4),
            live: self.rng.chance(1, 12),
        }
    }

    /// A client comes later, perhaps with the position of the other one.
    fn come(&mut self, client: u32, room: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.rng.chance(1, 2) {
            steps.push(Step::Settle);
        }
        let of = self.rng.chance(2, 3).then_some(client);
        steps.push(Step::Come {
            client: self.clients,
            room: room.to_owned(),
            of,
            ahead: 0,
            last: *self.rng.pick(&[0, 0, 1, 3]),
            address: self.rng.within(1..=2) as u8,
        });
        self.clients += 1;
        steps
    }
}
