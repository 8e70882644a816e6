//! The rules of rooms, which judge whatever a run has of them.

mod chronicle;
mod follower;
mod members;
mod recovery;
mod relays;
mod replies;
mod told;
mod visit;

pub(super) use self::chronicle::{Chronicles, Kept, chronicles};
pub use self::members::Members;
pub use self::recovery::Recovery;
pub use self::relays::Relays;
pub use self::told::Told;
pub(super) use self::visit::starts;
pub(crate) use self::visit::visits;

use super::History;
use crate::rooms::name;

/// The name of the room that a client has asked for; `None` if it has asked for a service.
fn room_of(history: &History<'_>, client: u32) -> Option<String> {
    let life = history.clients.get(&client)?;
    name(&life.service)
}
