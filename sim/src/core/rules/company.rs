//! Presence: the clients of a journal are those with a lease, and each of them knows of all others
//! once the notices are due.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Found;
use crate::core::world::World;
use crate::journal::JOURNAL;
use crate::rooms::parts;

/// The time after which joins and leaves are told, beside the delay of leaves: each waits for the
/// end of a second at most, behind those of a second before.
const TOLD: Duration = Duration::from_secs(2);

/// A page is the truth, and clients were told the same after a while.
pub(super) fn at_rest(world: &mut World) -> Found {
    let journal = world.plan.journal;
    let Some(delay) = journal.and_then(|journal| journal.leave_delay_ms) else {
        return Ok(());
    };
    let late = TOLD + Duration::from_millis(delay);
    let names: Vec<String> = world.journals.rooms.keys().cloned().collect();
    for name in names {
        let there = listed(world, &name)?;
        let now = world.rt.time();
        let before = world.company.changed.get(&name);
        if before.is_none_or(|(clients, _)| *clients != there) {
            world.company.changed.insert(name.clone(), (there, now));
            continue;
        }
        let since = before.map_or(now, |(_, since)| *since);
        if now >= since + late {
            told(world, &name, &there)?;
        }
    }
    Ok(())
}

/// The clients of a room as the product lists them: as many as there are leases, and each one that
/// is served.
fn listed(world: &World, name: &str) -> Result<BTreeSet<u64>, String> {
    let (room, _) = &world.journals.rooms[name];
    let room = world.app.room(JOURNAL, room.key());
    let room = room.map_err(|error| error.to_string())?;
    let page = room.presence(None).ok_or("a journal has no presence")?;
    let there: BTreeSet<u64> = page.clients.iter().map(|(id, _)| id.number()).collect();
    let leases = room.status().map_or(0, |status| status.clients);
    if page.num_clients != leases || there.len() != leases {
        return Err(format!(
            "{name} shows {} clients, lists {there:?}, and has {leases}",
            page.num_clients
        ));
    }
    let of_room = |room: &str| parts(room).is_some() && room == name;
    let mut served = world.clients.iter();
    let lacking = served.find(|(_, client)| {
        let is_here = of_room(&client.room.to_string()) && client.is_sound();
        is_here && world.drained.is_none() && !there.contains(&client.id.number())
    });
    lacking.map_or(Ok(there), |(number, _)| {
        Err(format!("{name} does not list client {number}"))
    })
}

/// Each client that reads, and has missed nothing, knows of all.
fn told(world: &World, name: &str, there: &BTreeSet<u64>) -> Found {
    for (number, told) in &world.company.told {
        let client = world.clients.get(number).filter(|it| it.is_sound());
        let is_here = client.is_some_and(|client| client.room.to_string() == name);
        if let Some(told) = told.as_ref().filter(|_| is_here && world.drained.is_none())
            && !told.knows(there)
        {
            return Err(format!(
                "client {number} of {name} knows of {told:?}, and {there:?} are there"
            ));
        }
    }
    Ok(())
}
