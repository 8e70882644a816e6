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
pub(crate) use self::options::command;
use self::problem::Problem;
use crate::output;

/// Runs a workload and prints its figures.
///
/// # Errors
///
/// Why there are none, or why they cannot be believed; then they are printed all the same.
pub(crate) fn bench(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let options = Options::read(matches)?;
    let report = run::run(&options)?;
    let figures = match options.json {
        true => format!("{}\n", report.json()),
        false => format!("{report}\n"),
    };
    let printed = output::print(&figures);
    let warnings = report.warnings().into_iter();
    let warnings = warnings.map(|warning| format!("busline bench: {warning}\n"));
    output::complain(warnings.collect());
    printed?;
    let faults = report.faults();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Problem::Faults(faults.join("\n")).into()),
    }
}
