//! The results of a run, as text and as JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::check::Found;
use super::crowd::Course;
use super::latencies::Percentiles;
use super::options::{Kind, Options};
use super::process::Process;

mod text;

/// Share of busy time from which on the generator may have limited the run.
const SATURATED: f64 = 0.95;

/// Share of a core below which other programs have disturbed a generator that never sleeps.
const DISTURBED: f64 = 0.9;

/// Shortest run that says something about the generator; an aborted run may be shorter.
const MEASURED_MIN: Duration = Duration::from_millis(10);

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) delivered: u64,
    pub(super) server_cpu: Option<Duration>,
    pub(super) own_cpu: Option<Duration>,
    pub(super) idle: Duration,
}

/// The processor time and the memory of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    cpu: Option<Duration>,
    resident_bytes: Option<u64>,
    connections: usize,
}

impl Held {
    /// The present values of the server's process.
    pub(super) fn now(process: Option<Process>) -> Self {
        Self {
            cpu: process.and_then(Process::cpu),
            resident_bytes: process.and_then(Process::resident_bytes),
            connections: 0,
        }
    }

    /// Combines two values, before and after `connections` were opened: the processor time in
    /// between, and the memory before.
    pub(super) fn until(self, after: Self, connections: usize) -> Self {
        let cpu = after.cpu.zip(self.cpu);
        Self {
            cpu: cpu.map(|(after, before)| after.saturating_sub(before)),
            resident_bytes: self.resident_bytes,
            connections,
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    workload: &'static str,
    server_url: String,
    clients: usize,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    /// The measured time.
    seconds: f64,
    /// Deliveries in the measured time.
    messages: u64,
    messages_per_second: f64,
    /// Messages in the whole run, including warm-up and end.
    sent: u64,
    delivered: u64,
    missing: u64,
    excess: u64,
    latency_us: Option<Percentiles>,
    server: Option<Server>,
    generator: Generator,
    verified: Option<Verified>,
    /// The number of lost connections, by how they ended.
    pub(super) connections_lost: BTreeMap<String, usize>,
}

/// The server's process.
#[derive(Clone, Debug, Serialize)]
struct Server {
    pid: u32,
    cpu_us_per_message: Option<f64>,
    /// Share of one core.
    cpu_share: Option<f64>,
    resident_bytes: Option<u64>,
    resident_bytes_per_connection: Option<f64>,
    cpu_us_per_connection: Option<f64>,
}

/// The generator's process.
#[derive(Clone, Debug, Serialize)]
struct Generator {
    /// Share of the time in which the generator was busy.
    busy: f64,
    /// Share of one core that the generator used.
    cpu_share: Option<f64>,
    /// Whether the generator was busy nearly all the time.
    saturated: bool,
    /// Whether other programs kept the generator from running.
    disturbed: bool,
    /// The longest delay between a message's scheduled time and its sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_us_max: Option<f64>,
}

/// The result of `--verify`.
#[derive(Clone, Copy, Debug, Serialize)]
struct Verified {
    good: u64,
    foreign: u64,
    skipped: u64,
    repeated: u64,
}

impl Report {
    /// The figures of the time between two samples.
    pub(super) fn new(options: &Options, course: &Course, first: Sample, last: Sample) -> Self {
        let seconds = (last.at - first.at).as_secs_f64();
        let messages = last.delivered - first.delivered;
        let ledger = &course.ledger;
        let mut report = Self {
            workload: options.kind.name(),
            server_url: format!("ws://{}{}", options.target.authority(), options.path),
            clients: options.clients,
            size: options.size,
            in_flight: None,
            window: None,
            rate: None,
            seconds: rounded(seconds),
            messages,
            messages_per_second: rounded(messages as f64 / seconds.max(1e-9)),
            sent: ledger.sent(),
            delivered: ledger.delivered(),
            missing: ledger.missing(),
            excess: ledger.excess(),
            latency_us: course.latencies.percentiles(),
            server: None,
            generator: Generator::new(options, course, first, last),
            verified: None,
            connections_lost: BTreeMap::new(),
        };
        match options.kind {
            Kind::Echo { in_flight } => report.in_flight = Some(in_flight),
            Kind::FanOut { window, .. } => report.window = Some(window),
            Kind::Latency { rate } => report.rate = Some(rate),
            Kind::Broadcast | Kind::Idle => {}
        }
        report
    }

    /// Adds the figures of the server's process.
    pub(super) fn serve(
        &mut self,
        process: Option<Process>,
        first: Sample,
        last: Sample,
        held: Held,
    ) {
        let Some(process) = process else {
            return;
        };
        let cpu = last.server_cpu.zip(first.server_cpu);
        let cpu = cpu.map(|(last, first)| last.saturating_sub(first).as_secs_f64());
        let resident = process.resident_bytes();
        let grown = resident.zip(held.resident_bytes);
        let connections = held.connections as f64;
        let seconds = (last.at - first.at).as_secs_f64();
        self.server = Some(Server {
            pid: process.pid(),
            cpu_us_per_message: cpu
                .filter(|_cpu| self.messages > 0)
                .map(|cpu| rounded(cpu * 1e6 / self.messages as f64)),
            cpu_share: cpu.map(|cpu| rounded(cpu / seconds.max(1e-9))),
            resident_bytes: resident,
            resident_bytes_per_connection: grown
                .map(|(now, before)| rounded(now.saturating_sub(before) as f64 / connections)),
            cpu_us_per_connection: held
                .cpu
                .map(|cpu| rounded(cpu.as_secs_f64() * 1e6 / connections)),
        });
    }

    /// Adds the result of the check.
    pub(super) fn checked(&mut self, found: Option<Found>) {
        self.verified = found.map(|found| Verified {
            good: found.good,
            foreign: found.foreign,
            skipped: found.skipped,
            repeated: found.repeated,
        });
    }

    /// The faults of the run, a sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let lost = self.connections_lost.iter();
        faults.extend(lost.map(|(how, count)| format!("{count} connections were {how}")));
        if self.missing > 0 {
            faults.push(format!(
                "{} messages did not come: a server drops what it cannot keep for slow clients, so \
                 offer less at once; or give it longer with --patience",
                self.missing
            ));
        }
        if self.excess > 0 {
            faults.push(format!(
                "{} messages came that nobody had sent: this service does something else than \
                 `{}` asks for, or others use it as well",
                self.excess, self.workload
            ));
        }
        if let Some(found) = &self.verified {
            for (count, what) in [
                (found.foreign, "were not what was sent"),
                (found.skipped, "were left out"),
                (found.repeated, "came twice, or too late"),
            ] {
                if count > 0 {
                    faults.push(format!("{count} messages {what}"));
                }
            }
        }
        faults
    }

    /// Reasons to doubt some of the figures, a sentence each.
    pub(super) fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.generator.saturated {
            warnings.push(
                "the generator was busy all the time: messages a second and latencies are its own, \
                 and a faster server would not show; what a message costs the server is right",
            );
        }
        if self.generator.disturbed {
            warnings.push(
                "something else ran on the generator's core: latencies are too long; keep a core \
                 for it (taskset -c), or let it sleep (--wait)",
            );
        }
        if self.server.is_none() {
            warnings.push(
                "the server's process is not known (give --pid, on the same machine and as the \
                 same user): nothing is told of its processor time and memory",
            );
        }
        warnings
    }

    /// The figures as JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts")
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Echo { .. } => "echo",
            Self::FanOut { .. } => "fan-out",
            Self::Broadcast => "broadcast",
            Self::Latency { .. } => "latency",
            Self::Idle => "idle",
        }
    }
}

impl Generator {
    fn new(options: &Options, course: &Course, first: Sample, last: Sample) -> Self {
        let span = last.at - first.at;
        let is_measured = span >= MEASURED_MIN;
        let seconds = span.as_secs_f64().max(1e-9);
        let busy = 1.0 - (last.idle - first.idle).as_secs_f64() / seconds;
        let cpu = last.own_cpu.zip(first.own_cpu);
        let cpu_share = cpu.map(|(last, first)| (last - first).as_secs_f64() / seconds);
        let late = course.latencies.latest().as_secs_f64() * 1e6;
        Self {
            busy: rounded(busy.max(0.0)),
            cpu_share: cpu_share.map(rounded),
            saturated: is_measured && busy >= SATURATED,
            disturbed: is_measured
                && !options.wait
                && cpu_share.is_some_and(|share| share < DISTURBED),
            late_us_max: matches!(options.kind, Kind::Latency { .. }).then(|| rounded(late)),
        }
    }
}

/// Rounds to four digits behind the point.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
