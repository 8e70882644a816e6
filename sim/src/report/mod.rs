//! What came of a run, for people and for tests.

use std::fmt;
use std::time::Duration;

use crate::checker::{self, Checker, History, Violation};
use crate::plan::Plan;
use crate::run::{RunError, run};
use crate::scenario::gathering;
use crate::trace::Trace;

pub mod page;

/// A run that was judged.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to happen.
    pub plan: Plan,
    /// What happened.
    pub trace: Trace,
    /// The rules it broke.
    pub violations: Vec<Violation>,
    /// What went on in it.
    pub summary: Summary,
}

/// A run in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Clients that began to connect.
    pub clients: usize,
    /// Of these, the ones that were connected.
    pub connected: usize,
    /// Texts that clients sent.
    pub sent: usize,
    /// Messages that clients received.
    pub received: usize,
    /// Virtual time.
    pub elapsed: Duration,
}

/// Why a seed failed: one line, with the command that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, text } = self;
        write!(f, "cargo run -p sim -- --seed {seed}  # {text}")
    }
}

impl std::error::Error for Failure {}

/// Runs and judges the scenario of this seed: clients gather, meet faults, and leave.
///
/// # Errors
///
/// When the run came to no result; a run that broke a rule is a report.
pub fn scenario(seed: u64) -> Result<Report, RunError> {
    let plan = gathering(seed);
    let trace = run(&plan)?;
    Ok(Report::new(plan, trace))
}

impl Report {
    /// Judges a run by every checker.
    pub fn new(plan: Plan, trace: Trace) -> Self {
        Self::judged_by(&checker::all(), plan, trace)
    }

    /// Judges a run by these checkers.
    pub fn judged_by(checkers: &[Box<dyn Checker>], plan: Plan, trace: Trace) -> Self {
        let history = History::new(&plan, &trace);
        let violations = checker::judge(checkers, &history);
        let summary = Summary::new(&plan, &history);
        Self {
            plan,
            trace,
            violations,
            summary,
        }
    }

    /// Whether no rule was broken.
    ///
    /// # Errors
    ///
    /// The first rule that was, in one line.
    pub fn verdict(&self) -> Result<(), Failure> {
        match self.violations.first() {
            None => Ok(()),
            Some(violation) => Err(Failure {
                seed: self.plan.seed,
                text: violation.to_string(),
            }),
        }
    }

    /// Panics unless no rule was broken.
    ///
    /// # Panics
    ///
    /// With the line of [`verdict`](Self::verdict).
    pub fn assert_ok(&self) {
        if let Err(failure) = self.verdict() {
            panic!("{failure}");
        }
    }
}

impl Summary {
    fn new(plan: &Plan, history: &History<'_>) -> Self {
        let lives = || history.clients.values();
        Self {
            clients: lives().count(),
            connected: lives().filter(|life| life.connected.is_some()).count(),
            sent: lives().map(|life| life.sent.len()).sum(),
            received: lives().map(|life| life.received.len()).sum(),
            elapsed: plan.end(),
        }
    }
}
