//! Rest: the quiescence of a run in which services crash because they were told to.

use crate::checker::quiescence::{conserved, idle, served, sockets};
use crate::checker::{Breach, Checker, History, Scope};
use crate::trace::Event;

/// As quiescence, but that services may crash and the product may warn of it; no task of the
/// product panics.
pub struct Rest;

impl Checker for Rest {
    fn name(&self) -> &'static str {
        "rest"
    }

    fn scope(&self) -> Scope {
        Scope::Wild
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let end = history.entries.last().map_or(0, |entry| entry.t);
        for entry in history.entries {
            if let Event::Panicked { text } = &entry.event {
                return Err(Breach::new(entry.t, format!("a task panicked: {text}")));
            }
        }
        if history.is_down() {
            return Ok(());
        }
        let Some(held) = history.held else {
            return Err(Breach::new(end, "the application was never built"));
        };
        let found = served(history)
            .and_then(|()| idle(held))
            .and_then(|()| conserved(held))
            .and_then(|()| sockets(history));
        found.map_err(|text| Breach::new(end, text))
    }
}
