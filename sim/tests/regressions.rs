//! Plans that once broke a rule, or show something hard: every one keeps every rule. And how a
//! plan gets there: the commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use sim::Report;
use sim::plan::{Action, Timed};
use sim::plan_file::PlanFile;
use sim::scenario::gathering;

/// The plans in a folder of this package.
fn plans(folder: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&directory).expect("there are saved plans");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn every_saved_plan_keeps_every_rule() {
    let mut failures = Vec::new();
    for path in &plans("regressions") {
        let file = PlanFile::read(path).unwrap_or_else(|error| panic!("{error}"));
        let name = path.file_name().unwrap_or_default().display();
        match sim::run::run(&file.plan) {
            Ok(trace) => {
                let report = Report::new(file.plan, trace);
                let line = format!("cargo run -p sim -- replay sim/regressions/{name}");
                failures.extend(report.violations.iter().map(|v| format!("{line}  # {v}")));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_saved_plan_of_the_core_keeps_every_rule() {
    let mut failures = Vec::new();
    for path in plans("regressions/core") {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let plan = serde_json::from_str(&text).expect("it is a plan of the core");
        let violations = sim::core::run(&plan).violations;
        let path = path.display();
        failures.extend(violations.iter().map(|v| format!("{path}: {v}")));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A file for one test.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What the simulator leaves: its exit code, and what it printed on both streams.
fn sim(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    let output = command.args(arguments).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A plan of a few clients in a file.
fn few(name: &str) -> String {
    let mut plan = gathering(2);
    let is_few =
        |timed: &Timed| !matches!(timed.action, Action::Connect { client, .. } if client > 8);
    plan.actions.retain(is_few);
    let path = scratch(name);
    PlanFile::new(plan, "").write(&path).expect("it is written");
    path.display().to_string()
}

#[test]
fn a_failing_plan_is_shrunk_and_saved_and_fails_again() {
    let plan = few("forbidden.json");
    let saved = scratch("saved.json").display().to_string();
    let (code, printed, line) = sim(&["replay", &plan, "--forbid", "text 2 ", "--save", &saved]);
    assert_eq!(code, Some(1), "{printed}");
    assert_eq!(line.lines().count(), 1, "one line to paste: {line}");
    assert!(line.starts_with(&format!(
        "cargo run -p sim -- replay {plan}  # forbidden: at "
    )));
    assert!(printed.contains(&format!("saved     {saved}")), "{printed}");
    let small = PlanFile::read(Path::new(&saved))
        .expect("it is a plan")
        .plan;
    assert_eq!(small.actions.len(), 3, "{small:?}");

    let (code, _, line) = sim(&["replay", &saved, "--forbid", "text 2 ", "--no-shrink"]);
    assert_eq!(code, Some(1));
    assert!(line.contains("forbidden"), "{line}");
    let (code, printed, _) = sim(&["replay", &saved]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, _, error) = sim(&["shrink", &saved, "-o", &plan]);
    assert_eq!(
        (code, error.as_str()),
        (Some(2), "sim: nothing to shrink: every rule was kept\n")
    );
}

#[test]
fn diff_shows_where_traces_part() {
    let plan = few("diff.json");
    let traces = ["a.jsonl", "b.jsonl"].map(|name| scratch(name).display().to_string());
    for trace in &traces {
        let (code, _, error) = sim(&["replay", &plan, "--trace", trace]);
        assert_eq!(code, Some(0), "{error}");
    }
    let (code, printed, _) = sim(&["diff", &traces[0], &traces[1]]);
    assert_eq!(code, Some(0), "{printed}");
    let text = std::fs::read_to_string(&traces[1]).expect("it was written");
    let text = text.replacen("connecting", "changed", 1);
    std::fs::write(&traces[1], text).expect("it can be written");
    let (code, printed, _) = sim(&["diff", &traces[0], &traces[1]]);
    assert_eq!(code, Some(1));
    assert!(
        printed.contains("\n- {") && printed.contains("\n+ {"),
        "{printed}"
    );
}

#[test]
fn a_bad_file_is_named_in_one_line() {
    let path = scratch("bad.json").display().to_string();
    std::fs::write(&path, r#"{"version": 99}"#).expect("it can be written");
    let (code, _, error) = sim(&["replay", &path]);
    assert_eq!(code, Some(2));
    assert_eq!(
        error,
        format!("sim: {path}: a plan of version 99; 1 is known\n")
    );
    let (code, _, error) = sim(&["diff", &path, "/nowhere"]);
    assert_eq!(code, Some(2));
    assert!(
        error.starts_with("sim: /nowhere: ") && error.lines().count() == 1,
        "{error}"
    );
}
