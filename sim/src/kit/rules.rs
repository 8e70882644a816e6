//! The rules that every run of a user's test keeps.

use std::collections::BTreeSet;

use crate::checker::wild::{Conservation, Protocol, Rest};
use crate::checker::{Breach, Checker, History, Quiescence, Registry, Scope};
use crate::plan::Action;
use crate::trace::{Event, Finish};

/// The rules of a run with this many clients.
pub(super) fn of(clients: usize, may_crash: bool) -> Vec<Box<dyn Checker>> {
    let rest: Box<dyn Checker> = if may_crash {
        Box::new(Always(Rest))
    } else {
        Box::new(Quiescence)
    };
    vec![
        Box::new(Finished { clients }),
        Box::new(Registry),
        Box::new(Conservation),
        Box::new(Protocol),
        rest,
    ]
}

/// A rule of wild plans, for every run.
struct Always<C>(C);

impl<C: Checker> Checker for Always<C> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn scope(&self) -> Scope {
        Scope::Every
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        self.0.check(history)
    }
}

/// Every client comes to its end before the drain, and to a good one unless a fault explains it.
struct Finished {
    clients: usize,
}

impl Checker for Finished {
    fn name(&self) -> &'static str {
        "clients"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let mut finished = BTreeSet::new();
        let breaks = history.entries.iter().any(|entry| breaks(&entry.event));
        let drained = history.until_drained();
        for entry in history.entries {
            let Event::Finished { client, finish } = &entry.event else {
                continue;
            };
            let breach = |text: String| {
                let text = format!("client {client} {text}");
                Err(Breach::new(entry.t, text))
            };
            match finish {
                Finish::Panicked(text) => return breach(format!("panicked: {text}")),
                Finish::Gone(why) if !breaks && entry.t < drained => {
                    return breach(format!("came to no good end: {why}"));
                }
                Finish::Done | Finish::Gone(_) if entry.t < drained => {
                    finished.insert(*client);
                }
                // Too late: the drain has ended it.
                Finish::Done | Finish::Gone(_) => {}
            }
        }
        let late = (1..)
            .take(self.clients)
            .find(|client| !finished.contains(client));
        match late {
            None => Ok(()),
            Some(client) => {
                let text = format!("client {client} had not come to its end before the drain");
                Err(Breach::new(drained, text))
            }
        }
    }
}

/// Whether connections may be broken by this.
fn breaks(event: &Event) -> bool {
    let Event::Acted { action } = event else {
        return false;
    };
    matches!(
        action,
        Action::Crash | Action::Partition { .. } | Action::PowerLoss
    )
}

/// A rule as a closure.
pub(super) struct Rule<F> {
    name: &'static str,
    rule: F,
}

impl<F: Fn(&History<'_>) -> Result<(), Breach>> Rule<F> {
    pub(super) fn new(name: &'static str, rule: F) -> Self {
        Self { name, rule }
    }
}

impl<F: Fn(&History<'_>) -> Result<(), Breach>> Checker for Rule<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        (self.rule)(history)
    }
}
