//! Rooms: there for their clients and no longer, each instance knows who is there, and all that a
//! room says arrives.

mod admission;
mod delivered;
mod kept;
mod members;

pub(crate) use self::admission::{Asked, admission_to_room, key};

use super::Found;
use crate::core::world::World;

/// The rules of rooms whenever no task is ready.
pub(super) fn at_rest(world: &mut World) -> Found {
    if world.plan.wild.rooms.is_none() {
        return Ok(());
    }
    kept::kept(world)?;
    members::members(world)?;
    delivered::delivered(world)
}
