//! What must be true of every run, one rule to a file; checkers see the trace and nothing else.

use std::fmt;
use std::rc::Rc;

mod accepting;
mod arriving;
mod bounds;
mod calls;
mod codes;
mod connection;
mod conns;
mod deadlines;
mod drain;
mod echo;
mod history;
mod leases;
mod links;
mod metrics;
mod ping;
mod pongs;
mod prompt;
mod quiescence;
mod rates;
mod registry;
mod rooms;
mod timenow;
pub mod wild;

pub use self::accepting::Accepting;
pub use self::arriving::Arriving;
pub use self::bounds::Bounds;
pub use self::calls::{Asked, Called};
pub(crate) use self::calls::{Outcome, Told as ToldBack};
pub use self::codes::Codes;
pub use self::connection::Connection;
pub use self::deadlines::Deadlines;
pub use self::drain::Drain;
pub use self::echo::Echo;
pub use self::history::{History, Life, Said};
pub use self::leases::Leases;
pub use self::metrics::Metrics;
pub use self::ping::Ping;
pub use self::pongs::Pongs;
pub use self::prompt::Prompt;
pub use self::quiescence::Quiescence;
pub use self::rates::Rates;
pub use self::registry::Registry;
pub(crate) use self::rooms::visits;
pub use self::rooms::{Members, Recovery, Relays, Told};
pub use self::timenow::Timenow;

/// A rule that a run keeps or breaks.
pub trait Checker {
    /// Its name, one word.
    fn name(&self) -> &'static str;

    /// The plans whose runs it judges.
    fn scope(&self) -> Scope {
        Scope::Every
    }

    /// Looks for the first breach.
    ///
    /// # Errors
    ///
    /// The breach.
    fn check(&self, history: &History<'_>) -> Result<(), Breach>;
}

impl<C: Checker + ?Sized> Checker for Rc<C> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn scope(&self) -> Scope {
        (**self).scope()
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        (**self).check(history)
    }
}

/// Which plans a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those in which nothing is lost but by faults of the network.
    Calm,
    /// All.
    Every,
    /// Those that are wild.
    Wild,
}

/// Where a rule was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Virtual microseconds.
    pub t: u64,
    /// What should have been, and what was.
    pub text: String,
}

impl Breach {
    /// A breach at this time.
    pub fn new(t: u64, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { t, text }
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the checker.
    pub checker: &'static str,
    /// Where and how.
    pub breach: Breach,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { t, text } = &self.breach;
        write!(f, "{}: at {} us: {text}", self.checker, t)
    }
}

/// Every checker there is.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(Accepting),
        Box::new(Arriving),
        Box::new(Asked),
        Box::new(Bounds),
        Box::new(Called),
        Box::new(Codes),
        Box::new(Connection),
        Box::new(Deadlines),
        Box::new(Drain),
        Box::new(Echo),
        Box::new(Leases),
        Box::new(Members),
        Box::new(Metrics),
        Box::new(Ping),
        Box::new(Pongs),
        Box::new(Prompt),
        Box::new(Quiescence),
        Box::new(Rates),
        Box::new(Recovery),
        Box::new(Registry),
        Box::new(Relays),
        Box::new(Timenow),
        Box::new(Told),
        Box::new(wild::Closing),
        Box::new(wild::Conservation),
        Box::new(wild::Isolation),
        Box::new(wild::Lifecycle),
        Box::new(wild::Liveness),
        Box::new(wild::Notices),
        Box::new(wild::Order),
        Box::new(wild::Protocol),
        Box::new(wild::Rest),
    ]
}

/// The rules that the run broke, with the first breach of each.
pub fn judge(checkers: &[Box<dyn Checker>], history: &History<'_>) -> Vec<Violation> {
    let broken = |checker: &dyn Checker| {
        let breach = checker.check(history).err()?;
        let checker = checker.name();
        Some(Violation { checker, breach })
    };
    let is_for = |checker: &&dyn Checker| match checker.scope() {
        Scope::Calm => history.wild.is_none(),
        Scope::Every => true,
        Scope::Wild => history.wild.is_some(),
    };
    let checkers = checkers.iter().map(Box::as_ref);
    checkers.filter(is_for).filter_map(broken).collect()
}

/// A text as it is shown in a breach.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
