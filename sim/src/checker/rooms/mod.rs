//! The rules of rooms, which judge whatever a run has of them.

mod members;
mod relays;
mod told;

pub use self::members::Members;
pub use self::relays::Relays;
pub use self::told::Told;

use super::History;
use crate::rooms::name;

/// The name of the room that a client has asked for; `None` if it has asked for a service.
fn room_of(history: &History<'_>, client: u32) -> Option<String> {
    let life = history.clients.get(&client)?;
    name(&life.service)
}
