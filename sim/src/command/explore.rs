//! `sim run`: many seeds of wild plans on our own network, until one breaks a rule.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use sim::checker::Violation;
use sim::report::Report;
use sim::run::{Backend, RunError, run_on};
use sim::trace::{Digest, Fnv};
use sim::{Plan, marks, scenario, swarm};

use super::tell::{Judge, Rescue, now};
use super::{Done, Outcome};

/// Runs many seeds, up to the first that breaks a rule
#[derive(Args)]
pub(crate) struct Arguments {
    /// The seeds, the last one excluded
    #[arg(
        long,
        value_name = "A..B",
        default_value = "0..18446744073709551615",
        value_parser = range
    )]
    seeds: (u64, u64),
    /// Runs on simnet, turmoil or loopback; there the plans are short ones, and a run is no
    /// proof, as no two are alike
    #[arg(long, value_name = "NETWORK", default_value_t = Backend::Simnet)]
    network: Backend,
    /// A calm crowd of this many clients instead of wild plans
    #[arg(long, value_name = "CLIENTS", value_parser = clap::value_parser!(u32).range(1..10_000))]
    crowd: Option<u32>,
    /// Runs at a time
    #[arg(long, value_name = "JOBS", default_value_t = 1)]
    jobs: usize,
    /// The longest time to look, such as 60s or 10m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    time: Duration,
    /// Prints a hash over the traces of all seeds too: it is the same on every machine
    #[arg(long)]
    hash: bool,
    #[command(flatten)]
    rescue: Rescue,
}

pub(super) fn range(text: &str) -> Result<(u64, u64), String> {
    let parse = |part: &str| part.parse().map_err(|_| format!("`{part}` is no seed"));
    let (from, to) = text.split_once("..").ok_or("write A..B")?;
    Ok((parse(from)?, parse(to)?))
}

fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').ok_or("write 60s or 10m")?, 1),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no number"))?;
    Ok(Duration::from_secs(number * unit))
}

/// What came of one seed.
enum Came {
    Broken(Box<Plan>, Failure),
    Kept {
        seed: u64,
        /// Of the trace, if it is asked for.
        hash: Option<Digest>,
        elapsed: Duration,
        marks: Vec<&'static str>,
    },
}

/// Why a seed did not keep every rule.
enum Failure {
    NoResult(RunError),
    Violation(Violation),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResult(error) => error.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    virtual_time: Duration,
    marks: BTreeMap<&'static str, u64>,
    hashes: BTreeMap<u64, Digest>,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    let start = now();
    let (next, stop) = (AtomicU64::new(arguments.seeds.0), AtomicBool::new(false));
    let (sender, receiver) = channel();
    let done = thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            #[cfg(feature = "planted")]
            let bug = busline::planted::planted();
            scope.spawn(move || {
                #[cfg(feature = "planted")]
                busline::planted::plant(bug);
                work(arguments, (next, stop), start, sender);
            });
        }
        drop(sender);
        let done = collect(arguments, &receiver, start);
        stop.store(true, Ordering::Relaxed);
        done
    });
    tell!();
    done
}

fn work(
    arguments: &Arguments,
    (next, stop): (&AtomicU64, &AtomicBool),
    start: Instant,
    sender: Sender<Came>,
) {
    while !stop.load(Ordering::Relaxed) && start.elapsed() < arguments.time {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= arguments.seeds.1 || sender.send(look(seed, arguments)).is_err() {
            return;
        }
    }
}

fn look(seed: u64, arguments: &Arguments) -> Came {
    let network = arguments.network;
    let plan = match (arguments.crowd, network) {
        (Some(clients), _) => scenario::crowd(seed, clients),
        (None, Backend::Loopback) => swarm::brief(seed),
        (None, Backend::Simnet | Backend::Turmoil) => swarm::swarm(seed),
    };
    let plan = network.fit(&plan);
    let trace = match run_on(&plan, network) {
        Ok(trace) => trace,
        Err(error) => return Came::Broken(Box::new(plan), Failure::NoResult(error)),
    };
    let marks = marks::reached(&plan, &trace).into_iter().collect();
    let hash = arguments.hash.then(|| trace.hash());
    let report = Report::new(plan, trace);
    match report.violations.first() {
        None => Came::Kept {
            seed,
            hash,
            elapsed: report.summary.elapsed,
            marks,
        },
        Some(violation) => {
            let failure = Failure::Violation(violation.clone());
            Came::Broken(Box::new(report.plan), failure)
        }
    }
}

fn collect(arguments: &Arguments, receiver: &Receiver<Came>, start: Instant) -> Done {
    let mut tally = Tally::default();
    let mut told = start;
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(Came::Broken(plan, failure)) => {
                tally.tell(start);
                let (seed, next) = (plan.seed, plan.seed + 1);
                let mut on = match arguments.network {
                    Backend::Simnet => String::new(),
                    network @ (Backend::Loopback | Backend::Turmoil) => {
                        format!(" --network {network}")
                    }
                };
                if let Some(clients) = arguments.crowd {
                    on += &format!(" --crowd {clients}");
                }
                tell!(
                    "\ncargo run --release -p sim -- run --seeds {seed}..{next}{on}  # {failure}"
                );
                if let Failure::Violation(violation) = &failure {
                    let judge = Judge::on(arguments.network);
                    arguments.rescue.save(&plan, violation, &judge)?;
                }
                return Ok(Outcome::Bad);
            }
            Ok(Came::Kept {
                seed,
                hash,
                elapsed,
                marks,
            }) => {
                tally.hashes.extend(hash.map(|hash| (seed, hash)));
                tally.add(elapsed, &marks);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                tally.tell(start);
                say!();
                tally.say_hash();
                for mark in marks::ALL {
                    let count = tally.marks.get(mark).copied().unwrap_or(0);
                    say!("{count:>9}  {mark}");
                }
                return Ok(Outcome::Good);
            }
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = now();
            tally.tell(start);
        }
    }
}

impl Tally {
    fn add(&mut self, elapsed: Duration, marks: &[&'static str]) {
        self.seeds += 1;
        self.virtual_time += elapsed;
        for mark in marks {
            *self.marks.entry(*mark).or_default() += 1;
        }
    }

    /// The hash over all traces, in the order of their seeds.
    fn say_hash(&self) {
        if self.hashes.is_empty() {
            return;
        }
        let mut fnv = Fnv::default();
        for (seed, hash) in &self.hashes {
            fnv.write(&seed.to_be_bytes());
            fnv.write(&hash.0.to_be_bytes());
        }
        say!(
            "hash      {} of {} seeds",
            Digest(fnv.value()),
            self.hashes.len()
        );
    }

    fn tell(&self, start: Instant) {
        let seconds = start.elapsed().as_secs_f64().max(0.001);
        hint!(
            "\r{} seeds, {:.0} a second, {:.1} virtual hours, {:.0} virtual s a second, \
             {} of {} marks ",
            self.seeds,
            self.seeds as f64 / seconds,
            self.virtual_time.as_secs_f64() / 3600.0,
            self.virtual_time.as_secs_f64() / seconds,
            self.marks.len(),
            marks::ALL.len()
        );
    }
}
