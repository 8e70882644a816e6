//! Carries a plan out: one fresh thread, one network, from the first action to the end.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::join;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::backend;
use crate::client;
use crate::entropy;
use busline::bus::Saved;

use crate::host::{Seen, Server};
use crate::net::{Death, Descriptors, Dial, Fault, Loopback, Net, Simnet, Turmoil};
use crate::places::Places;
use crate::plan::{Action, Errands, Plan, Script, Step, Timed};
use crate::raw;
use crate::rt::{panic_text, wall_at};
use crate::script::Start;
use crate::shared::Shared;
use crate::trace::{Event, LogTap, Recorder, Trace};
use crate::wild::is_legal_code;

/// A run that came to no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// The seed of the plan.
    pub seed: u64,
    /// What went wrong.
    pub text: String,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.text)
    }
}

impl std::error::Error for RunError {}

/// The network of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Real sockets on the loopback interface, in real time: no run is like another.
    Loopback,
    /// Our own.
    Simnet,
    /// That of the crate turmoil.
    Turmoil,
}

/// Steps and the least latency of what runs on turmoil, unless the plan has its own.
const TURMOIL_TICK_MS: u64 = 10;
/// Steps on real sockets.
const LOOPBACK_TICK_MS: u64 = 5;
/// How late a busy machine may be in real time.
const LOOPBACK_SLACK_MS: u64 = 700;

impl Backend {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Loopback, Self::Simnet, Self::Turmoil];

    /// The network on which a plan is run when nobody says which.
    pub fn of(plan: &Plan) -> Self {
        match plan.wild {
            None => Self::Turmoil,
            Some(_) => Self::Simnet,
        }
    }

    /// The plan with what this network can do: it is run, and judged, as that.
    pub fn fit(self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        let network = &mut plan.network;
        match self {
            Self::Simnet => network.slack_ms = 0,
            Self::Turmoil => {
                network.slack_ms = 0;
                // A latency is at least a tick there, and what sends in steps looks slow.
                if network.latency_ms_min < network.tick_ms {
                    network.tick_ms = network.tick_ms.min(TURMOIL_TICK_MS);
                    network.latency_ms_min = network.latency_ms_min.max(network.tick_ms);
                    network.latency_ms_max = network.latency_ms_max.max(network.latency_ms_min);
                }
            }
            Self::Loopback => {
                network.slack_ms = LOOPBACK_SLACK_MS;
                network.tick_ms = LOOPBACK_TICK_MS;
            }
        }
        plan
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|backend| backend.to_string() == name);
        known.ok_or_else(|| format!("`{name}` is none of simnet, turmoil, loopback"))
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Simnet => "simnet",
            Self::Turmoil => "turmoil",
        })
    }
}

/// Carries the plan out on the network it is meant for.
///
/// # Errors
///
/// As [`run_on`].
pub fn run(plan: &Plan) -> Result<Trace, RunError> {
    run_on(plan, Backend::of(plan))
}

/// Carries the plan out on this network; the plan must be [fit](Backend::fit) for it.
///
/// # Errors
///
/// When the platform cannot repeat runs, or the network, a client or the simulator panicked.
pub fn run_on(plan: &Plan, backend: Backend) -> Result<Trace, RunError> {
    let seed = plan.seed;
    let failed = |text| RunError { seed, text };
    let plan = plan.clone();
    if backend == Backend::Loopback {
        // In real time with real randomness.
        let network = plan.network.clone();
        let net = move || Loopback::new(&network).map_err(|error| error.to_string());
        let ran = on_thread(seed, move || net().and_then(|net| drive(net, &plan)));
        return ran.and_then(|result| result).map_err(failed);
    }
    entropy::canary().map_err(|error| failed(error.to_string()))?;
    isolated(seed, move || {
        let network = &plan.network;
        match backend {
            Backend::Loopback | Backend::Simnet => {
                let tcp = plan.wild.as_ref().map(|wild| wild.tcp.clone());
                drive(Simnet::new(seed, network, &tcp.unwrap_or_default()), &plan)
            }
            Backend::Turmoil => drive(Turmoil::new(seed, network), &plan),
        }
    })
    .and_then(|result| result)
    .map_err(failed)
}

/// Runs `body` on a fresh thread, armed with the seed; a panic becomes an error.
pub(crate) fn isolated<T: Send + 'static>(
    seed: u64,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    #[cfg(feature = "planted")]
    let bug = busline::planted::planted();
    on_thread(seed, move || {
        #[cfg(feature = "planted")]
        busline::planted::plant(bug);
        let _armed = entropy::arm(seed, wall_at(Duration::ZERO));
        body()
    })
}

/// Runs `body` on a fresh thread; a panic becomes an error.
fn on_thread<T: Send + 'static>(
    seed: u64,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let thread = thread::Builder::new().name(format!("seed-{seed}"));
    let running = thread
        .spawn(body)
        .map_err(|error| format!("no thread: {error}"))?;
    running
        .join()
        .map_err(|panic| format!("panicked: {}", panic_text(panic.as_ref())))
}

/// The time between two looks at a server that ends.
const LOOK: Duration = Duration::from_millis(20);

/// One run, while it goes on.
struct Drive<N> {
    net: N,
    recorder: Recorder,
    seen: Seen,
    descriptors: Descriptors,
    start: Shared<Start>,
    zones: u8,
    shutdown: Option<oneshot::Sender<()>>,
    /// Whether a server was started and has not crashed since; it may not have run yet.
    is_up: bool,
    /// Whether the server ends, and another one is to follow.
    restarts: bool,
    left: Shared<Vec<Saved>>,
}

fn drive<N: Net>(net: N, plan: &Plan) -> Result<Trace, String> {
    let clients = |net: &mut N, recorder: &Recorder| populate(net, plan, recorder);
    perform(net, plan, |server| server, clients)
}

/// Carries out what a plan does from outside, with this server and these clients.
pub(crate) fn perform<N: Net>(
    net: N,
    plan: &Plan,
    server: impl FnOnce(Server) -> Server,
    clients: impl FnOnce(&mut N, &Recorder),
) -> Result<Trace, String> {
    let recorder = Recorder::new(N::host_clock());
    let _logs = tracing::subscriber::set_default(LogTap::new(recorder.clone()));
    let (shutdown, stop) = oneshot::channel();
    let server = server(Server::new(plan, recorder.clone(), stop));
    let mut drive = Drive {
        net,
        recorder,
        seen: server.seen(),
        descriptors: server.descriptors(),
        start: server.start(),
        zones: plan.network.zones,
        shutdown: Some(shutdown),
        is_up: true,
        restarts: false,
        left: server.left(),
    };
    drive.net.server(move |accept| server.clone().run(accept))?;
    let (seen, looking) = (drive.seen.clone(), drive.recorder.clone());
    drive.net.at_rest(move || seen.record_statuses(&looking));
    clients(&mut drive.net, &drive.recorder);
    drive.act(plan)?;
    drive.seen.record_held(&drive.recorder);
    // What is dropped with the network is no part of the run.
    Ok(drive.recorder.finish())
}

/// The clients and the backends of a zone.
#[derive(Default)]
struct People {
    scripts: Vec<Script>,
    errands: Vec<Errands>,
}

/// Puts the clients and the backends into their zones.
fn populate<N: Net>(net: &mut N, plan: &Plan, recorder: &Recorder) {
    let mut zones: BTreeMap<u8, People> = BTreeMap::new();
    for zone in 0..plan.network.zones {
        zones.insert(zone, People::default());
    }
    for script in plan.scripts().into_values() {
        if let Some(zone) = zones.get_mut(&script.zone) {
            zone.scripts.push(script);
        }
    }
    for errands in plan.errands().into_values() {
        if let Some(zone) = zones.get_mut(&errands.zone) {
            zone.errands.push(errands);
        }
    }
    let places = Places::default();
    for (zone, people) in zones {
        let (recorder, places) = (recorder.clone(), places.clone());
        net.zone(zone, move |dial| crowd(people, dial, recorder, places));
    }
}

impl<N: Net> Drive<N> {
    /// Lets time pass to the end of the plan, and does what is due from outside.
    fn act(&mut self, plan: &Plan) -> Result<(), String> {
        let mut due = plan.outside().into_iter().peekable();
        while self.net.now() < plan.end() {
            let now = self.net.now();
            self.recorder.set_now(now);
            entropy::set_clocks(now, self.recorder.wall());
            let is_due = |timed: &Timed| Duration::from_millis(timed.at_ms) <= now;
            while let Some(timed) = due.next_if(is_due) {
                self.strike(timed.action)?;
            }
            let next = due.peek().map_or(plan.end_ms, |timed| timed.at_ms);
            let mut until = Duration::from_millis(next).min(plan.end());
            if self.restarts {
                until = until.min(now + LOOK);
            }
            self.net.step(until)?;
            self.recorder.set_now(self.net.now());
            self.seen.record_statuses(&self.recorder);
            if self.restarts && self.seen.is_over() {
                self.follow()?;
            }
        }
        Ok(())
    }

    /// The next server takes the place of one that has ended.
    fn follow(&mut self) -> Result<(), String> {
        self.restarts = false;
        // The order to drain is for the last server of a run.
        let (Some(process), Some(_)) = (self.seen.process(), &self.shutdown) else {
            return Ok(());
        };
        self.seen.record_held(&self.recorder);
        let saved = self.seen.export();
        self.left.with(|left| *left = saved);
        let (net, seen, recorder) = (&mut self.net, &self.seen, &self.recorder);
        recorder.muted(|| {
            net.crash(Death::Crash, &process);
            seen.forget();
            net.bounce()
        })
    }

    /// Does what comes from outside, unless there is nothing that it could be done to.
    fn strike(&mut self, action: Action) -> Result<(), String> {
        let now = self.net.now();
        match action {
            Action::Abort { .. }
            | Action::Act { .. }
            | Action::Call { .. }
            | Action::Connect { .. }
            | Action::Leave { .. }
            | Action::Text { .. } => {}
            Action::Bandwidth {
                zone,
                bytes_per_second,
            } => self.fault(zone, Fault::Bandwidth(bytes_per_second), action),
            Action::Bounce => {
                // One on an address of two would take the other's clients.
                if !self.is_up {
                    self.is_up = true;
                    self.act_out(action);
                    let (net, recorder) = (&mut self.net, &self.recorder);
                    recorder.muted(|| net.bounce())?;
                }
            }
            Action::Crash => self.crash(Death::Crash, action),
            Action::Drain => {
                self.act_out(action);
                // The second of two drains finds nobody to tell, and so does one of no server.
                if let Some(shutdown) = self.shutdown.take() {
                    let _nobody = shutdown.send(());
                }
            }
            Action::Exhaust { ms } => {
                self.act_out(action);
                self.descriptors.exhaust(now + Duration::from_millis(ms));
            }
            Action::Hold { zone } => self.fault(zone, Fault::Hold, action),
            Action::Latency {
                zone,
                ms_min,
                ms_max,
            } => self.fault(zone, Fault::Latency(ms_min, ms_max), action),
            Action::Partition { zone, way } => self.fault(zone, Fault::Partition(way), action),
            Action::PowerLoss => self.crash(Death::PowerLoss, action),
            Action::Release { zone } => self.fault(zone, Fault::Release, action),
            Action::Repair { zone } => self.fault(zone, Fault::Repair, action),
            Action::Restart => {
                if self.is_up && self.shutdown.is_some() && !self.restarts {
                    self.act_out(action);
                    self.restarts = true;
                    self.seen.stop();
                }
            }
            Action::Start { how } => {
                self.act_out(action);
                self.start.with(|start| *start = how);
            }
            Action::Wall { by_ms } => {
                self.act_out(action);
                self.recorder.set_wall(by_ms);
                entropy::set_clocks(now, self.recorder.wall());
            }
        }
        Ok(())
    }

    fn act_out(&self, action: Action) {
        self.recorder.record(Event::Acted { action });
    }

    fn fault(&mut self, zone: u8, fault: Fault, action: Action) {
        if zone < self.zones {
            self.act_out(action);
            self.net.strike(zone, fault);
        }
    }

    fn crash(&mut self, death: Death, action: Action) {
        let Some(process) = self.seen.process() else {
            return;
        };
        // What it has counted is told before it is gone.
        self.seen.record_held(&self.recorder);
        self.act_out(action);
        let (net, seen) = (&mut self.net, &self.seen);
        self.is_up = false;
        self.restarts = false;
        self.recorder.muted(|| {
            net.crash(death, &process);
            seen.forget();
        });
    }
}

/// All clients and backends of one zone.
async fn crowd(people: People, dial: impl Dial, recorder: Recorder, places: Places) {
    let (backends, seen) = (dial.clone(), recorder.clone());
    let errands = people.errands.into_iter();
    let calling = errands.map(move |errands| backend::run(errands, backends.clone(), seen.clone()));
    let calling = calling.collect::<FuturesUnordered<_>>().collect::<()>();
    let clients = people.scripts.into_iter().map(|script| {
        let (dial, recorder) = (dial.clone(), recorder.clone());
        let needs_raw = |(_, step): &(Duration, Step)| match step {
            Step::Act(_) => true,
            Step::Leave(code) => !is_legal_code(*code),
            Step::Abort | Step::Text(_) => false,
        };
        if script.steps.iter().any(needs_raw) {
            raw::run(script, dial, recorder, places.clone()).left_future()
        } else {
            client::run(script, dial, recorder).right_future()
        }
    });
    // Only those that are woken are polled.
    let talking = clients.collect::<FuturesUnordered<_>>().collect::<()>();
    join(talking, calling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_run_becomes_an_error() {
        let result = isolated(7, || panic!("planted"));
        assert_eq!(result, Err::<(), _>("panicked: planted".to_owned()));
    }
}
