//! The trace of a run as the lives of its clients, with bounds on what the network delays.

use std::collections::BTreeMap;

use crate::plan::{Action, Plan};
use crate::trace::{Ending, Entry, Event, Held, Trace};
use crate::wild::Wild;

/// A run, arranged for checkers. All times are virtual microseconds.
pub struct History<'a> {
    /// Every event in order.
    pub entries: &'a [Entry],
    /// The clients that began to connect, by number.
    pub clients: BTreeMap<u32, Life>,
    /// When the server was told to drain.
    pub drained: Option<u64>,
    /// What the application had done and held at the end.
    pub held: Option<&'a Held>,
    /// What is set, if the plan is wild.
    pub wild: Option<Wild>,
    holds: Vec<Outage>,
    cuts: Vec<Outage>,
    /// The longest time that one direction of a healthy link takes.
    one_way: u64,
}

/// One client, from its own point of view.
#[derive(Clone, Debug)]
pub struct Life {
    /// To which service.
    pub service: String,
    /// From where.
    pub zone: u8,
    /// When it began to connect.
    pub connecting: u64,
    /// When its handshake was answered.
    pub connected: Option<u64>,
    /// What it sent.
    pub sent: Vec<Said>,
    /// What it received.
    pub received: Vec<Said>,
    /// When it began to close, and with which code.
    pub leaving: Option<(u64, u16)>,
    /// When it saw the server's close frame, and the code.
    pub closed: Option<(u64, Option<u16>)>,
    /// When its connection ended, and how.
    pub ended: Option<(u64, Ending)>,
}

/// A message at a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// When.
    pub t: u64,
    /// Which event.
    pub n: u64,
    /// What.
    pub text: String,
}

/// A time in which a zone's link does not work.
#[derive(Clone, Copy, Debug)]
struct Outage {
    zone: u8,
    from: u64,
    to: u64,
}

impl<'a> History<'a> {
    /// Arranges a trace of this plan.
    pub fn new(plan: &Plan, trace: &'a Trace) -> Self {
        let network = &plan.network;
        let mut history = Self {
            entries: trace.entries(),
            clients: BTreeMap::new(),
            drained: None,
            held: None,
            wild: plan.wild.clone(),
            holds: Vec::new(),
            cuts: Vec::new(),
            // Sent within a tick, and received at the beginning of one.
            one_way: (network.latency_ms_max + 2 * network.tick_ms) * 1000,
        };
        for entry in trace.entries() {
            history.take(entry);
        }
        history
    }

    /// The longest time that one direction of a healthy link takes.
    pub fn one_way(&self) -> u64 {
        self.one_way
    }

    /// The latest time at which something arrives that is sent at `t` between the server and this
    /// zone, unless it is lost.
    pub fn arrival(&self, zone: u8, t: u64) -> u64 {
        // A hold that is never released has no end.
        let mut arrival = t.saturating_add(self.one_way);
        for hold in self.holds.iter().filter(|hold| hold.zone == zone) {
            if hold.from <= arrival && t <= hold.to {
                arrival = arrival.max(hold.to.saturating_add(self.one_way));
            }
        }
        arrival
    }

    /// Whether a partition may have killed this client's connection before `to`.
    pub fn is_cut(&self, life: &Life, to: u64) -> bool {
        let hits =
            |cut: &Outage| cut.zone == life.zone && cut.from <= to && life.connecting <= cut.to;
        self.cuts.iter().any(hits)
    }

    /// Until when a client is there: it leaves, or it is gone, or the server drains.
    pub fn until(&self, life: &Life) -> u64 {
        let ends = [
            life.leaving.map(|(t, _)| t),
            life.closed.map(|(t, _)| t),
            life.ended.map(|(t, _)| t),
            self.drained,
        ];
        ends.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// When the server was told to drain, or the end of time.
    pub fn until_drained(&self) -> u64 {
        self.drained.unwrap_or(u64::MAX)
    }

    /// Whether clients or services may be closed because they are slow.
    pub fn is_slow(&self) -> bool {
        let lost = |held: &Held| held.lost_lagged + held.lost_not_taken > 0;
        self.held.is_some_and(lost)
    }

    /// The clients of a service, with their numbers.
    pub fn clients_of(&self, service: &str) -> impl Iterator<Item = (u32, &Life)> {
        self.clients
            .iter()
            .filter(move |(_, life)| life.service == service)
            .map(|(client, life)| (*client, life))
    }

    /// What the product logged with this message about a service, with the generation.
    pub fn logged(&self, service: &str, message: &str) -> impl Iterator<Item = (u64, u64)> {
        self.entries.iter().filter_map(move |entry| {
            let (of, said, generation) = lifecycle(&entry.event)?;
            (of == service && said == message).then_some((entry.t, generation))
        })
    }

    fn take(&mut self, entry: &'a Entry) {
        let (t, n) = (entry.t, entry.n);
        let said = |text: &String| Said {
            t,
            n,
            text: text.clone(),
        };
        match &entry.event {
            Event::Connecting {
                client,
                service,
                zone,
            } => {
                let life = Life::new(service, *zone, t);
                self.clients.insert(*client, life);
            }
            Event::Connected { client } => self.with(*client, |life| life.connected = Some(t)),
            Event::Sent { client, text } => self.with(*client, |life| life.sent.push(said(text))),
            Event::Received { client, text } => {
                self.with(*client, |life| life.received.push(said(text)));
            }
            Event::Leaving { client, code } => {
                self.with(*client, |life| life.leaving = Some((t, *code)));
            }
            Event::Closed { client, code } => {
                self.with(*client, |life| life.closed = Some((t, *code)));
            }
            Event::Ended { client, ending } => {
                self.with(*client, |life| life.ended = Some((t, *ending)));
            }
            Event::Acted { action } => self.take_action(t, action),
            Event::Held(held) => self.held = Some(held),
            Event::Accepted { .. }
            | Event::Blocked { .. }
            | Event::Did { .. }
            | Event::Dropped { .. }
            | Event::Failed { .. }
            | Event::Log { .. }
            | Event::Panicked { .. }
            | Event::Read { .. }
            | Event::ReadEnd { .. }
            | Event::Refused { .. }
            | Event::Served { .. }
            | Event::Shutdown { .. }
            | Event::Status { .. }
            | Event::Written { .. } => {}
        }
    }

    fn take_action(&mut self, t: u64, action: &Action) {
        let outage = |zone: u8| Outage {
            zone,
            from: t,
            to: u64::MAX,
        };
        let heal = |outages: &mut Vec<Outage>, zone| {
            let open = |outage: &&mut Outage| outage.zone == zone && outage.to == u64::MAX;
            if let Some(outage) = outages.iter_mut().find(open) {
                outage.to = t;
            }
        };
        match *action {
            Action::Drain => self.drained = self.drained.or(Some(t)),
            Action::Hold { zone } => self.holds.push(outage(zone)),
            Action::Partition { zone } => self.cuts.push(outage(zone)),
            Action::Release { zone } => heal(&mut self.holds, zone),
            Action::Repair { zone } => heal(&mut self.cuts, zone),
            Action::Abort { .. }
            | Action::Act { .. }
            | Action::Connect { .. }
            | Action::Leave { .. }
            | Action::Text { .. } => {}
        }
    }

    fn with(&mut self, client: u32, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.clients.get_mut(&client) {
            change(life);
        }
    }
}

impl Life {
    fn new(service: &str, zone: u8, connecting: u64) -> Self {
        Self {
            service: service.to_owned(),
            zone,
            connecting,
            connected: None,
            sent: Vec::new(),
            received: Vec::new(),
            leaving: None,
            closed: None,
            ended: None,
        }
    }

    /// Whether its connection is gone before `t`, and not by a close frame of its own.
    pub fn is_lost_before(&self, t: u64) -> bool {
        let gone = [self.closed.map(|(t, _)| t), self.ended.map(|(t, _)| t)];
        self.leaving.is_none() && gone.into_iter().flatten().any(|gone| gone <= t)
    }
}

/// The service, the message and the generation of an event of a lifecycle.
pub(super) fn lifecycle(event: &Event) -> Option<(&str, &str, u64)> {
    let Event::Log {
        message, fields, ..
    } = event
    else {
        return None;
    };
    let service = fields.get("service")?;
    let generation = fields.get("generation")?.parse().ok()?;
    Some((service, message, generation))
}
