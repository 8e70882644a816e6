//! What came of the runs of a user's test, with the line that shows a failure again.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::report::{Report as Judged, page};
use crate::run::RunError;
use crate::trace::{Digest, Fnv};

/// Events before a violation that are told with it.
const TOLD_EVENTS: usize = 12;

/// What came of the seeds that were run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    runs: u64,
    virtual_time: Duration,
    hashes: Fnv,
    failure: Option<Failure>,
}

/// A seed that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The rule, and how it was broken.
    pub violation: String,
    /// The command that shows it again.
    pub line: String,
    /// What happened last before it, an event a line.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  # {}", self.line, self.violation)?;
        for event in &self.story {
            writeln!(f, "  {event}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl Report {
    /// Seeds that were run.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Virtual time of all runs.
    pub fn virtual_time(&self) -> Duration {
        self.virtual_time
    }

    /// The hash of everything that happened: the same seeds give the same hash.
    pub fn hash(&self) -> Digest {
        Digest(self.hashes.value())
    }

    /// The seed that broke a rule, if there was one.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Panics if a seed broke a rule.
    ///
    /// # Panics
    ///
    /// With the command that shows it again, the rule, and what happened last before it was broken.
    pub fn assert_ok(&self) {
        if let Some(failure) = &self.failure {
            panic!(
                "seed {} broke a rule; to see it again:\n{failure}",
                failure.seed
            );
        }
    }

    pub(super) fn add(&mut self, seed: u64, judged: Result<Judged, RunError>) {
        self.runs += 1;
        match judged {
            Err(error) => self.failure = Some(Failure::new(seed, error.text, Vec::new())),
            Ok(judged) => {
                let hash = judged.trace.hash();
                self.hashes.write(&hash.0.to_le_bytes());
                self.virtual_time += judged.plan.end();
                self.failure = told(&judged);
                save(&judged);
            }
        }
    }
}

impl Failure {
    fn new(seed: u64, violation: String, story: Vec<String>) -> Self {
        let line = line(seed);
        Self {
            seed,
            violation,
            line,
            story,
        }
    }
}

/// The first violation, with what happened before it.
fn told(judged: &Judged) -> Option<Failure> {
    let violation = judged.violations.first()?;
    let entries = judged.trace.entries().iter();
    let until = entries.take_while(|entry| entry.t <= violation.breach.t);
    let story: Vec<String> = until.filter_map(page::told).collect();
    let last = story.len().saturating_sub(TOLD_EVENTS);
    let story = story.into_iter().skip(last).collect();
    Some(Failure::new(judged.plan.seed, violation.to_string(), story))
}

/// Writes the files that the environment asks for.
fn save(judged: &Judged) {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let seed = judged.plan.seed;
    if let Some(path) = path("SIM_TRACE") {
        let mut lines = Vec::new();
        let written = judged.trace.write(&mut lines);
        write(Path::new(&path), written.map(|()| lines));
    }
    if let Some(path) = path("SIM_HTML") {
        let page = page::draw(judged, &line(seed));
        write(Path::new(&path), Ok(page.into_bytes()));
    }
}

fn write(path: &Path, bytes: std::io::Result<Vec<u8>>) {
    let written = bytes.and_then(|bytes| std::fs::write(path, bytes));
    if let Err(error) = written {
        panic!("{}: {error}", path.display());
    }
}

/// The seeds that are run: one, if the environment says which.
pub(super) fn seeds(all: &Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("SIM_SEED") else {
        return all.clone();
    };
    match text.parse() {
        Ok(seed) => seed..seed + 1,
        Err(_) => panic!("SIM_SEED is `{text}`, which is no seed"),
    }
}

/// The command that runs this test or program again with one seed.
fn line(seed: u64) -> String {
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    let name = exe
        .file_stem()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let directory = exe.parent().and_then(Path::file_name);
    let directory = directory.map(|name| name.to_string_lossy().into_owned());
    let command = match directory.as_deref() {
        Some("deps") => {
            // The name of a test binary ends with a hash, that of a test's thread is the test's.
            let target = name
                .rsplit_once('-')
                .map_or(name.as_str(), |(target, _)| target);
            let thread = thread::current();
            let test = thread
                .name()
                .filter(|name| *name != "main")
                .unwrap_or(target);
            format!("cargo test -p {package} {test}")
        }
        Some("examples") => {
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            let arguments = match arguments.as_slice() {
                [] => String::new(),
                some => format!(" -- {}", some.join(" ")),
            };
            format!("cargo run -p {package} --example {name}{arguments}")
        }
        Some(_) | None => name,
    };
    format!("SIM_SEED={seed} {command}")
}
