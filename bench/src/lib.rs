//! The load generator: what a message costs a server, how long it takes, what a client holds.
//!
//! One thread turns around all sockets. It sends frames that were masked beforehand, and skips what
//! it receives unless it is to be checked, so that it is seldom what limits a run; when it is, it
//! says so.
//!
//! - `options`, `target`, `token`: what is asked for. `problem`: why it cannot be had.
//! - `frames`, `incoming`, `upgrade`, `check`, `ledger`, `latencies`, `patience`: pure.
//! - `opening`, `connection`, `crowd`: the sockets.
//! - `workload`: what clients do; `echo`, `fan_out`, `broadcast`, `latency`.
//! - `run` and `report`: one run and its figures; `process`: the server's.

mod options;
mod problem;
mod target;
mod token;

mod check;
mod frames;
mod incoming;
mod latencies;
mod ledger;
mod patience;
mod upgrade;

mod connection;
mod crowd;
mod opening;

mod broadcast;
mod echo;
mod fan_out;
mod latency;
mod workload;

mod clock;
mod descriptors;
mod process;
mod progress;
mod report;
mod run;

use std::error::Error;

use clap::ArgMatches;

use self::options::Options;
pub use self::options::command;
use self::problem::Problem;

/// What a workload has shown.
#[derive(Debug)]
pub struct Outcome {
    /// The figures, as lines for people or as one line of JSON.
    pub figures: String,
    /// Why a reader should doubt some of the figures, each in one line.
    pub warnings: Vec<&'static str>,
    /// Why the figures cannot be believed, if they cannot.
    pub faults: Option<Box<dyn Error>>,
}

/// Runs the workload that these arguments of [`command`] name.
///
/// # Errors
///
/// The reason why there are no figures.
pub fn run(matches: &ArgMatches) -> Result<Outcome, Box<dyn Error>> {
    let options = Options::read(matches)?;
    let report = run::run(&options)?;
    let figures = match options.json {
        true => format!("{}\n", report.json()),
        false => format!("{report}\n"),
    };
    let faults = report.faults();
    let faults = (!faults.is_empty()).then(|| Problem::Faults(faults.join("\n")).into());
    Ok(Outcome {
        figures,
        warnings: report.warnings(),
        faults,
    })
}
