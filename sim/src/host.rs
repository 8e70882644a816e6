//! The server of a run: the product as it is, and what is seen of it from outside.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use busline::App;
use busline::bus::{Room, Saved, ServiceName};
use busline::host::Hosts;
use busline::registry::{Page, ServiceStatus, State};
use busline::rt::Runtime;
use busline::server::{Accept, Listeners, serve};
use busline::service::{echo, ping, timenow};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Shared as SharedFuture, select};

use crate::calls;
use crate::diary::{self, Diary};
use crate::hall::{Surroundings, hall};
use crate::journal::scribe;
use crate::net::{Descriptors, Exhausted, TracedListener};
use crate::plan::Plan;
use crate::process::Process;
use crate::rt::SimRuntime;
use crate::script::{Start, script};
use crate::shared::Shared;
use crate::trace::{Event, Held, Recorder};
use crate::wild::Wild;

/// Virtual time that what is left of a server has to end after `serve` has returned.
const SETTLE: Duration = Duration::from_secs(1);

/// Builds the application, each time that the server is started.
pub(crate) type Build = Arc<dyn Fn(SimRuntime) -> App<SimRuntime> + Send + Sync>;

/// The software of the server's host; clones are the same server, started again.
#[derive(Clone)]
pub(crate) struct Server {
    seed: u64,
    build: Build,
    recorder: Recorder,
    shutdown: SharedFuture<oneshot::Receiver<()>>,
    /// Connections that were accepted, by all that were started.
    accepted: Shared<u32>,
    /// How often it was started.
    starts: Shared<u64>,
    descriptors: Descriptors,
    start: Shared<Start>,
    /// The histories that the last server has left, which the next one takes away.
    left: Shared<Vec<Saved>>,
    seen: Seen,
}

/// The server from outside.
#[derive(Clone, Default)]
pub(crate) struct Seen(Shared<Inner>);

#[derive(Default)]
struct Inner {
    /// The application and its runtime, while the host runs.
    app: Option<App<SimRuntime>>,
    process: Process,
    /// The last status recorded of each service and room, by its name.
    statuses: BTreeMap<String, ServiceStatus>,
    diary: Diary,
    /// Ends this server alone.
    stop: Option<oneshot::Sender<()>>,
    /// Whether it has ended.
    is_over: bool,
}

impl Server {
    /// A server that drains when `shutdown` completes.
    pub(crate) fn new(plan: &Plan, recorder: Recorder, shutdown: oneshot::Receiver<()>) -> Self {
        let start: Shared<Start> = Shared::default();
        let (wild, starts) = (plan.wild.clone(), start.clone());
        Self {
            seed: plan.seed,
            build: Arc::new({
                let recorder = recorder.clone();
                move |rt| application(rt, wild.as_ref(), starts.clone(), &recorder)
            }),
            recorder,
            shutdown: shutdown.shared(),
            accepted: Shared::default(),
            starts: Shared::default(),
            descriptors: Descriptors::default(),
            start,
            left: Shared::default(),
            seen: Seen::default(),
        }
    }

    /// The same, with another application.
    pub(crate) fn building(self, build: Build) -> Self {
        Self { build, ..self }
    }

    /// What is seen of it.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// What its system has for connections.
    pub(crate) fn descriptors(&self) -> Descriptors {
        self.descriptors.clone()
    }

    /// How its service `script` starts.
    pub(crate) fn start(&self) -> Shared<Start> {
        self.start.clone()
    }

    /// What a server leaves to the next one.
    pub(crate) fn left(&self) -> Shared<Vec<Saved>> {
        self.left.clone()
    }

    /// Serves until it is drained, in a process of its own.
    pub(crate) async fn run(self, accept: impl Accept<Addr = SocketAddr>) {
        let process = Process::default();
        self.seen.0.with(|inner| inner.process = process.clone());
        let body = self.serve(accept, process.clone());
        process.task(body.boxed()).await;
    }

    async fn serve(self, accept: impl Accept<Addr = SocketAddr>, process: Process) {
        self.recorder.record(Event::Started);
        // A process draws other numbers than the one before it.
        let others = self.starts.with(|starts| {
            *starts += 1;
            *starts - 1
        });
        let rt = SimRuntime::current(self.seed, others, process, self.recorder.clone());
        let app = (self.build)(rt);
        let left = self.left.with(std::mem::take);
        app.bus().import(&left);
        let (stop, stopped) = oneshot::channel();
        self.seen.0.with(|inner| {
            inner.stop = Some(stop);
            inner.is_over = false;
            inner.statuses.clear();
            inner.diary = Diary::default();
            inner.app = Some(app.clone());
        });
        let accept = Exhausted::new(accept, self.descriptors, self.recorder.clone());
        let listeners = Listeners::new(vec![accept]);
        let listener = TracedListener::new(listeners, self.recorder.clone(), self.accepted);
        let rt = app.rt().clone();
        let ends = select(self.shutdown, stopped).map(drop);
        let mut serving = pin!(serve(listener, app, ends));
        let served = poll_fn(|cx| {
            rt.stir();
            serving.as_mut().poll(cx)
        });
        let served = served.await;
        let error = served.err().map(|error| error.to_string());
        self.recorder.record(Event::Served { error });
        tokio::time::sleep(SETTLE).await;
        self.seen.0.with(|inner| inner.is_over = true);
    }
}

fn application(
    rt: SimRuntime,
    wild: Option<&Wild>,
    start: Shared<Start>,
    recorder: &Recorder,
) -> App<SimRuntime> {
    let builder = match wild {
        None => App::builder(rt),
        Some(wild) => App::builder(rt)
            .limits(wild.limits())
            .lifecycle(wild.lifecycle())
            .slow_consumer(wild.slow_consumer()),
    };
    // The networks of a simulation have no names; one of them is real loopback.
    let hosts = "server".parse().map(|host| Hosts::new(vec![host]));
    let services = builder
        .hosts(hosts.expect("it is a host"))
        .service("echo", echo)
        .and_then(|app| app.service("ping", ping))
        .and_then(|app| app.service("timenow", timenow));
    let services = match wild {
        None => services,
        Some(wild) => services.and_then(|app| {
            let start = move |ctx| script(ctx, start.with(|start| *start));
            let app = app.service("script", start)?;
            let app = match wild.calls {
                None => app,
                Some(_) => calls::open(app),
            };
            let app = match wild.rooms {
                None => app,
                Some(rooms) => {
                    let around = around(recorder);
                    rooms.register(app, wild, move |ctx| hall(ctx, around.clone()))?
                }
            };
            match wild.journal {
                None => Ok(app),
                Some(journal) => journal.register(app, wild, scribe),
            }
        }),
    };
    services.expect("the names are valid and different").build()
}

/// What the rooms of the server have around them: they write into the trace.
fn around(recorder: &Recorder) -> Surroundings {
    let recorder = recorder.clone();
    Surroundings {
        watch: Arc::new(move |room: &str, generation, seen| {
            let room = room.to_owned();
            recorder.record(Event::Room {
                room,
                generation,
                seen,
            });
        }),
        sleep: Arc::new(|wait| tokio::time::sleep(wait).boxed()),
    }
}

impl Seen {
    /// The process of the server that runs; `None` if none does.
    pub(crate) fn process(&self) -> Option<Process> {
        self.0
            .with(|inner| inner.app.is_some().then(|| inner.process.clone()))
    }

    /// Tells the server that runs to shut down, and no other.
    pub(crate) fn stop(&self) {
        let stop = self.0.with(|inner| inner.stop.take());
        if let Some(stop) = stop {
            // A server that has ended needs no order.
            let _over = stop.send(());
        }
    }

    /// Whether the server that ran has ended by an order.
    pub(crate) fn is_over(&self) -> bool {
        self.0.with(|inner| inner.is_over)
    }

    /// The histories of the server that has ended, without those of rooms with clients.
    pub(crate) fn export(&self) -> Vec<Saved> {
        let app = self.0.with(|inner| inner.app.clone());
        let mut all = app.map(|app| app.bus().export()).unwrap_or_default();
        all.retain(|saved| !saved.is_live);
        all
    }

    /// The server that runs does so no more, and what it held is gone.
    pub(crate) fn forget(&self) {
        let app = self.0.with(|inner| inner.app.take());
        drop(app);
    }

    /// Records the status of every service and the history of every room that has changed.
    pub(crate) fn record_statuses(&self, recorder: &Recorder) {
        let changed = self.0.with(Inner::changed);
        for status in changed {
            recorder.record(status);
        }
    }

    /// Records what the application has done and holds.
    pub(crate) fn record_held(&self, recorder: &Recorder) {
        let held = self.0.with(|inner| {
            let app = inner.app.as_ref()?;
            // A task frees the memory of histories until the end of the process.
            let own = usize::from(diary::is_kept(app));
            Some(held(app, app.rt().tasks().saturating_sub(own)))
        });
        if let Some(held) = held {
            recorder.record(Event::Held(Box::new(held)));
        }
    }
}

impl Inner {
    fn changed(&mut self) -> Vec<Event> {
        let Some(app) = self.app.as_ref().filter(|app| app.rt().was_stirred()) else {
            return Vec::new();
        };
        let registry = app.registry();
        let services = registry.names().filter_map(|name| {
            let status = registry.status(name.as_str())?;
            Some((name.to_string(), status))
        });
        let there = rooms(app);
        let rooms = there.iter().filter_map(|room| {
            let status = registry.room_status(room)?;
            Some((room.to_string(), status))
        });
        let all: BTreeMap<String, ServiceStatus> = services.chain(rooms).collect();
        let is_new =
            |(name, status): &(&String, &ServiceStatus)| self.statuses.get(*name) != Some(*status);
        let changed = all.iter().filter(is_new);
        let changed = changed.map(|(name, status)| self::status(app, name, status));
        let mut changed: Vec<Event> = changed.collect();
        self.statuses = all;
        changed.extend(self.diary.changed(app, &there));
        changed
    }
}

/// All rooms that are there.
pub(crate) fn rooms<R: Runtime>(app: &App<R>) -> Vec<Room> {
    const ALL: Page<'_> = Page {
        prefix: "",
        after: None,
        max: usize::MAX,
    };
    let registry = app.registry();
    let kinds = registry.names().map(ServiceName::as_str);
    let kinds = kinds.filter(|name| registry.has_rooms(name));
    let rooms = kinds.flat_map(|kind| app.rooms(kind, &ALL));
    rooms.map(|(room, _)| room).collect()
}

/// The status of a service or a room as an event.
pub(crate) fn status<R: Runtime>(app: &App<R>, service: &str, status: &ServiceStatus) -> Event {
    let state = match status.state {
        State::Backoff { .. } => "backoff",
        State::Failed { .. } => "failed",
        State::Lingering { .. } => "lingering",
        State::Running => "running",
        State::Stopped => "stopped",
        State::Stopping { .. } => "stopping",
    };
    Event::Status {
        service: service.to_owned(),
        state,
        generation: status.generation.to_string(),
        clients: status.clients,
        starts: status.counts.starts,
        exits: status.counts.exits,
        sessions_open: app.sessions_open(),
    }
}

/// What an application has done and holds, with so many tasks of its own.
pub(crate) fn held<R: Runtime>(app: &App<R>, tasks: usize) -> Held {
    let counts = app.counts();
    let (bus, sessions) = (counts.bus, counts.sessions);
    let registry = app.registry();
    let is_busy = |name: &&str| {
        registry
            .kind_status(name)
            .is_some_and(|status| !status.is_idle())
    };
    let names = registry.names().map(ServiceName::as_str);
    Held {
        topics: bus.topics,
        subscriptions: bus.subscriptions,
        bytes: bus.bytes,
        published: bus.messages.published,
        owed: bus.messages.owed,
        delivered: bus.messages.delivered,
        lost_lagged: bus.messages.lost_lagged,
        lost_superseded: bus.messages.lost_superseded,
        lost_unsubscribed: bus.messages.lost_unsubscribed,
        pending: bus.messages.pending,
        opened: sessions.opened,
        closed: sessions.closed,
        refused: sessions.refused,
        messages_in: sessions.messages_in,
        messages_out: sessions.messages_out,
        bytes_in: sessions.bytes_in,
        bytes_out: sessions.bytes_out,
        lost_not_taken: sessions.lost_not_taken,
        lost_unsent: sessions.lost_unsent,
        stale: sessions.stale,
        excluded: sessions.excluded,
        pings: sessions.pings,
        pauses: sessions.pauses,
        sessions_open: counts.sessions_open,
        tasks,
        busy: names.filter(is_busy).map(str::to_owned).collect(),
        rooms_open: registry.rooms_open() as u64,
        rooms: rooms(app).iter().map(Room::to_string).collect(),
    }
}
