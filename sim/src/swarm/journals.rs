//! How a seed adds clients of rooms with a history to a wild plan: they are lost, and come back.
//!
//! The draws are of a stream of their own, and what else the plan has stays as it is.

use super::{ZONES, at};
use crate::journal::{JOURNALS, Journal, Recovering};
use crate::plan::{Action, Plan, Timed};
use crate::rng::Rng;
use crate::wild::{Deed, Shows, Wild};

/// The first number of the clients of journals.
const FIRST: u32 = 7_000;

/// Of so many plans one has journals.
const PLANS: u64 = 4;

/// The time after the faults in which clients still come back, in milliseconds.
const AFTERWARDS: u64 = 8_000;

/// Adds journals to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "journals", 0);
    let Some(wild) = plan.wild.as_mut().filter(|_| rng.chance(1, PLANS)) else {
        return;
    };
    let journal = bounds(&mut rng);
    wild.journal = Some(journal);
    let mut regulars = Regulars::new(rng, wild, journal);
    for _ in 0..regulars.rng.within(1..=4) {
        regulars.lineage();
    }
    plan.actions.extend(regulars.actions);
    // Stable, so that what a client does in one millisecond keeps its order.
    plan.actions.sort_by_key(|timed| timed.at_ms);
}

/// The bounds of the rooms; a position is never forgotten.
fn bounds(rng: &mut Rng) -> Journal {
    use Recovering::{Always, Asked, Newest, Off};
    Journal {
        messages: *rng.pick(&[1, 3, 8, 8, 50]),
        bytes: *rng.pick(&[3_000, 1 << 20, 1 << 20, 1 << 20]),
        ttl_ms: *rng.pick(&[500, 3_000, 60_000, 60_000]),
        recovery_max: *rng.pick(&[None, None, Some(2)]),
        window: *rng.pick(&[1, 3, 256]),
        recovers: rng.chance(2, 3),
        echo: rng.chance(1, 2),
        bytes_in_all: 1 << 30,
        positions: 1_000,
        position_ttl_ms: 86_400_000,
        recovery: *rng.pick(&[Asked, Asked, Asked, Asked, Always, Newest, Off]),
        is_private: rng.chance(1, 6),
        is_hosted: false,
        leave_delay_ms: None,
    }
}

/// Clients of journals while they are drawn.
struct Regulars {
    rng: Rng,
    journal: Journal,
    rooms: usize,
    /// When the last of them come.
    end: u64,
    deflates: bool,
    next: u32,
    texts: u64,
    actions: Vec<Timed>,
}

impl Regulars {
    fn new(mut rng: Rng, wild: &Wild, journal: Journal) -> Self {
        let rooms = *rng.pick(&[1, 1, 2, JOURNALS.len()]);
        Self {
            rng,
            journal,
            rooms,
            end: wild.healed_ms + AFTERWARDS,
            deflates: wild.compress_bytes_min.is_some(),
            next: FIRST,
            texts: 0,
            actions: Vec::new(),
        }
    }

    /// The visits of one user, each of which is a client that goes on where the one before it was.
    fn lineage(&mut self) {
        let room = *self.rng.pick(&JOURNALS[..self.rooms]);
        let mut before = None;
        let mut now = self.rng.within(0..=2_000);
        for _ in 0..self.rng.within(2..=8) {
            let client = self.next;
            self.next += 1;
            let comes = now;
            now += self.stay();
            self.visit(client, room, before, comes..now);
            before = Some(client);
            now += self.absence();
            if now > self.end {
                return;
            }
        }
    }

    /// The length of a visit.
    fn stay(&mut self) -> u64 {
        let most = *self.rng.pick(&[300, 2_000, 6_000]);
        self.rng.within(100..=most)
    }

    /// The time between two visits, around those that matter.
    fn absence(&mut self) -> u64 {
        let ttl = self.journal.ttl_ms;
        let most = *self.rng.pick(&[0, 100, 1_500, ttl.min(5_000) + 100]);
        self.rng.within(0..=most)
    }

    fn visit(&mut self, client: u32, room: &str, before: Option<u32>, time: std::ops::Range<u64>) {
        let (comes, leaves) = (time.start, time.end);
        let connect = Action::Connect {
            client,
            service: room.to_owned(),
            zone: self.rng.within(0..=u64::from(ZONES) - 1) as u8,
            again: self.rng.chance(1, 2),
        };
        self.actions.push(at(comes, connect));
        let json = self.rng.chance(9, 10);
        let deflate = self.deflates && self.rng.chance(1, 2);
        self.act(comes, client, Deed::Speak { json, deflate });
        let wish = self.wish(before);
        self.act(comes, client, wish);
        self.talk(client, comes, leaves);
        if self.rng.chance(1, 4) {
            let stops = self.rng.within(comes..=leaves);
            self.act(stops, client, Deed::Stop);
            let resumes = self.rng.within(stops..=leaves);
            self.act(resumes, client, Deed::Resume);
        }
        let end = self.end_of(client);
        self.actions.push(at(leaves, end));
    }

    fn act(&mut self, time: u64, client: u32, deed: Deed) {
        self.actions.push(at(time, Action::Act { client, deed }));
    }

    fn wish(&mut self, before: Option<u32>) -> Deed {
        let shows = match before {
            Some(before) if self.rng.chance(7, 8) => Shows::Of(before),
            _ => *self
                .rng
                .pick(&[Shows::Nothing, Shows::Nothing, Shows::Beginning]),
        };
        Deed::Wish {
            shows,
            ahead: u64::from(self.rng.chance(1, 15)),
            last: *self.rng.pick(&[0, 0, 0, 1, 3, 100]),
        }
    }

    /// Texts one by one, and many at once.
    fn talk(&mut self, client: u32, comes: u64, leaves: u64) {
        for _ in 0..self.rng.within(0..=4) {
            let time = self.rng.within(comes..=leaves);
            let at_once = *self.rng.pick(&[1, 1, 1, 2, 9]);
            for _ in 0..at_once {
                self.texts += 1;
                let text = format!("say client {client} text {}", self.texts);
                self.actions.push(at(time, Action::Text { client, text }));
            }
        }
    }

    /// How a client goes: mostly its connection is lost.
    fn end_of(&mut self, client: u32) -> Action {
        let deed = match self.rng.within(0..=9) {
            0..=3 => Deed::Reset,
            4 => Deed::Vanish,
            5 => Deed::HalfClose,
            6 | 7 => return Action::Abort { client },
            _ => return Action::Leave { client, code: 1000 },
        };
        Action::Act { client, deed }
    }
}
