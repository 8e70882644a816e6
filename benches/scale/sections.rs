//! What is measured: topics, services, connections, and broadcasts to all of these.

use std::cell::RefCell;
use std::rc::Rc;

use busline::Service;
use busline::service::{echo, ping};

use crate::crowd::{Crowd, Place, Plan, Size};
use crate::topics::Topics;
use crate::{Run, Turn};

/// Clients that send at once, where there are many.
const AT_ONCE: usize = 64;

/// Rows of the table that have the same sizes.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [&'static str],
    pub(crate) sizes: &'static [usize],
    /// What is run at one size, for each row.
    pub(crate) build: fn(&Rc<Place>, usize) -> Vec<Run>,
}

pub(crate) const SECTIONS: [Section; 4] = [
    Section {
        name: "topics",
        rows: &["topics, one after the other", "topics, always the same"],
        sizes: &[1, 100, 10_000, 100_000],
        build: topics,
    },
    Section {
        name: "services",
        rows: &["services, one after the other", "services, always the same"],
        sizes: &[1, 100, 10_000],
        build: services,
    },
    Section {
        name: "connections",
        rows: &[
            "connections, 64 after the other",
            "connections, always the same 64",
        ],
        sizes: &[100, 1_000, 10_000, 100_000],
        build: connections,
    },
    Section {
        name: "broadcast",
        rows: &["connections, broadcast to all"],
        sizes: &[100, 1_000, 10_000, 100_000],
        build: broadcast,
    },
];

fn topics(_place: &Rc<Place>, count: usize) -> Vec<Run> {
    let topics = Rc::new(RefCell::new(Topics::new(count)));
    let run = |turn| -> Run {
        let topics = Rc::clone(&topics);
        Box::new(move |messages| topics.borrow_mut().run(turn, messages))
    };
    [Turn::Each, Turn::Same].map(run).into()
}

/// Each with one client, and one message under way.
fn services(place: &Rc<Place>, services: usize) -> Vec<Run> {
    let clients = services;
    let plan = |turn| Plan {
        turn,
        at_once: 1,
        reach: 1,
    };
    let plans = [Turn::Each, Turn::Same].map(plan);
    runs(place, Size { services, clients }, echo, &plans)
}

fn connections(place: &Rc<Place>, clients: usize) -> Vec<Run> {
    let services = 1;
    let plan = |turn| Plan {
        turn,
        at_once: AT_ONCE,
        reach: 1,
    };
    let plans = [Turn::Each, Turn::Same].map(plan);
    runs(place, Size { services, clients }, echo, &plans)
}

fn broadcast(place: &Rc<Place>, clients: usize) -> Vec<Run> {
    let services = 1;
    let plan = Plan {
        turn: Turn::Same,
        at_once: 1,
        reach: clients,
    };
    runs(place, Size { services, clients }, ping, &[plan])
}

fn runs(place: &Rc<Place>, size: Size, service: impl Service + Copy, plans: &[Plan]) -> Vec<Run> {
    let crowd = Rc::new(Crowd::new(place, size, service));
    let run = |plan: &Plan| -> Run {
        let (crowd, plan) = (Rc::clone(&crowd), *plan);
        Box::new(move |deliveries| crowd.run(plan, deliveries))
    };
    plans.iter().map(run).collect()
}
