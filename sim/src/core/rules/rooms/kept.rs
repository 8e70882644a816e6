//! Kept: a room is there as long as it has clients, an instance, a linger or a rest, and leaves
//! nothing behind.

use busline::bus::{Room, Topic};
use busline::registry::State;

use crate::core::rooms::There;
use crate::core::rules::Found;
use crate::core::rules::lifecycle::longest;
use crate::core::world::World;
use crate::rooms::HALL;

/// A room counts against the bounds while it is there; it is there for clients, for an instance,
/// or until a time; its instance is there if it says so; nothing is left of a room that is gone.
pub(super) fn kept(world: &World) -> Found {
    let (open, there) = (world.app.registry().rooms_open(), world.rooms.there.len());
    if open != there {
        return Err(format!("{open} rooms count, and {there} are there"));
    }
    for (name, there) in &world.rooms.there {
        one(world, name, there).map_err(|text| format!("{name} {text}"))?;
    }
    for (name, room) in &world.rooms.gone {
        left_over(world, room).map_err(|text| format!("{name} is gone, but {text}"))?;
    }
    Ok(())
}

fn one(world: &World, name: &str, there: &There) -> Found {
    let status = there.status;
    let host = world.rooms.halls.host(name);
    let instances = match status.state {
        State::Stopped => return Err("is there, and is for no client".to_owned()),
        State::Lingering { .. } | State::Running | State::Stopping { .. } => 1,
        State::Backoff { .. } | State::Failed { .. } => 0,
    };
    if matches!(status.state, State::Running) != (status.clients > 0 && instances == 1)
        && !matches!(status.state, State::Stopping { .. })
    {
        let clients = status.clients;
        return Err(format!("is {:?} with {clients} clients", status.state));
    }
    if there.room.kind().as_str() == HALL && usize::from(host.is_some()) != instances {
        return Err(format!(
            "is {:?}, with an instance: {}",
            status.state,
            host.is_some()
        ));
    }
    let is_prompt = host.is_none_or(|host| !host.is_busy);
    let limit = longest(&world.lives, status.state, is_prompt);
    match (limit, world.lives.stay(name, world.rt.time())) {
        (Some(limit), Some(stay)) if stay >= limit => {
            Err(format!("is {:?} for {stay:?}", status.state))
        }
        _ => Ok(()),
    }
}

/// No client of a room that is gone is there, and no topic of it.
fn left_over(world: &World, room: &Room) -> Found {
    let mut clients = world.clients.iter();
    let client = clients.find(|(_, client)| client.room == *room && !client.is_ended());
    if let Some((number, client)) = client {
        // A session that closes has left its room already.
        return if client.is_sound() && world.drained.is_none() {
            Err(format!("client {number} is there"))
        } else {
            Ok(())
        };
    }
    let topics = [
        Topic::from_ws_to_service(room.clone()),
        Topic::from_service_to_ws(room.clone()),
    ];
    let left = topics
        .iter()
        .find(|topic| world.app.bus().topic_counts(topic).is_some());
    left.map_or(Ok(()), |topic| Err(format!("the topic {topic} is left")))
}
