//! The rules of wild plans, under which much is lost and nearly everything is delayed.

mod closing;
mod conservation;
mod isolation;
mod lifecycle;
mod liveness;
mod notices;
mod order;
mod protocol;
mod rest;

pub use self::closing::Closing;
pub use self::conservation::Conservation;
pub use self::isolation::Isolation;
pub use self::lifecycle::Lifecycle;
pub use self::liveness::Liveness;
pub use self::notices::Notices;
pub use self::order::Order;
pub use self::protocol::Protocol;
pub use self::rest::Rest;

use crate::checker::History;
use crate::journal::JOURNAL;
use crate::rooms::{HALL, is_of};

/// The service that crashes when it is told to.
const CRASHES: &str = "script";

/// Whether the services of the run do so, or a room with a history, if that has an instance.
fn crashes_in(history: &History<'_>, service: &str) -> bool {
    let journal = history.wild.as_ref().and_then(|wild| wild.journal);
    let is_hosted = journal.is_some_and(|journal| journal.is_hosted);
    crashes(service) || (is_hosted && is_of(JOURNAL, service))
}

/// Whether it is that service, or a room whose instance does.
pub(super) fn crashes(service: &str) -> bool {
    service == CRASHES || is_of(HALL, service)
}
