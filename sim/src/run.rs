//! Carries a plan out: one fresh thread, one network, from the first action to the end.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::join_all;

use crate::client;
use crate::entropy;
use crate::host::{Seen, Server};
use crate::net::{Dial, Fault, Net, Simnet, Turmoil};
use crate::plan::{Action, Plan, Script, Step, Timed};
use crate::raw;
use crate::rt::{panic_text, wall_at};
use crate::trace::{Event, LogTap, Recorder, Trace};

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
    /// Our own.
    Simnet,
    /// That of the crate turmoil.
    Turmoil,
}

/// Carries the plan out on the network it is meant for.
///
/// # Errors
///
/// As [`run_on`].
pub fn run(plan: &Plan) -> Result<Trace, RunError> {
    let backend = match plan.wild {
        None => Backend::Turmoil,
        Some(_) => Backend::Simnet,
    };
    run_on(plan, backend)
}

/// Carries the plan out on this network.
///
/// # Errors
///
/// When the platform cannot repeat runs, or the network, a client or the simulator panicked.
pub fn run_on(plan: &Plan, backend: Backend) -> Result<Trace, RunError> {
    let seed = plan.seed;
    let failed = |text| RunError { seed, text };
    entropy::canary().map_err(|error| failed(error.to_string()))?;
    let plan = plan.clone();
    isolated(seed, move || {
        let network = &plan.network;
        match backend {
            Backend::Simnet => {
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
fn isolated<T: Send + 'static>(
    seed: u64,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let thread = thread::Builder::new().name(format!("seed-{seed}"));
    #[cfg(feature = "planted")]
    let bug = busline::planted::planted();
    let running = thread.spawn(move || {
        #[cfg(feature = "planted")]
        busline::planted::plant(bug);
        let _armed = entropy::arm(seed, wall_at(Duration::ZERO));
        body()
    });
    let running = running.map_err(|error| format!("no thread: {error}"))?;
    running
        .join()
        .map_err(|panic| format!("panicked: {}", panic_text(panic.as_ref())))
}

/// One run, while it goes on.
struct Drive<N> {
    net: N,
    recorder: Recorder,
    seen: Seen,
    shutdown: Option<oneshot::Sender<()>>,
}

fn drive<N: Net>(net: N, plan: &Plan) -> Result<Trace, String> {
    let recorder = Recorder::new(N::host_clock());
    let _logs = tracing::subscriber::set_default(LogTap::new(recorder.clone()));
    let (shutdown, stop) = oneshot::channel();
    let server = Server::new(plan, recorder.clone(), stop);
    let mut drive = Drive {
        net,
        recorder,
        seen: server.seen(),
        shutdown: Some(shutdown),
    };
    drive
        .net
        .server(move |listener| server.clone().run(listener));
    drive.populate(plan);
    drive.act(plan)?;
    drive.seen.record_held(&drive.recorder);
    // What is dropped with the network is no part of the run.
    Ok(drive.recorder.finish())
}

impl<N: Net> Drive<N> {
    /// Puts the clients into their zones.
    fn populate(&mut self, plan: &Plan) {
        let mut zones: BTreeMap<u8, Vec<Script>> = BTreeMap::new();
        for zone in 0..plan.network.zones {
            zones.insert(zone, Vec::new());
        }
        for script in plan.scripts().into_values() {
            if let Some(zone) = zones.get_mut(&script.zone) {
                zone.push(script);
            }
        }
        for (zone, scripts) in zones {
            let recorder = self.recorder.clone();
            self.net
                .zone(zone, move |dial| crowd(scripts, dial, recorder));
        }
    }

    /// Lets time pass to the end of the plan, and does what is due from outside.
    fn act(&mut self, plan: &Plan) -> Result<(), String> {
        let mut due = plan.outside().into_iter().peekable();
        while self.net.now() < plan.end() {
            let now = self.net.now();
            self.recorder.set_now(now);
            entropy::set_clocks(now, wall_at(now));
            let is_due = |timed: &Timed| Duration::from_millis(timed.at_ms) <= now;
            while let Some(timed) = due.next_if(is_due) {
                self.strike(timed.action);
            }
            self.net.step()?;
            self.recorder.set_now(self.net.now());
            self.seen.record_statuses(&self.recorder);
        }
        Ok(())
    }

    fn strike(&mut self, action: Action) {
        let struck = match action {
            Action::Hold { zone } => Some((zone, Fault::Hold)),
            Action::Partition { zone } => Some((zone, Fault::Partition)),
            Action::Release { zone } => Some((zone, Fault::Release)),
            Action::Repair { zone } => Some((zone, Fault::Repair)),
            Action::Drain => None,
            Action::Abort { .. }
            | Action::Act { .. }
            | Action::Connect { .. }
            | Action::Leave { .. }
            | Action::Text { .. } => return,
        };
        self.recorder.record(Event::Acted { action });
        match struck {
            Some((zone, fault)) => self.net.strike(zone, fault),
            // The second of two drains finds nobody to tell.
            None => drop(self.shutdown.take().map(|shutdown| shutdown.send(()))),
        }
    }
}

/// All clients of one zone.
async fn crowd(scripts: Vec<Script>, dial: impl Dial, recorder: Recorder) {
    let clients = scripts.into_iter().map(|script| {
        let (dial, recorder) = (dial.clone(), recorder.clone());
        let needs_raw = |(_, step): &(Duration, Step)| matches!(step, Step::Act(_));
        if script.steps.iter().any(needs_raw) {
            raw::run(script, dial, recorder).left_future()
        } else {
            client::run(script, dial, recorder).right_future()
        }
    });
    join_all(clients).await;
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
