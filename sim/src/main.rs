//! `sim --seed N`: runs one seed and tells what came of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use sim::Report;

const USAGE: &str = "usage: sim --seed N [--trace FILE] [--hash]

  --seed N      runs the scenario of seed N
  --trace FILE  writes the trace to FILE, one event of JSON a line
  --hash        prints the hash of the trace and nothing else
";

/// What the caller wants.
struct Arguments {
    seed: u64,
    trace: Option<String>,
    output: Output,
}

/// What is printed of a run that kept the rules.
enum Output {
    Hash,
    Summary,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut seed, mut trace, mut output) = (None, None, Output::Summary);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--seed" => {
                let text = value()?;
                let parsed = text.parse().map_err(|_| format!("`{text}` is no seed"))?;
                seed = Some(parsed);
            }
            "--trace" => trace = Some(value()?),
            "--hash" => output = Output::Hash,
            other => return Err(format!("`{other}` is not known")),
        }
    }
    let seed = seed.ok_or("a seed is needed")?;
    Ok(Arguments {
        seed,
        trace,
        output,
    })
}

fn execute(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the run takes is told to people and goes into nothing"
    )]
    let start = Instant::now();
    let report = sim::scenario(arguments.seed)?;
    if let Some(path) = &arguments.trace {
        let mut file = BufWriter::new(File::create(path)?);
        report.trace.write(&mut file)?;
        file.flush()?;
    }
    match arguments.output {
        Output::Hash => println!("{}", report.trace.hash()),
        Output::Summary => summarize(&report, start),
    }
    Ok(report.verdict()?)
}

fn summarize(report: &Report, start: Instant) {
    let summary = &report.summary;
    let network = &report.plan.network;
    let wall = start.elapsed();
    println!("seed      {}", report.plan.seed);
    println!(
        "network   {} zones, {}..{} ms one way, ticks of {} ms",
        network.zones, network.latency_ms_min, network.latency_ms_max, network.tick_ms
    );
    println!(
        "clients   {}, of them connected {}",
        summary.clients, summary.connected
    );
    println!(
        "messages  {} sent by clients, {} received by them",
        summary.sent, summary.received
    );
    println!(
        "time      {:.0} s virtual in {:.2} s",
        summary.elapsed.as_secs_f64(),
        wall.as_secs_f64()
    );
    println!(
        "trace     {} events, hash {}",
        report.trace.entries().len(),
        report.trace.hash()
    );
    for violation in &report.violations {
        println!("broken    {violation}");
    }
    if report.violations.is_empty() {
        println!("verdict   every rule was kept");
    }
}
