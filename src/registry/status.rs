//! The status of a client's lease, by the state of the service.

use super::lifecycle::{Lifecycle, State};
use crate::bus::Generation;

/// The present value of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The application stops: leave soon. Until then the instance of this generation serves the
    /// client, if there is an instance.
    Draining(Option<Generation>),
    /// The service crashed for good: leave.
    Failed,
    /// The instance of this generation serves the client.
    Running(Generation),
    /// No instance serves the client yet.
    Waiting,
}

impl Status {
    /// The generation that serves the client, if an instance does.
    pub fn generation(self) -> Option<Generation> {
        match self {
            Self::Running(generation) => Some(generation),
            Self::Draining(generation) => generation,
            Self::Failed | Self::Waiting => None,
        }
    }

    pub(super) fn of(lifecycle: &Lifecycle) -> Self {
        let generation = lifecycle.generation();
        match lifecycle.state() {
            State::Running | State::Lingering { .. } if lifecycle.is_draining() => {
                Self::Draining(Some(generation))
            }
            _ if lifecycle.is_draining() => Self::Draining(None),
            State::Failed { .. } => Self::Failed,
            State::Running | State::Lingering { .. } => Self::Running(generation),
            State::Backoff { .. } | State::Stopped | State::Stopping { .. } => Self::Waiting,
        }
    }
}
