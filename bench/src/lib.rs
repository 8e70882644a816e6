//! The load generator: the cost of a message for a server, its latency, and the memory of a client.
//!
//! One thread serves all sockets. The thread sends frames that were masked in advance, and skips
//! the payloads it receives unless they are checked, so that the generator seldom limits a run. If
//! it does limit a run, a warning says so.
//!
//! - `options`, `target`, `token`: the parameters of a run. `problem`: why a run is not possible.
//! - `frames`, `incoming`, `upgrade`, `check`, `ledger`, `latencies`, `patience`: pure.
//! - `opening`, `connection`, `crowd`: the sockets.
//! - `workload`: the behaviour of clients; `echo`, `fan_out`, `broadcast`, `latency`.
//! - `run` and `report`: one run and its figures; `process`: the figures of the server.

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

/// The result of a workload.
#[derive(Debug)]
pub struct Outcome {
    /// The figures, as lines of text or as one line of JSON.
    pub figures: String,
    /// Reasons to doubt some of the figures, each in one line.
    pub warnings: Vec<&'static str>,
    /// Why the figures are not reliable, if they are not.
    pub faults: Option<Box<dyn Error>>,
}

/// Runs the workload in these arguments of [`command`].
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
