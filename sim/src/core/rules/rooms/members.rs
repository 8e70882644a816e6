//! Members: the clients that an instance was told of are the clients that are there.

use std::collections::BTreeSet;

use crate::core::rules::Found;
use crate::core::world::{Client, World};
use crate::rooms::HALL;

/// A room counts the clients with a session, and no others; an instance that waits for events knows
/// exactly so many, and these.
pub(super) fn members(world: &World) -> Found {
    for (name, there) in &world.rooms.there {
        let of = || {
            world
                .clients
                .iter()
                .filter(|(_, client)| client.room == there.room)
        };
        let numbers = |is_it: &dyn Fn(&Client) -> bool| -> BTreeSet<u32> {
            let found = of().filter(|(_, client)| is_it(client));
            found.map(|(number, _)| *number).collect()
        };
        let is_sure = world.drained.is_none();
        let least = numbers(&|client| is_sure && client.is_sound());
        let most = numbers(&|client| !client.is_ended());
        let counted = there.status.clients;
        if counted < least.len() || counted > most.len() {
            let (least, most) = (least.len(), most.len());
            return Err(format!(
                "{name} counts {counted} clients of {least} to {most}"
            ));
        }
        if there.room.kind().as_str() != HALL || !world.is_hall_taking(name) {
            continue;
        }
        let told = world.rooms.halls.host(name).map(|host| host.there);
        let told = told.unwrap_or_default();
        if told.len() != counted || !least.is_subset(&told) || !told.is_subset(&most) {
            return Err(format!(
                "the instance of {name} was told of {told:?}; it has {counted} clients, \
                 {least:?} are there, {most:?} may be"
            ));
        }
    }
    Ok(())
}
