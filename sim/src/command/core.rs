//! `sim core`: the core alone, one seed told in full or many until one breaks a rule.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Args;
use sim::checker::Violation;
use sim::core::{MARKS, Plan, Report, run, shrink};
use sim::shrink::{RUNS_MAX, Symptom};

use super::explore::range;
use super::tell::{now, regressions};
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
    /// Writes the plan to FILE, that of a failing run as small as it can be [default for these:
    /// sim/regressions/core/<rule>-<seed>.json]
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Leaves a failing run as it is: nothing is shrunk
    #[arg(long)]
    no_shrink: bool,
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
        (None, None, Some(seeds)) => many(seeds, arguments),
        (None, None, None) => Err("a seed, seeds or a plan is needed".into()),
    }
}

fn one(plan: &Plan, arguments: &Arguments) -> Done {
    let report = run(plan);
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
    if let Some(violation) = report.violations.first() {
        return failed(&report, violation, arguments);
    }
    if let Some(path) = &arguments.save {
        save(plan, path.clone())?;
    }
    Ok(Outcome::Good)
}

fn many((from, to): (u64, u64), arguments: &Arguments) -> Done {
    let mut marks = BTreeMap::new();
    for seed in from..to {
        let report = run(&Plan::draw(seed));
        if let Some(violation) = report.violations.first() {
            return failed(&report, violation, arguments);
        }
        for mark in report.marks {
            *marks.entry(mark).or_insert(0_u64) += 1;
        }
    }
    say!("{} seeds keep every rule", to.saturating_sub(from));
    for mark in MARKS {
        say!("{:>9}  {mark}", marks.get(mark).copied().unwrap_or(0));
    }
    Ok(Outcome::Good)
}

/// Tells the broken rule in a line to paste, and saves the smallest plan that breaks it.
fn failed(report: &Report, violation: &Violation, arguments: &Arguments) -> Done {
    let Plan { seed, .. } = report.plan;
    let of = match &arguments.plan {
        None => format!("--seed {seed}"),
        Some(path) => format!("--plan {}", path.display()),
    };
    say!("cargo run -p sim -- core {of}  # {violation}");
    let path = arguments.save.clone();
    if arguments.no_shrink {
        path.map_or(Ok(()), |path| save(&report.plan, path))?;
        return Ok(Outcome::Bad);
    }
    let small = shrunk(&report.plan, violation)?;
    let name = format!("{}-{seed}.json", violation.checker);
    save(
        &small,
        path.unwrap_or_else(|| regressions().join("core").join(name)),
    )?;
    Ok(Outcome::Bad)
}

/// The smallest plan that breaks the same rule in the same way; tells how much smaller it is.
fn shrunk(plan: &Plan, violation: &Violation) -> Result<Plan, Box<dyn Error>> {
    let start = now();
    let symptom = Symptom::of(violation);
    let fails = |plan: &Plan| symptom.is_among(&run(plan).violations);
    let shrunk = shrink(plan, RUNS_MAX, fails).ok_or("the run did not fail again")?;
    say!(
        "shrunk    from {} steps to {}, in {} runs and {:.2} s",
        plan.steps.len(),
        shrunk.plan.steps.len(),
        shrunk.runs,
        start.elapsed().as_secs_f64()
    );
    Ok(shrunk.plan)
}

fn save(plan: &Plan, path: PathBuf) -> Result<(), Box<dyn Error>> {
    std::fs::write(&path, serde_json::to_string_pretty(plan)? + "\n")?;
    say!("saved     {}", path.display());
    Ok(())
}
