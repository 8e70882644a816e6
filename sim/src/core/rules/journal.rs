//! Journals: a client of a room with a history has each message after its position, once, or was
//! told how many it lacks; what is kept stays within its bounds, and is freed.

use std::time::Duration;

use busline::bus::Topic;
use busline::registry::State;
use busline::session::Cause;

use super::Found;
use crate::core::annals::Annals;
use crate::core::world::World;
use crate::journal::Journal;

/// The longest time after which memory that is no longer needed is freed.
const FREED: Duration = Duration::from_secs(12);

/// Clients that read have all there is; the histories keep no more than they may, nor longer.
pub(super) fn at_rest(world: &mut World) -> Found {
    let Some(bounds) = world.plan.journal else {
        return Ok(());
    };
    kept(world, bounds)?;
    ended(world)?;
    behind(world, bounds);
    let mut marks = Vec::new();
    for (number, reader) in &mut world.journals.readers {
        marks.extend(std::mem::take(&mut reader.marks));
        let client = world.clients.get(number);
        let Some(client) = client.filter(|it| it.is_sound() && it.peer.is_reading()) else {
            continue;
        };
        let name = client.room.to_string();
        let there = world.rooms.there.get(&name);
        let runs = there.is_some_and(|there| there.status.state == State::Running);
        let room = world.journals.rooms.get(&name);
        if let (Some((_, annals)), None) = (room, world.drained) {
            let found = reader.at_rest(annals, runs || !bounds.is_hosted);
            found.map_err(|text| format!("client {number} {text}"))?;
        }
    }
    world.marks.extend(marks);
    Ok(())
}

/// A client that is closed at the end of its stream was told of the end before.
fn ended(world: &World) -> Found {
    for (number, reader) in &world.journals.readers {
        let client = &world.clients[number];
        let (_, annals) = &world.journals.rooms[&client.room.to_string()];
        let cause = client.ended.with(|ended| ended.clone()).flatten();
        let is_closed = cause == Some(Cause::Ended) && client.peer.closed().is_some();
        if is_closed && !reader.end(annals).0 {
            return Err(format!(
                "client {number} was closed, and not told of the end"
            ));
        }
    }
    Ok(())
}

/// Notes the clients for which messages wait that have fallen out of the window.
fn behind(world: &mut World, bounds: Journal) {
    if !bounds.reads_on() {
        return;
    }
    for (name, (room, annals)) in &world.journals.rooms {
        let counts = world
            .app
            .bus()
            .topic_counts(&Topic::from_service_to_ws(room));
        let pending = counts.map_or(0, |counts| counts.pending);
        let mut slow = world.journals.readers.iter_mut().filter(|(number, _)| {
            let client = world.clients.get(number);
            client.is_some_and(|it| it.room.to_string() == *name && !it.is_ended())
        });
        let slow: Vec<_> = slow.by_ref().map(|(_, reader)| reader).collect();
        if pending > bounds.window as u64 * slow.len() as u64 && annals.live.is_empty() {
            for reader in slow {
                reader.note_behind(annals.top());
            }
        }
    }
}

fn kept(world: &World, bounds: Journal) -> Found {
    let counts = world.app.bus().histories();
    if counts.bytes > bounds.bytes_in_all || counts.shelved > bounds.positions {
        return Err(format!("the histories keep too much: {counts:?}"));
    }
    let now = world.rt.time();
    let mut rooms = world.journals.rooms.iter();
    let is_over =
        |annals: &Annals| annals.is_over(now.saturating_sub(FREED)) && !annals.has_ended();
    if rooms.clone().all(|(_, (_, annals))| is_over(annals)) && counts.bytes > 0 {
        return Err(format!("no message is left, and memory is: {counts:?}"));
    }
    let overdue = rooms.find(|(_, (_, annals))| annals.is_forgotten(now.saturating_sub(FREED)));
    overdue.map_or(Ok(()), |(name, _)| {
        Err(format!("the position of {name} is kept"))
    })
}

/// A position has risen over the own texts of each client alone.
pub(crate) fn at_end(world: &mut World) -> Found {
    let mut rooms = world.journals.rooms.values();
    rooms.try_for_each(|(_, annals)| annals.passed())
}
