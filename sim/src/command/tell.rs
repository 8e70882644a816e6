//! Runs a plan for a command, tells what came of it, and rescues what failed into a file.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use sim::checker::{self, Breach, Checker, History, Violation};
use sim::plan_file::PlanFile;
use sim::report::page;
use sim::run::{Backend, RunError, run_on};
use sim::shrink::{RUNS_MAX, Symptom, shrink};
use sim::{Plan, Report};

use super::{Done, Outcome};

/// What is made of a run.
#[derive(Args)]
pub(crate) struct Output {
    /// Writes every event to FILE, one line of JSON each
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draws the run into FILE, a page for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Prints the hash of the trace instead of a summary
    #[arg(long)]
    hash: bool,
}

/// What is done with a run that broke a rule.
#[derive(Args)]
pub(crate) struct Rescue {
    /// Leaves a failing run as it is: nothing is shrunk, nothing saved
    #[arg(long)]
    no_shrink: bool,
    /// Where the plan of a failing run is saved, once shrunk [default:
    /// sim/regressions/<checker>-<seed>.json]
    #[arg(long, value_name = "FILE", conflicts_with = "no_shrink")]
    save: Option<PathBuf>,
}

/// Where a plan is run, and by what it is judged.
#[derive(Args)]
pub(crate) struct Judge {
    /// Runs on simnet, turmoil or loopback (real sockets in real time, where no run is like
    /// another) [default: simnet if the plan is wild, else turmoil]
    #[arg(long, value_name = "NETWORK")]
    network: Option<Backend>,
    /// Adds the rule that no client receives TEXT, to see how a broken rule is told
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    forbid: Option<String>,
}

impl Rescue {
    /// Saves the smallest plan that breaks this rule in the same way, unless nobody wants it.
    pub(crate) fn save(
        &self,
        plan: &Plan,
        violation: &Violation,
        judge: &Judge,
    ) -> Result<(), Box<dyn Error>> {
        if self.no_shrink {
            return Ok(());
        }
        let small = shrunk(plan, violation, RUNS_MAX, judge)?;
        let path = self.save.clone();
        let path = path.unwrap_or_else(|| regression(violation, plan.seed));
        PlanFile::new(small, violation.to_string()).write(&path)?;
        say!("saved     {}", path.display());
        Ok(())
    }
}

/// A rule to be broken on purpose.
struct Forbidden(String);

impl Checker for Forbidden {
    fn name(&self) -> &'static str {
        "forbidden"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        for (client, life) in &history.clients {
            if let Some(said) = life
                .received
                .iter()
                .find(|said| said.text.contains(&self.0))
            {
                let text = format!("client {client} received the forbidden `{}`", self.0);
                return Err(Breach::new(said.t, text));
            }
        }
        Ok(())
    }
}

impl Judge {
    /// Judges by every rule there is what runs on this network.
    pub(crate) fn on(network: Backend) -> Self {
        Self {
            network: Some(network),
            forbid: None,
        }
    }

    /// The arguments that say the same again, with a space before each.
    pub(crate) fn line(&self) -> String {
        let network = self.network.map(|network| format!(" --network {network}"));
        network.unwrap_or_default()
    }

    /// Runs and judges a plan.
    pub(crate) fn report(&self, plan: &Plan) -> Result<Report, RunError> {
        let network = self.network.unwrap_or_else(|| Backend::of(plan));
        let plan = network.fit(plan);
        let trace = run_on(&plan, network)?;
        let mut checkers = checker::all();
        if let Some(text) = &self.forbid {
            checkers.push(Box::new(Forbidden(text.clone())));
        }
        Ok(Report::judged_by(&checkers, plan, trace))
    }
}

/// How a run is told.
pub(crate) struct Telling<'a> {
    /// The arguments that show it again.
    pub(crate) line: String,
    pub(crate) output: &'a Output,
    pub(crate) judge: &'a Judge,
}

impl Telling<'_> {
    /// Whether more than the hash is printed.
    pub(crate) fn is_talkative(&self) -> bool {
        !self.output.hash
    }

    /// Runs and judges the plan, writes the files and prints the summary.
    pub(crate) fn run(&self, plan: Plan) -> Result<Report, Box<dyn Error>> {
        let start = now();
        let report = self.judge.report(&plan)?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(path) = &self.output.trace {
            write(path, |file| report.trace.write(file))?;
        }
        if let Some(path) = &self.output.html {
            let page = page::draw(&report, &format!("cargo run -p sim -- {}", self.line));
            write(path, |file| file.write_all(page.as_bytes()))?;
        }
        if self.is_talkative() {
            summarize(&report, seconds);
        } else {
            say!("{}", report.trace.hash());
        }
        Ok(report)
    }

    /// Prints the line to paste if a rule was broken, and saves the smallest plan that breaks it.
    pub(crate) fn conclude(&self, report: &Report, rescue: Option<&Rescue>) -> Done {
        let Some(violation) = report.violations.first() else {
            return Ok(Outcome::Good);
        };
        tell!("cargo run -p sim -- {}  # {violation}", self.line);
        if let Some(rescue) = rescue {
            rescue.save(&report.plan, violation, self.judge)?;
        }
        Ok(Outcome::Bad)
    }
}

/// The smallest plan that breaks the same rule in the same way; tells how much smaller it is.
pub(crate) fn shrunk(
    plan: &Plan,
    violation: &Violation,
    runs_max: usize,
    judge: &Judge,
) -> Result<Plan, Box<dyn Error>> {
    let start = now();
    let symptom = Symptom::of(violation);
    let fails = |plan: &Plan| {
        let report = judge.report(plan);
        report.is_ok_and(|report| symptom.is_among(&report.violations))
    };
    let Some(shrunk) = shrink(plan, runs_max, fails) else {
        return Err("the run did not fail again".into());
    };
    say!(
        "shrunk    from {} actions to {}, from {:.0} s to {:.0} s, in {} runs and {:.1} s",
        plan.actions.len(),
        shrunk.plan.actions.len(),
        plan.end().as_secs_f64(),
        shrunk.plan.end().as_secs_f64(),
        shrunk.runs,
        start.elapsed().as_secs_f64()
    );
    Ok(shrunk.plan)
}

/// Where the plan of a failure is kept.
fn regression(violation: &Violation, seed: u64) -> PathBuf {
    regressions().join(format!("{}-{seed}.json", violation.checker))
}

/// Where plans are kept: with the sources, which cargo names.
pub(crate) fn regressions() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from("sim"));
    let current = std::env::current_dir().unwrap_or_default();
    let package = package.strip_prefix(current).unwrap_or(&package);
    package.join("regressions")
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), String> {
    let written = || {
        let mut file = BufWriter::new(File::create(path)?);
        fill(&mut file)?;
        file.flush()
    };
    written().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a run takes is told to people and goes into nothing"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn summarize(report: &Report, seconds: f64) {
    let summary = &report.summary;
    let network = &report.plan.network;
    say!("seed      {}", report.plan.seed);
    say!(
        "network   {} zones, {}..{} ms one way, ticks of {} ms",
        network.zones,
        network.latency_ms_min,
        network.latency_ms_max,
        network.tick_ms
    );
    say!(
        "clients   {}, of them connected {}",
        summary.clients,
        summary.connected
    );
    say!(
        "messages  {} sent by clients, {} received by them",
        summary.sent,
        summary.received
    );
    let elapsed = summary.elapsed.as_secs_f64();
    say!("time      {elapsed:.0} s virtual in {seconds:.2} s");
    say!(
        "trace     {} events, hash {}",
        report.trace.entries().len(),
        report.trace.hash()
    );
    for violation in &report.violations {
        say!("broken    {violation}");
    }
    if report.violations.is_empty() {
        say!("verdict   every rule was kept");
    }
}
