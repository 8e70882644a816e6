//! The trace of a run as the lives of its clients, with bounds on what the network delays.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::calls::Ledger;
use super::conns::{Conn, conns};
use super::links::Links;
use crate::plan::{Action, Plan};
use crate::trace::{Ending, Entry, Event, Held, Notice, Trace};
use crate::wild::{Deed, Wild};

/// A run, arranged for checkers. All times are virtual microseconds.
pub struct History<'a> {
    /// Every event in order.
    pub entries: &'a [Entry],
    /// The clients that began to connect, by number.
    pub clients: BTreeMap<u32, Life>,
    /// When the server was told to drain.
    pub drained: Option<u64>,
    /// What the application had done and held at the end; `None` if no server was there then.
    pub held: Option<&'a Held>,
    /// The same of every application, also of those that were killed.
    pub helds: Vec<&'a Held>,
    /// What is set, if the plan is wild.
    pub wild: Option<Wild>,
    /// How much later than by the numbers of the plan anything may happen.
    pub slack: u64,
    /// How much later than its deadline something is done: timers have steps, and so has the time
    /// of some networks.
    pub grace: u64,
    /// Whether no connection waits for anything but the latency of its link.
    pub is_wide: bool,
    /// How often a client began to connect; one that tries again does so more than once.
    pub attempts: usize,
    /// Where in `entries` the last server was started.
    started: usize,
    conns: OnceCell<BTreeMap<u32, Conn<'a>>>,
    ledger: OnceCell<Ledger<'a>>,
    /// The zones of the backends.
    backends: BTreeMap<u32, u8>,
    holds: Vec<Outage>,
    cuts: Vec<Outage>,
    /// Times without a server; the zone means nothing.
    downs: Vec<Outage>,
    /// Times without a file descriptor.
    exhausted: Vec<Outage>,
    /// When servers were told to end that others follow.
    restarts: Vec<u64>,
    /// The server whose histories each server goes on with, itself or one before it.
    lines: Vec<usize>,
    /// Whether the next server takes histories over.
    leaves: bool,
    /// When the wall clock was set, and by how many microseconds.
    walls: Vec<(u64, i64)>,
    /// The longest time that one direction of a healthy link takes.
    one_way: u64,
    links: Links,
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
    /// When it was refused, and why.
    pub refused: Option<(u64, String)>,
    /// What it was told about its messages, and by which event.
    pub told: Vec<(u64, Notice)>,
    /// What it did that needs raw bytes, and when.
    pub deeds: Vec<(u64, Deed)>,
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
        let slack = network.slack_ms * 1000;
        let steps = plan.actions.iter().filter_map(|timed| {
            if let Action::Latency { ms_min, ms_max, .. } = timed.action {
                return Some(ms_min.max(ms_max));
            }
            None
        });
        let latency_ms = steps.fold(network.latency_ms_max, u64::max);
        let links = Links::of(plan);
        let mut history = Self {
            entries: trace.entries(),
            clients: BTreeMap::new(),
            drained: None,
            held: None,
            helds: Vec::new(),
            wild: plan.wild.clone(),
            slack,
            grace: slack + 2_000 + 2_000 * network.tick_ms.min(10),
            is_wide: links.is_wide(),
            attempts: 0,
            started: 0,
            conns: OnceCell::new(),
            ledger: OnceCell::new(),
            backends: backends(plan),
            holds: Vec::new(),
            cuts: Vec::new(),
            downs: Vec::new(),
            exhausted: Vec::new(),
            restarts: Vec::new(),
            lines: vec![0],
            leaves: false,
            walls: Vec::new(),
            // Sent within a tick, and received at the beginning of one.
            one_way: (latency_ms + 2 * network.tick_ms) * 1000 + slack,
            links,
        };
        for entry in trace.entries() {
            history.take(entry);
        }
        history
    }

    /// What happened since the last server was started, which counts from nothing.
    pub fn epoch(&self) -> &'a [Entry] {
        &self.entries[self.started..]
    }

    /// The connections of all servers, by number.
    pub(super) fn all_conns(&self) -> &BTreeMap<u32, Conn<'a>> {
        self.conns.get_or_init(|| conns(self.entries))
    }

    /// Those of the last server.
    pub(super) fn conns(&self) -> impl Iterator<Item = (u32, &Conn<'a>)> {
        let all = self.all_conns().iter();
        let its = all.filter(|(_, conn)| conn.first >= self.started as u64);
        its.map(|(number, conn)| (*number, conn))
    }

    /// What backends called, and what came of it.
    pub(crate) fn ledger(&self) -> &Ledger<'a> {
        self.ledger.get_or_init(|| Ledger::of(self.entries))
    }

    /// The zone of a backend.
    pub(super) fn zone_of(&self, backend: u32) -> u8 {
        self.backends.get(&backend).copied().unwrap_or(0)
    }

    /// Whether a partition of this zone or a crash may have killed a connection between these.
    pub(super) fn is_severed(&self, zone: u8, from: u64, to: u64) -> bool {
        let hits = |cut: &Outage| cut.from <= to && from <= cut.to;
        let mut cuts = self.cuts.iter().filter(|cut| cut.zone == zone);
        cuts.any(hits) || self.downs.iter().any(hits)
    }

    /// When the last server was started.
    pub fn started(&self) -> u64 {
        self.epoch().first().map_or(0, |entry| entry.t)
    }

    /// Whether the last server has crashed, and none was started in its place.
    pub fn is_down(&self) -> bool {
        self.downs.last().is_some_and(|down| down.to == u64::MAX)
    }

    /// The times at which servers crashed.
    pub fn crashes(&self) -> impl Iterator<Item = u64> {
        self.downs.iter().map(|down| down.from)
    }

    /// Whether a server was told to end, to be followed by another one, before this time.
    pub fn has_restarted(&self, t: u64) -> bool {
        self.restarts.first().is_some_and(|first| *first <= t)
    }

    /// Whether the last server has been told to end, by this time.
    pub(super) fn drains(&self, t: u64) -> bool {
        let is_its = |at: &u64| (self.started()..=t).contains(at);
        self.drained.is_some_and(|drained| drained <= t) || self.restarts.iter().any(is_its)
    }

    /// The server whose histories this one goes on with; both by their numbers, from 1.
    pub(super) fn line(&self, server: usize) -> usize {
        self.lines.get(server).copied().unwrap_or(server)
    }

    /// Whether new connections may not have been accepted at some time between these.
    pub fn is_exhausted(&self, from: u64, to: u64) -> bool {
        let hits = |time: &Outage| time.from <= to && from <= time.to;
        self.exhausted.iter().any(hits)
    }

    /// The end of the last shortage of file descriptors at some time between these.
    pub fn exhausted_until(&self, from: u64, to: u64) -> Option<u64> {
        let hits = |time: &&Outage| time.from <= to && from <= time.to;
        let times = self.exhausted.iter().filter(hits);
        times.map(|time| time.to).max()
    }

    /// The end of the last hold of this zone at some time between these; a hold that is never
    /// released has no end.
    pub fn held_until(&self, zone: u8, from: u64, to: u64) -> Option<u64> {
        let hits = |hold: &&Outage| hold.zone == zone && hold.from <= to && from <= hold.to;
        let holds = self.holds.iter().filter(hits);
        holds.map(|hold| hold.to).max()
    }

    /// What the wall clock may have shown at `t`, in microseconds since the beginning of the run on
    /// the wall: another time if it was set at about that time.
    pub fn walls(&self, t: u64, tolerance: u64) -> Vec<i64> {
        let mut by = 0;
        let mut shown = Vec::new();
        for (set, step) in &self.walls {
            if *set > t + tolerance {
                break;
            }
            if *set + tolerance >= t {
                shown.push(t.cast_signed() + by);
            }
            by += step;
        }
        shown.push(t.cast_signed() + by);
        shown
    }

    /// The messages that all applications have counted as lost on their way to a reader.
    pub fn lost(&self) -> u64 {
        let lost = |held: &&Held| held.lost_lagged + held.lost_superseded + held.lost_unsubscribed;
        self.helds.iter().map(lost).sum()
    }

    /// The longest time that one direction of a healthy link takes.
    pub fn one_way(&self) -> u64 {
        self.one_way
    }

    /// How much longer than the latency of their links so many bytes of a connection may take.
    pub fn crossing(&self, bytes: u64) -> u64 {
        self.links.crossing(bytes, 2 * self.one_way)
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

    /// Whether a partition or a crash may have killed this client's connection before `to`.
    pub fn is_cut(&self, life: &Life, to: u64) -> bool {
        let hits = |cut: &Outage| cut.from <= to && life.connecting <= cut.to;
        let mut cuts = self.cuts.iter().filter(|cut| cut.zone == life.zone);
        cuts.any(hits) || self.downs.iter().any(hits)
    }

    /// Whether this client's link was held, cut or slowed at some time of its life.
    pub fn is_hurt(&self, life: &Life) -> bool {
        let end = life.ended.map_or(u64::MAX, |(t, _)| t);
        let hits = |hold: &Outage| {
            let over = hold.to.saturating_add(self.one_way);
            hold.zone == life.zone && hold.from <= end && life.connecting <= over
        };
        self.is_cut(life, end) || self.holds.iter().any(hits)
    }

    /// Whether this client's link was held for so long at some time of its life before `to`.
    pub fn is_held(&self, life: &Life, to: u64, micros: u64) -> bool {
        let is_it = |hold: &Outage| {
            hold.zone == life.zone
                && hold.from <= to
                && life.connecting <= hold.to
                && hold.to.saturating_sub(hold.from) >= micros
        };
        self.holds.iter().any(is_it)
    }

    /// How many sessions the product has ended for this cause.
    pub fn ended_for(&self, cause: &str) -> usize {
        let is_it = |entry: &&Entry| {
            let Event::Log {
                message, fields, ..
            } = &entry.event
            else {
                return false;
            };
            message == "session closed" && fields.get("cause").is_some_and(|it| it == cause)
        };
        self.entries.iter().filter(is_it).count()
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
        let lost = |held: &&Held| held.lost_lagged + held.lost_not_taken > 0;
        self.helds.iter().any(lost)
    }

    /// The clients of a service, with their numbers.
    pub fn clients_of(&self, service: &str) -> impl Iterator<Item = (u32, &Life)> {
        self.clients
            .iter()
            .filter(move |(_, life)| life.service == service)
            .map(|(client, life)| (*client, life))
    }

    /// What the clients of a user's own test noted, with the time and the client.
    pub fn noted(&self) -> impl Iterator<Item = (u64, u32, &str)> {
        self.entries.iter().filter_map(|entry| {
            let Event::Noted { client, text } = &entry.event else {
                return None;
            };
            Some((entry.t, *client, text.as_str()))
        })
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
                self.attempts += 1;
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
            Event::Did { client, deed } => {
                self.with(*client, |life| life.deeds.push((t, deed.clone())));
            }
            Event::Told { client, notice } => {
                self.with(*client, |life| life.told.push((n, *notice)));
            }
            Event::Refused { client, reason } => {
                self.with(*client, |life| {
                    life.refused = Some((t, reason.clone()));
                    // A client that is refused by name was upgraded before, for that notice alone.
                    life.connected = None;
                    life.sent.clear();
                });
            }
            Event::Acted { action } => self.take_action(t, action),
            Event::Held(held) => {
                self.held = Some(held);
                self.helds.push(held);
            }
            Event::Started => {
                self.started = usize::try_from(n).unwrap_or(0);
                end(&mut self.downs, t, |_| true);
                let line = match self.lines.last() {
                    Some(line) if self.leaves => *line,
                    Some(_) | None => self.lines.len(),
                };
                self.lines.push(line);
                self.leaves = false;
            }
            Event::AcceptFailed
            | Event::Accepted { .. }
            | Event::Answered { .. }
            | Event::Called { .. }
            | Event::Unanswered { .. }
            | Event::Blocked { .. }
            | Event::Dropped { .. }
            | Event::Failed { .. }
            | Event::Finished { .. }
            | Event::Journal { .. }
            | Event::Log { .. }
            | Event::Noted { .. }
            | Event::Panicked { .. }
            | Event::Read { .. }
            | Event::ReadEnd { .. }
            | Event::Room { .. }
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
        let of = |zone: u8| move |outage: &Outage| outage.zone == zone;
        match *action {
            Action::Crash | Action::PowerLoss => {
                self.downs.push(outage(0));
                self.held = None;
                self.leaves = false;
            }
            Action::Restart => {
                self.downs.push(outage(0));
                self.restarts.push(t);
                self.held = None;
                self.leaves = true;
            }
            Action::Drain => self.drained = self.drained.or(Some(t)),
            Action::Exhaust { ms } => self.exhausted.push(Outage {
                to: t + ms * 1000,
                ..outage(0)
            }),
            Action::Hold { zone } => self.holds.push(outage(zone)),
            Action::Partition { zone, .. } => self.cuts.push(outage(zone)),
            Action::Release { zone } => end(&mut self.holds, t, of(zone)),
            Action::Repair { zone } => end(&mut self.cuts, t, of(zone)),
            Action::Wall { by_ms } => self.walls.push((t, by_ms.saturating_mul(1000))),
            Action::Abort { .. }
            | Action::Act { .. }
            | Action::Bandwidth { .. }
            | Action::Bounce
            | Action::Call { .. }
            | Action::Connect { .. }
            | Action::Latency { .. }
            | Action::Leave { .. }
            | Action::Start { .. }
            | Action::Text { .. } => {}
        }
    }

    fn with(&mut self, client: u32, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.clients.get_mut(&client) {
            change(life);
        }
    }
}

/// The zones of the backends of a plan.
fn backends(plan: &Plan) -> BTreeMap<u32, u8> {
    let errands = plan.errands();
    let zones = errands.values().map(|of| (of.client, of.zone));
    zones.collect()
}

/// Ends those that have no end yet.
fn end(outages: &mut [Outage], t: u64, is_it: impl Fn(&Outage) -> bool) {
    let open = |outage: &&mut Outage| outage.to == u64::MAX && is_it(outage);
    outages
        .iter_mut()
        .filter(open)
        .for_each(|outage| outage.to = t);
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
            refused: None,
            told: Vec::new(),
            deeds: Vec::new(),
        }
    }

    /// Whether it does nothing but what a client should, as far as the server can see.
    pub fn is_polite(&self) -> bool {
        self.deeds.iter().all(|(_, deed)| match deed {
            Deed::Ask { .. }
            | Deed::Binary { .. }
            | Deed::Fragments { .. }
            | Deed::Ping
            | Deed::Read { .. }
            | Deed::Resume
            | Deed::Speak { .. }
            | Deed::Tell { .. }
            | Deed::Trickle { .. }
            | Deed::Wish { .. } => true,
            Deed::Flood { .. }
            | Deed::HalfClose
            | Deed::Offend { .. }
            | Deed::Opening { .. }
            | Deed::Partial
            | Deed::Reset
            | Deed::Sip { .. }
            | Deed::Stop
            | Deed::Vanish => false,
        })
    }

    /// When it was gone, by its own doing or not.
    pub fn gone(&self) -> u64 {
        let ends = [
            self.leaving.map(|(t, _)| t),
            self.closed.map(|(t, _)| t),
            self.ended.map(|(t, _)| t),
            self.refused.as_ref().map(|(t, _)| *t),
        ];
        ends.into_iter().flatten().min().unwrap_or(u64::MAX)
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
