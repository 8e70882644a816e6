//! Admission: exactly the clients are refused that must be.

use busline::registry::{ServiceStatus, State};
use busline::session::AdmitError;

use super::Found;
use crate::core::world::World;

/// A client is refused if and only if the core drains, its service has failed, or as many sessions
/// are open as there may be.
pub(crate) fn admission(
    world: &mut World,
    before: Option<ServiceStatus>,
    open: usize,
    admitted: Result<(), &AdmitError>,
) -> Found {
    let failed = before.is_some_and(|status| matches!(status.state, State::Failed { .. }));
    let max = world.plan.wild.sessions;
    let must_refuse = world.drained.is_some() || failed || open >= max;
    if failed {
        world.marks.insert("client of a failed service refused");
    }
    if open >= max {
        world.marks.insert("client over the limit refused");
    }
    if before.is_some_and(|status| matches!(status.state, State::Lingering { .. })) {
        world.marks.insert("join while lingering");
    }
    match admitted {
        Ok(()) if must_refuse => Err(format!(
            "a client was admitted beside {open} of {max} sessions, drained at {:?}, {before:?}",
            world.drained
        )),
        Err(error) if !must_refuse => Err(format!(
            "a client was refused beside {open} of {max} sessions: {error}"
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}
