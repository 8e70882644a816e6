//! `sim shrink`: finds the smallest plan that fails as a seed or a plan does.

use std::path::PathBuf;

use clap::Args;
use sim::plan_file::PlanFile;
use sim::scenario::gathering;
use sim::shrink::RUNS_MAX;

use super::tell::{Judge, shrunk};
use super::{Done, Outcome};

/// Makes a failing seed or plan as small as it can be while it fails in the same way
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plan to shrink
    #[arg(value_name = "PLAN.json", required_unless_present = "seed")]
    plan: Option<PathBuf>,
    /// Shrinks the scenario of this seed
    #[arg(long, value_name = "N", conflicts_with = "plan")]
    seed: Option<u64>,
    /// Where the smallest plan is written
    #[arg(short, long, value_name = "OUT.json")]
    output: PathBuf,
    /// At most so many runs
    #[arg(long, value_name = "RUNS", default_value_t = RUNS_MAX)]
    runs: usize,
    #[command(flatten)]
    judge: Judge,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    let plan = match (&arguments.plan, arguments.seed) {
        (Some(path), _) => PlanFile::read(path)?.plan,
        (None, Some(seed)) => gathering(seed),
        (None, None) => return Err("a seed or a plan is needed".into()),
    };
    let report = arguments.judge.report(&plan)?;
    let Some(violation) = report.violations.first() else {
        return Err("nothing to shrink: every rule was kept".into());
    };
    say!("broken    {violation}");
    let small = shrunk(&report.plan, violation, arguments.runs, &arguments.judge)?;
    PlanFile::new(small, violation.to_string()).write(&arguments.output)?;
    say!("saved     {}", arguments.output.display());
    Ok(Outcome::Good)
}
