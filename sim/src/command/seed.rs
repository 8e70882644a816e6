//! `sim --seed N`: runs one seed and tells what came of it.

use clap::Args;
use sim::scenario::gathering;

use super::Done;
use super::tell::{Judge, Output, Rescue, Telling};

/// One seed.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Runs the scenario of this seed
    #[arg(long, value_name = "N", required = true)]
    seed: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    rescue: Rescue,
    #[command(flatten)]
    judge: Judge,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    let seed = arguments.seed.ok_or("a seed or a command is needed")?;
    let telling = Telling {
        line: format!("--seed {seed}{}", arguments.judge.line()),
        output: &arguments.output,
        judge: &arguments.judge,
    };
    let report = telling.run(gathering(seed))?;
    telling.conclude(&report, Some(&arguments.rescue))
}
