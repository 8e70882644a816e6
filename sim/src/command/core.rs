//! `sim core`: the core alone, one seed told in full or many until one breaks a rule.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Args;
use sim::core::{MARKS, Plan, Report, run};

use super::explore::range;
use super::{Done, Outcome};

/// Runs the core alone, its tasks in an order that the seed draws
#[derive(Args)]
pub(crate) struct Arguments {
    /// One seed
    #[arg(long, value_name = "N", required_unless_present_any = ["seeds", "plan"])]
    seed: Option<u64>,
    /// Many seeds, the last one excluded, up to the first that breaks a rule
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with_all = ["seed", "plan"])]
    seeds: Option<(u64, u64)>,
    /// A plan of the core, as `--save` has written it
    #[arg(long, value_name = "PLAN.json", conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// Writes the plan to FILE
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    save: Option<PathBuf>,
    /// Writes every event to FILE, one line of JSON each
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    match (&arguments.plan, arguments.seed, arguments.seeds) {
        (Some(path), _, _) => {
            let text = std::fs::read_to_string(path)?;
            one(&serde_json::from_str(&text)?, arguments)
        }
        (None, Some(seed), _) => one(&Plan::draw(seed), arguments),
        (None, None, Some((from, to))) => Ok(many(from, to)),
        (None, None, None) => Err("a seed, seeds or a plan is needed".into()),
    }
}

fn one(plan: &Plan, arguments: &Arguments) -> Done {
    let report = run(plan);
    if let Some(path) = &arguments.save {
        std::fs::write(path, serde_json::to_string_pretty(plan)?)?;
    }
    if let Some(path) = &arguments.trace {
        report
            .trace
            .write(&mut BufWriter::new(File::create(path)?))?;
    }
    say!("steps     {}", plan.steps.len());
    say!("events    {}", report.trace.entries().len());
    say!("hash      {}", report.trace.hash());
    for mark in &report.marks {
        say!("mark      {mark}");
    }
    Ok(verdict(&report))
}

fn many(from: u64, to: u64) -> Outcome {
    let mut marks = BTreeMap::new();
    for seed in from..to {
        let report = run(&Plan::draw(seed));
        if verdict(&report) == Outcome::Bad {
            return Outcome::Bad;
        }
        for mark in report.marks {
            *marks.entry(mark).or_insert(0_u64) += 1;
        }
    }
    say!("{} seeds keep every rule", to.saturating_sub(from));
    for mark in MARKS {
        say!("{:>9}  {mark}", marks.get(mark).copied().unwrap_or(0));
    }
    Outcome::Good
}

fn verdict(report: &Report) -> Outcome {
    match report.verdict() {
        Ok(()) => Outcome::Good,
        Err(line) => {
            say!("{line}");
            Outcome::Bad
        }
    }
}
