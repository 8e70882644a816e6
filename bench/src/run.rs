//! One run: connect, warm up, measure, wait for the messages in flight.

use std::time::{Duration, Instant};

use mio::Poll;

use super::check::{Check, Senders};
use super::clock::{now, own_cpu};
use super::crowd::{Course, Crowd, Turn};
use super::descriptors;
use super::frames::{Frames, MARK_BYTES, Marks};
use super::ledger::Ledger;
use super::opening::Opening;
use super::options::{Kind, Options, Span};
use super::patience::{Pace, Patience};
use super::problem::Problem;
use super::process::Process;
use super::progress::Progress;
use super::report::{Held, Report, Sample};
use super::target::sources;
use super::token::Token;
use super::upgrade::request;
use super::workload::{Workload, workload};

/// Maximum number of message numbers for `--verify`: 256 MiB of memory.
const NUMBERS_MAX: usize = 64 * 1024 * 1024;

/// The longest sleep with `--wait`, so that the end of the measured time is noticed.
const SLEEP: Duration = Duration::from_millis(20);

/// Runs a workload and measures it.
///
/// # Errors
///
/// Why the run was not possible. Faults during the run are in its report.
pub(super) fn run(options: &Options) -> Result<Report, Problem> {
    let check = check(options)?;
    descriptors::raise(options.connections())?;
    let token = Token::find(options.token_file.as_deref())?;
    let server = options.target.reach(options.connect_timeout)?;
    let process = Process::find(options.pid, server)?;
    let mut progress = Progress::new();
    let mut poll = Poll::new().map_err(Problem::Poll)?;
    let before = Held::now(process);
    let opening = opening(options, server, token.as_ref());
    let opened = opening.open(&mut poll, &mut progress);
    progress.clear();
    let connections = opened?;
    let after = Held::now(process);
    let marks = match options.verify {
        true => Marks::Numbered,
        false => Marks::None,
    };
    let crowd = Crowd::new(poll, connections, Frames::new(options.size, marks), check);
    let mut run = Run::new(options, process, crowd);
    let ran = run.go(&mut progress);
    progress.clear();
    ran?;
    Ok(run.report(options, before.until(after, options.connections())))
}

/// The check of messages, with `--verify`.
fn check(options: &Options) -> Result<Option<Check>, Problem> {
    if !options.verify {
        return Ok(None);
    }
    if options.size < MARK_BYTES {
        return Err(Problem::NoRoom(MARK_BYTES));
    }
    let clients = options.clients;
    let senders = Senders::of(options.kind.reach(), clients, options.publisher());
    match clients.saturating_mul(senders.width()) {
        0..=NUMBERS_MAX => Ok(Some(Check::new(options.size, clients, senders))),
        numbers => Err(Problem::TooManyPairs(numbers, clients)),
    }
}

fn opening(options: &Options, server: std::net::SocketAddr, token: Option<&Token>) -> Opening {
    let token = token.map(Token::reveal);
    let publish_path = match &options.kind {
        Kind::FanOut { publish_path, .. } => publish_path.as_deref(),
        Kind::Echo { .. } | Kind::Broadcast | Kind::Latency { .. } | Kind::Idle => None,
    };
    let paths = [Some(options.path.as_str()), publish_path];
    let requests = paths.into_iter().flatten();
    let requests = requests.map(|path| request(&options.target, path, token));
    let connections = options.connections();
    Opening {
        server,
        sources: sources(server, connections),
        requests: requests.collect(),
        request_of: (0..connections)
            .map(|client| usize::from(client == options.clients))
            .collect(),
        timeout: options.connect_timeout,
    }
}

/// A run in progress.
struct Run {
    crowd: Crowd,
    course: Course,
    workload: Box<dyn Workload>,
    span: Span,
    patience: Patience,
    wait: Duration,
    process: Option<Process>,
    start: Instant,
    first: Option<Sample>,
    last: Option<Sample>,
}

impl Run {
    fn new(options: &Options, process: Option<Process>, crowd: Crowd) -> Self {
        let sent_max = match options.span {
            Span::Messages(messages) => messages,
            Span::Time { .. } => u64::MAX,
        };
        let (all, receivers) = (options.connections(), options.clients);
        let ledger = Ledger::new(options.kind.reach(), all, receivers, sent_max);
        Self {
            crowd,
            course: Course::new(ledger),
            workload: workload(options),
            span: options.span,
            patience: Patience::new(options.patience, now()),
            wait: match options.wait {
                true => SLEEP,
                false => Duration::ZERO,
            },
            process,
            start: now(),
            first: None,
            last: None,
        }
    }

    fn go(&mut self, progress: &mut Progress) -> Result<(), Problem> {
        self.start = now();
        self.patience.see(Pace::Resting, self.start);
        // Without a warm-up the first message counts.
        self.measure(self.start);
        self.crowd.begin(self.workload.as_mut(), &mut self.course);
        loop {
            let turn = self
                .crowd
                .turn(self.wait(), self.workload.as_mut(), &mut self.course)?;
            let at = now();
            self.measure(at);
            self.patience.see(self.pace(turn), at);
            if self.patience.is_over(at) || self.is_over() {
                self.end(at);
                return Ok(());
            }
            progress.running(at, self.share(at), self.course.ledger.delivered());
        }
    }

    /// The longest time to wait for events: until the workload's next due message, if there is one.
    fn wait(&self) -> Duration {
        match (self.workload.next_due(), self.course.ledger.is_stopped()) {
            (Some(due), false) => {
                // The poll rounds its timeout up to a millisecond.
                let left = due.saturating_duration_since(now());
                self.wait.min(left.saturating_sub(Duration::from_millis(2)))
            }
            (Some(_), true) | (None, _) => self.wait,
        }
    }

    /// Begins and ends the measurement at the right times.
    fn measure(&mut self, at: Instant) {
        let (warm_up, end) = match self.span {
            Span::Time { warm_up, measured } => (warm_up, Some(warm_up + measured)),
            Span::Messages(_) => (Duration::ZERO, None),
        };
        let elapsed = at - self.start;
        if self.first.is_none() && elapsed >= warm_up {
            self.first = Some(self.sample(at));
            self.course.latencies.reset();
        }
        if self.last.is_none() && end.is_some_and(|end| elapsed >= end) {
            self.last = Some(self.sample(at));
            self.course.ledger.stop();
        }
    }

    fn pace(&self, turn: Turn) -> Pace {
        let ledger = &self.course.ledger;
        match turn {
            Turn::Received => Pace::Moving,
            Turn::Nothing if !self.workload.is_closed() && ledger.is_even() => Pace::Resting,
            Turn::Nothing => Pace::Awaiting,
        }
    }

    /// Whether all messages have arrived, or no client is left.
    fn is_over(&self) -> bool {
        let ledger = &self.course.ledger;
        let is_done = ledger.is_stopped() && ledger.is_settled();
        is_done || !ledger.has_open()
    }

    /// Takes the samples that are still missing.
    fn end(&mut self, at: Instant) {
        let sample = self.sample(at);
        self.first.get_or_insert(sample);
        self.last.get_or_insert(sample);
    }

    fn sample(&self, at: Instant) -> Sample {
        Sample {
            at,
            delivered: self.course.ledger.delivered(),
            server_cpu: self.process.and_then(Process::cpu),
            own_cpu: own_cpu(),
            idle: self.crowd.idle(),
        }
    }

    /// The share of the run that has passed.
    fn share(&self, at: Instant) -> f64 {
        match self.span {
            Span::Time { warm_up, measured } => {
                let whole = (warm_up + measured).as_secs_f64();
                (at - self.start).as_secs_f64() / whole.max(f64::MIN_POSITIVE)
            }
            Span::Messages(messages) => self.course.ledger.sent() as f64 / messages as f64,
        }
    }

    fn report(self, options: &Options, held: Held) -> Report {
        let (first, last) = (self.first, self.last);
        let (first, last) = first.zip(last).expect("a run ends with both");
        let mut report = Report::new(options, &self.course, first, last);
        report.serve(self.process, first, last, held);
        report.checked(self.crowd.check().map(Check::found));
        report.connections_lost = self.crowd.lost();
        self.crowd.close();
        report
    }
}
