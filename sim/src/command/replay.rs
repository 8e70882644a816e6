//! `sim replay PLAN.json`: runs a plan from a file and tells what came of it.

use std::path::PathBuf;

use clap::Args;
use sim::plan_file::PlanFile;

use super::Done;
use super::tell::{Judge, Output, Rescue, Telling};

/// Runs a saved plan and judges it, like a seed
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plan, as it was saved
    #[arg(value_name = "PLAN.json")]
    plan: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    rescue: Rescue,
    #[command(flatten)]
    judge: Judge,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    let file = PlanFile::read(&arguments.plan)?;
    let telling = Telling {
        line: format!(
            "replay {}{}",
            arguments.plan.display(),
            arguments.judge.line()
        ),
        output: &arguments.output,
        judge: &arguments.judge,
    };
    if !file.shows.is_empty() && telling.is_talkative() {
        say!("shows     {}", file.shows);
    }
    let report = telling.run(file.plan)?;
    telling.conclude(&report, Some(&arguments.rescue))
}
