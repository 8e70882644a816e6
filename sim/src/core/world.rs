//! Carries a plan out on the core, and keeps what the rules look at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use busline::app::App;
use busline::bus::MessageBus;
use busline::registry::{ServiceStatus, State};
use busline::session::{Admission, Cause, Session};
use futures::FutureExt;

pub(crate) use super::client::Client;
use super::client::Conduct;
use super::company::Company;
use super::executor::Executor;
use super::journals::{Journals, Shows};
use super::observers::Observers;
use super::offences;
use super::peer::{HEAD, JSON_HEAD, Peer};
use super::pipe::{Pipe, Shape};
use super::plan::{Plan, Step};
use super::rooms::{Maker, Rooms};
use super::rules::{self, Found};
use super::services::{Bodies, SCRIPT, SERVICES, register};
use crate::checker::{Breach, Violation};
use crate::hall::hall;
use crate::host;
use crate::journal::{JOURNAL, scribe};
use crate::rng::Rng;
use crate::shared::Shared;
use crate::trace::{Event, Recorder, micros};
use crate::wild::{Deed, Lengths, Offence};

/// Polls without rest after which the tasks are taken to keep each other awake for ever.
const POLLS_MAX: u32 = 100_000;

/// The core, the clients around it, and what was seen.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rt: Executor,
    pub(crate) app: App<Executor>,
    pub(crate) recorder: Recorder,
    pub(crate) bodies: Vec<Bodies>,
    pub(crate) clients: BTreeMap<u32, Client>,
    pub(crate) observers: Observers,
    pub(crate) rooms: Rooms,
    pub(crate) journals: Journals,
    pub(crate) company: Company,
    pub(crate) lives: rules::Lives,
    statuses: BTreeMap<&'static str, ServiceStatus>,
    /// Messages that the plan has published.
    pub(crate) noted: u64,
    pub(crate) drained: Option<Duration>,
    pub(crate) served: Shared<Option<usize>>,
    /// When the clock last jumped.
    pub(crate) jumped: Option<Duration>,
    pub(crate) killed: bool,
    pub(crate) violations: Vec<Violation>,
    pub(crate) marks: BTreeSet<&'static str>,
}

impl World {
    /// The marks that are seen of the whole run.
    pub(crate) fn marks_at_end(&self) -> Vec<&'static str> {
        let counts = self.app.counts();
        let most = |service| {
            let of = self
                .clients
                .values()
                .filter(|client| client.service == service);
            of.count()
        };
        let found = [
            ("loss told to an observer", self.observers.told > 0),
            (
                "message at hand at the end",
                // A text after the end is refused, and counts as one of these.
                counts.sessions.lost_not_taken > 0 && !self.journals.may_end(),
            ),
            (
                "nothing was left of a drain",
                self.served.with(|served| *served == Some(0)),
            ),
            (
                "several clients of one instance",
                SERVICES.into_iter().any(|s| most(s) > 1),
            ),
        ];
        let reached = found.into_iter().filter(|(_, is_reached)| *is_reached);
        reached.map(|(mark, _)| mark).collect()
    }

    pub(crate) fn new(plan: &Plan, recorder: Recorder) -> Self {
        let rt = Executor::new(plan.seed, plan.order);
        let bodies: Vec<Bodies> = SERVICES.iter().map(|_| Bodies::default()).collect();
        let builder = App::builder(rt.clone())
            .limits(plan.limits())
            .lifecycle(plan.wild.lifecycle())
            .slow_consumer(plan.wild.slow_consumer());
        let rooms = Rooms::default();
        let around = rooms.halls.around(&rt, &recorder);
        let builder = match plan.wild.rooms {
            None => builder,
            Some(bounds) => bounds
                .register(builder, &plan.wild, move |ctx| hall(ctx, around.clone()))
                .expect("the names are valid and different"),
        };
        let builder = match plan.journal {
            None => builder,
            Some(journal) => journal
                .register(builder, &plan.wild, scribe)
                .expect("the names are valid and different"),
        };
        let app = register(builder, &rt, &bodies);
        Self {
            rooms,
            journals: Journals::default(),
            company: Company::default(),
            observers: Observers::new(plan.limits().window),
            lives: rules::Lives::new(plan.wild.lifecycle()),
            plan: plan.clone(),
            rt,
            app,
            recorder,
            bodies,
            clients: BTreeMap::new(),
            statuses: BTreeMap::new(),
            noted: 0,
            drained: None,
            served: Shared::default(),
            jumped: None,
            killed: false,
            violations: Vec::new(),
            marks: BTreeSet::new(),
        }
    }

    /// Does everything, and lets enough time pass for everybody to go.
    pub(crate) fn carry_out(&mut self) {
        for step in self.plan.steps.clone() {
            self.step(step);
            self.look();
            if !self.violations.is_empty() {
                return;
            }
        }
        self.drain();
        self.settle();
        let wild = &self.plan.wild;
        let enough = wild.close_timeout_ms + wild.stop_grace_ms + 1;
        let enough = Duration::from_millis(enough) + self.app.limits().arrivals_timeout();
        self.advance(enough);
        self.observers.clear();
        let found = rules::journal_at_end(self);
        self.judge("journal", found);
        let found = rules::answered(self);
        self.judge("answered", found);
        let found = rules::at_end(self);
        self.judge("rest", found);
        let found = rules::restart(self);
        self.judge("restart", found);
    }

    pub(crate) fn judge(&mut self, checker: &'static str, found: Found) {
        if let Err(text) = found {
            let breach = Breach::new(micros(self.rt.time()), text);
            self.violations.push(Violation { checker, breach });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Advance { ms } => self.advance(Duration::from_millis(ms)),
            Step::Come {
                client,
                room,
                of,
                ahead,
                last,
                address,
            } => {
                // Where leaves are held back, clients of one address are of one subject.
                let journal = self.plan.journal;
                let has_subjects = journal.is_some_and(|it| it.leave_delay_ms.is_some());
                let subject = if has_subjects { address + 1 } else { 0 };
                let shows = Shows { of, ahead, last };
                self.come(client, &room, shows, Maker { address, subject });
            }
            Step::Connect { client, service } => self.connect(client, &service),
            Step::Deafen { client } => {
                let now = self.rt.time();
                self.with(client, |client| {
                    client.conduct.deaf_since.get_or_insert(now);
                    client.peer.deafen();
                });
            }
            Step::Drain => self.drain(),
            Step::Drop { client } => self.drop_session(client),
            Step::Enter {
                client,
                room,
                address,
                subject,
            } => self.enter(client, &room, Maker { address, subject }),
            Step::End { room, data } => self.end(&room, data),
            Step::Erase { room } => self.erase(&room),
            Step::Evict { room } => self.evict(&room),
            Step::Fragments {
                client,
                text,
                bytes,
            } => self.with(client, |client| client.peer.fragments(&text, bytes)),
            Step::HalfClose { client } => self.with(client, |client| {
                client.conduct.broke = true;
                client.peer.half_close();
            }),
            Step::Jump { ms } => self.jump(Duration::from_millis(ms)),
            Step::Kill => self.kill(),
            Step::Leave { client, code } => self.with(client, |client| {
                client.conduct.left = true;
                client.peer.leave(code);
            }),
            Step::Look { observer, bytes } => {
                let found = self.observers.look(observer, bytes);
                self.judge("window", found);
            }
            Step::LookUp {
                client,
                id,
                limit,
                reverse,
            } => self.look_up(client, id, limit, reverse),
            Step::Note { topic, bytes } => self.note(topic, bytes),
            Step::Offend { client, offence } => self.offend(client, offence),
            Step::Ping { client } => self.with(client, |client| client.peer.ping()),
            Step::Record {
                room,
                text,
                count,
                live,
            } => self.record_texts(&room, &text, count, live),
            Step::Reset { client } => self.with(client, |client| {
                client.conduct.broke = true;
                client.peer.reset();
            }),
            Step::Resume { client } => self.with(client, |client| client.peer.read(None)),
            Step::Run { polls } => self.run(polls),
            Step::Settle => self.settle(),
            Step::Sip { client, bytes } => self.with(client, |client| {
                if client.conduct.deaf_since.is_none() {
                    client.conduct.stopped = true;
                    client.peer.read(Some(bytes));
                }
            }),
            Step::Tell {
                client,
                id,
                text,
                live,
            } => self.tell(client, id, &text, live),
            Step::Text { client, text } => {
                self.note_line(client, &text);
                self.note_order(client, &text);
                self.with(client, |client| client.peer.text(&text));
            }
            Step::Unwatch { observer } => self.observers.unwatch(observer),
            Step::Watch { observer, topic } => {
                let found = self.observers.watch(self.app.bus(), observer, topic);
                self.judge("window", found);
            }
        }
    }

    fn with(&mut self, client: u32, act: impl FnOnce(&mut Client)) {
        if let Some(client) = self.clients.get_mut(&client) {
            act(client);
        }
    }

    fn connect(&mut self, client: u32, service: &str) {
        let name = SERVICES.iter().find(|name| **name == service).copied();
        let (Some(service), false) = (name, self.clients.contains_key(&client)) else {
            return;
        };
        self.recorder.record(Event::Connecting {
            client,
            service: service.to_owned(),
            zone: 0,
        });
        let before = self.app.registry().status(service);
        let open = self.app.sessions_open();
        let requested = Admission::request(&self.app, service);
        let found = rules::admission(self, before, open, requested.as_ref().map(drop));
        self.judge("admission", found);
        let admission = match requested {
            Ok(admission) => admission,
            Err(error) => {
                let reason = error.to_string();
                return self.recorder.record(Event::Refused { client, reason });
            }
        };
        self.recorder.record(Event::Connected { client });
        let since = before.map_or(1, |status| next_to_serve(&status));
        self.open(client, service, admission, since);
    }

    pub(super) fn open(
        &mut self,
        client: u32,
        service: &'static str,
        admission: Admission<Executor>,
        since: u64,
    ) {
        let tcp = &self.plan.wild.tcp;
        let shape = Shape {
            capacity: tcp.send_bytes,
            is_short: tcp.lengths != Lengths::Full,
        };
        let rng = Rng::keyed(self.plan.seed, "pipe", u64::from(client));
        let pipe = Pipe::new(&shape, rng, &self.rt);
        let head = if service == JOURNAL { JSON_HEAD } else { HEAD };
        self.recorder.record(Event::Written {
            conn: client,
            data: head.into(),
        });
        let peer = Peer::new(client, pipe.clone(), self.recorder.clone(), head);
        let (id, room) = (admission.client(), admission.room().clone());
        let of = room.clone();
        let session = Session::new(admission, pipe.socket(client, &self.recorder));
        let ended = Shared::<Option<Option<Cause>>>::default();
        let told = ended.clone();
        let task = async move {
            let cause = session.await;
            // As the shell says it.
            let service = of.to_string();
            tracing::debug!(target: "busline::core", client, service, %cause, "session closed");
            told.with(|told| *told = Some(Some(cause)));
        };
        let task = self.rt.add(task.boxed());
        peer.start(&self.rt);
        self.clients.insert(
            client,
            Client {
                service,
                room,
                id,
                peer,
                task,
                since,
                ended,
                conduct: Conduct::default(),
                sent_before_drain: 0,
                is_judged: false,
            },
        );
    }

    fn drop_session(&mut self, client: u32) {
        let Some(client) = self.clients.get(&client) else {
            return;
        };
        if !client.is_ended() {
            self.rt.kill(client.task);
            client.ended.with(|ended| *ended = Some(None));
            self.marks.insert("session dropped");
        }
    }

    fn kill(&mut self) {
        let tasks = self.bodies[2].tasks();
        for task in tasks {
            self.killed = true;
            self.marks.insert("instance dropped");
            self.rt.kill(task);
        }
    }

    fn offend(&mut self, client: u32, offence: Offence) {
        let limit = self.plan.wild.message_bytes;
        let Some(bytes) = offences::bytes(offence, limit) else {
            return;
        };
        let Some(of) = self.clients.get_mut(&client) else {
            return;
        };
        if of.peer.is_talking() {
            let deed = Deed::Offend { offence };
            self.recorder.record(Event::Did { client, deed });
            of.conduct.offended = Some(offence);
            of.peer.offend(&bytes);
        }
    }

    fn note(&mut self, topic: u8, bytes: usize) {
        self.noted += 1;
        let number = self.noted;
        let text = format!("{number} {}", "x".repeat(bytes));
        let topic = Observers::topic(topic);
        self.observers.note(&topic, &text);
        self.app.bus().publish(&topic, text.into());
    }

    fn drain(&mut self) {
        if self.drained.is_some() {
            return;
        }
        self.drained = Some(self.rt.time());
        let action = crate::plan::Action::Drain;
        self.recorder.record(Event::Acted { action });
        if self.app.sessions_open() > 0 {
            self.marks.insert("drain with sessions");
        }
        for client in self.clients.values_mut() {
            client.sent_before_drain = client.peer.talk(|sent, _| sent.len());
            if !client.is_ended() && client.peer.pipe.unread() > 0 {
                self.marks.insert("drain with something unread");
            }
        }
        self.app.drain();
        let (app, served) = (self.app.clone(), self.served.clone());
        let recorder = self.recorder.clone();
        let task = async move {
            app.drained().await;
            served.with(|served| *served = Some(app.sessions_open()));
            recorder.record(Event::Served { error: None });
        };
        self.rt.spawn_foreign(task.boxed());
    }

    /// Lets time pass: every timer in its turn, with what it sets off.
    fn advance(&mut self, wait: Duration) {
        let end = self.rt.time() + wait;
        loop {
            self.settle();
            if !self.violations.is_empty() {
                return;
            }
            let next = self.rt.next_timer().filter(|at| *at <= end);
            self.set_now(next.unwrap_or(end));
            if next.is_none() {
                return self.settle();
            }
        }
    }

    fn jump(&mut self, wait: Duration) {
        let now = self.rt.time() + wait;
        self.jumped = Some(now);
        self.set_now(now);
        self.marks.insert("jump of the clock");
    }

    fn set_now(&mut self, now: Duration) {
        self.recorder.set_now(now.max(self.rt.time()));
        self.rt.set_now(now);
    }

    fn run(&mut self, polls: u32) {
        for _ in 0..polls {
            if !self.rt.run_one() {
                return;
            }
            self.look();
        }
    }

    /// Runs until no task is ready, and judges what then is.
    fn settle(&mut self) {
        for _ in 0..POLLS_MAX {
            if !self.rt.run_one() {
                for (checker, found) in rules::at_rest(self) {
                    self.judge(checker, found);
                }
                return;
            }
            self.look();
            if !self.violations.is_empty() {
                return;
            }
        }
        self.judge("rest", Err("the tasks keep each other awake".to_owned()));
    }

    /// Looks at what the last step has changed.
    fn look(&mut self) {
        for text in self.rt.panics() {
            self.recorder.record(Event::Panicked { text: text.clone() });
            self.judge("rest", Err(format!("a task panicked: {text}")));
        }
        for service in SERVICES {
            let Some(status) = self.app.registry().status(service) else {
                continue;
            };
            if self.statuses.insert(service, status) == Some(status) {
                continue;
            }
            if let Some(name) = self.app.registry().name(service) {
                let status = host::status(&self.app, name.as_str(), &status);
                self.recorder.record(status);
            }
            let now = self.rt.time();
            let found = self
                .lives
                .take(service, now, &status, self.drained.is_some());
            self.judge("lifecycle", found);
        }
        self.look_at_rooms();
        self.look_at_journals();
        self.look_at_company();
        self.look_at_ends();
    }

    fn look_at_ends(&mut self) {
        let is_new = |client: &Client| !client.is_judged && client.is_ended();
        let ended = self.clients.iter().filter(|(_, client)| is_new(client));
        let numbers: Vec<u32> = ended.map(|(number, _)| *number).collect();
        for number in numbers {
            self.with(number, |client| client.is_judged = true);
            let found = rules::cause(self, number);
            self.judge("cause", found);
        }
    }

    /// What is seen of the instances of a service from within.
    pub(crate) fn bodies(&self, service: &str) -> &Bodies {
        let place = SERVICES.iter().position(|name| *name == service);
        &self.bodies[place.unwrap_or(0)]
    }

    /// Whether an instance runs that takes every message at once.
    pub(crate) fn is_taking(&self, service: &str) -> bool {
        let status = self.app.registry().status(service);
        let runs = status.is_some_and(|status| status.state == State::Running);
        runs && !self.bodies(service).is_busy()
    }

    /// Whether a client of any service but `script` was there.
    pub(crate) fn is_all_script(&self) -> bool {
        let mut clients = self.clients.values();
        clients.all(|client| client.service == SCRIPT)
    }
}

/// The oldest generation that serves who joins in this state.
pub(super) fn next_to_serve(status: &ServiceStatus) -> u64 {
    let last: u64 = status.generation.to_string().parse().unwrap_or(0);
    match status.state {
        State::Running | State::Lingering { .. } => last,
        State::Backoff { .. } | State::Failed { .. } | State::Stopped | State::Stopping { .. } => {
            last + 1
        }
    }
}
