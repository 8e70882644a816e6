//! The restarts of its service that a client is told of.

use crate::bus::Generation;
use crate::planted::{self, Bug};

/// The instances of its service that a client knows of.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// The newest instance that runs.
    pub(super) running: Option<Generation>,
    /// The newest instance of which the client has received a notice or a message.
    told: Option<Generation>,
}

impl Restarts {
    /// Notes that the client is told of an instance; returns whether it knew an older one.
    pub(super) fn tell(&mut self, generation: Generation) -> bool {
        let told = self
            .told
            .replace(self.told.map_or(generation, |told| told.max(generation)));
        told.is_some_and(|told| told < generation) || planted::is(Bug::RestartToldAgain)
    }
}
