//! How a seed adds backends, and clients that put requests to services, to a wild plan.
//!
//! The draws are of a stream of their own, and what else the plan has stays as it is.

use std::collections::BTreeSet;

use super::{ZONES, at};
use crate::calls::{ASKERS, BACKENDS, Call, Calls};
use crate::journal::{JOURNAL, JOURNALS};
use crate::plan::{Action, Plan, Timed};
use crate::rng::Rng;
use crate::rooms::{HALL, RELAY, is_of};
use crate::wild::Deed;

/// Of so many plans with rooms one has backends.
const PLANS: u64 = 2;

/// The time after the faults in which calls still come, in milliseconds.
const AFTERWARDS: u64 = 8_000;

/// The ways in which a service is asked to answer.
const METHODS: [&str; 10] = [
    "all", "all", "drop", "keep", "keep", "late", "no", "now", "now", "panic",
];

/// Adds backends to the plan, or leaves it as it is.
pub(super) fn invite(plan: &mut Plan) {
    let mut rng = Rng::keyed(plan.seed, "calls", 0);
    let rooms = rooms(plan);
    let Some(wild) = plan.wild.as_mut().filter(|_| !rooms.is_empty()) else {
        return;
    };
    if !rng.chance(1, PLANS) {
        return;
    }
    wild.calls = Some(Calls {
        request_timeout_ms: *rng.pick(&[1_000, 3_000, 10_000]),
        idle_timeout_ms: *rng.pick(&[2_000, 75_000]),
    });
    // A loss of messages that no history takes is told without their places.
    let is_roomy = wild.journal.is_some_and(|journal| journal.window >= 256);
    let mut moments = vec![0, wild.healed_ms];
    let is_end =
        |action: &Action| matches!(action, Action::Crash | Action::Drain | Action::PowerLoss);
    let ends = plan.actions.iter().filter(|timed| is_end(&timed.action));
    moments.extend(ends.map(|timed| timed.at_ms));
    let mut callers = Callers {
        rooms,
        moments,
        is_roomy,
        end: wild.healed_ms + AFTERWARDS,
        next: 0,
        rng,
        actions: Vec::new(),
    };
    for client in BACKENDS..BACKENDS + callers.rng.within(1..=3) as u32 {
        callers.backend(client);
    }
    if callers.rooms.iter().any(|room| is_of(HALL, room)) {
        for client in ASKERS..ASKERS + callers.rng.within(0..=4) as u32 {
            callers.asker(client);
        }
    }
    plan.actions.extend(callers.actions);
    // Stable, so that what a client does in one millisecond keeps its order.
    plan.actions.sort_by_key(|timed| timed.at_ms);
}

/// The rooms to which clients come, and one of each kind to which none may come.
fn rooms(plan: &Plan) -> Vec<String> {
    let wild = plan.wild.as_ref();
    let mut rooms = BTreeSet::new();
    if wild.is_some_and(|wild| wild.journal.is_some()) {
        rooms.extend(JOURNALS.map(str::to_owned));
    }
    for timed in &plan.actions {
        // Other keys are none of a channel.
        if let Action::Connect { service, .. } = &timed.action
            && service.contains('/')
            && !service.contains('%')
        {
            rooms.insert(service.clone());
        }
    }
    rooms.into_iter().collect()
}

/// Backends and askers while they are drawn.
struct Callers {
    rooms: Vec<String>,
    /// Times around which calls come.
    moments: Vec<u64>,
    /// Whether no window of a room with a history overflows.
    is_roomy: bool,
    end: u64,
    next: u64,
    rng: Rng,
    actions: Vec<Timed>,
}

impl Callers {
    fn backend(&mut self, client: u32) {
        let zone = self.rng.within(0..=u64::from(ZONES) - 1) as u8;
        let count = self.rng.within(2..=12);
        let mut times: Vec<u64> = (0..count).map(|_| self.time()).collect();
        times.sort_unstable();
        for time in times {
            let at_once = *self.rng.pick(&[1, 1, 1, 3]);
            for _ in 0..at_once {
                for call in self.calls(client) {
                    let call = Action::Call { client, zone, call };
                    self.actions.push(at(time, call));
                }
            }
        }
    }

    fn time(&mut self) -> u64 {
        if self.rng.chance(1, 3) {
            let moment = *self.rng.pick(&self.moments);
            return (moment + self.rng.within(0..=400)).saturating_sub(200);
        }
        self.rng.within(0..=self.end)
    }

    /// A call, or several with one key.
    fn calls(&mut self, client: u32) -> Vec<Call> {
        match self.rng.within(0..=15) {
            0..=3 => vec![self.publish(client, "")],
            4..=6 => self.with_key(client),
            7 | 8 => vec![self.rpc(client)],
            9..=11 => {
                let count = self.rng.within(1..=4);
                let calls = (0..count).map(|_| match self.rng.within(0..=3) {
                    0 => self.rpc(client),
                    1 => self.history(),
                    _ => self.publish(client, ""),
                });
                vec![Call::Batch {
                    calls: calls.collect(),
                }]
            }
            12 | 13 => vec![self.history()],
            14 => vec![Call::HangUp],
            _ => {
                let room = self.room();
                vec![Call::Disconnect { room }]
            }
        }
    }

    fn room(&mut self) -> String {
        self.rng.pick(&self.rooms).clone()
    }

    /// The same key in one room, twice, and in another one.
    fn with_key(&mut self, client: u32) -> Vec<Call> {
        self.next += 1;
        let key = format!("key {client}.{}", self.next);
        let mut calls = vec![self.publish(client, &key)];
        if self.rng.chance(1, 2) {
            calls.push(calls[0].clone());
        }
        let other = self.publish(client, &key);
        if let (Call::Publish { room, .. }, Call::Publish { room: of, .. }) = (&calls[0], &other)
            && room != of
        {
            calls.push(other);
        }
        calls
    }

    fn publish(&mut self, client: u32, once: &str) -> Call {
        let room = self.room();
        self.next += 1;
        let text = format!("say backend {client} text {}", self.next);
        let may_be_live = self.is_roomy || !is_of(JOURNAL, &room);
        Call::Publish {
            live: may_be_live && self.rng.chance(1, 6),
            room,
            text,
            once: once.to_owned(),
        }
    }

    /// A reading of a room with a history, if there is one.
    fn history(&mut self) -> Call {
        let kept = self.rooms.iter().filter(|room| is_of(JOURNAL, room));
        let kept: Vec<_> = kept.cloned().collect();
        let room = if kept.is_empty() {
            self.room()
        } else {
            self.rng.pick(&kept).clone()
        };
        Call::History { room }
    }

    /// A request to a service, or to a relay, which has none.
    fn rpc(&mut self, client: u32) -> Call {
        let served = self.rooms.iter().filter(|room| !is_of(RELAY, room));
        let served: Vec<_> = served.filter(|room| is_of(HALL, room)).cloned().collect();
        let room = if served.is_empty() || self.rng.chance(1, 10) {
            self.room()
        } else {
            self.rng.pick(&served).clone()
        };
        self.next += 1;
        Call::Rpc {
            room,
            method: (*self.rng.pick(&METHODS)).to_owned(),
            tag: format!("{client}.{}", self.next),
        }
    }

    /// A client of a room with an instance that puts requests to it.
    fn asker(&mut self, client: u32) {
        let halls = self.rooms.iter().filter(|room| is_of(HALL, room));
        let halls: Vec<_> = halls.cloned().collect();
        let comes = self.rng.within(0..=self.end - AFTERWARDS);
        let leaves = comes + self.rng.within(500..=10_000);
        let connect = Action::Connect {
            client,
            service: self.rng.pick(&halls).clone(),
            zone: self.rng.within(0..=u64::from(ZONES) - 1) as u8,
            again: false,
        };
        self.actions.push(at(comes, connect));
        let deed = Deed::Speak {
            json: true,
            deflate: false,
        };
        self.actions.push(at(comes, Action::Act { client, deed }));
        let count = *self.rng.pick(&[1, 3, 6, 20]);
        for id in 1..=count {
            let time = self.rng.within(comes..=leaves);
            let method = (*self.rng.pick(&METHODS)).to_owned();
            let deed = Deed::Ask { id, method };
            self.actions.push(at(time, Action::Act { client, deed }));
        }
        let end = match self.rng.within(0..=4) {
            0 => Action::Abort { client },
            1 => Action::Act {
                client,
                deed: Deed::Reset,
            },
            _ => Action::Leave { client, code: 1000 },
        };
        self.actions.push(at(leaves, end));
    }
}
