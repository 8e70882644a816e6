//! Deadlines: what must end by a time has ended by then.

use std::time::Duration;

use busline::session::Keepalive;

use super::Found;
use crate::core::services::SCRIPT;
use crate::core::world::{Client, World};
use crate::rooms::HALL;

/// A socket that takes nothing, a peer that says nothing and a client that was told to go are gone
/// in time.
pub(crate) fn deadlines(world: &mut World) -> Found {
    for (number, client) in &world.clients {
        if !client.is_ended() {
            one(world, client).map_err(|text| format!("client {number} {text}"))?;
        }
    }
    Ok(())
}

fn one(world: &World, client: &Client) -> Found {
    let limits = world.app.limits();
    let now = world.rt.time();
    // A pause of the whole machine comes before all that is overdue, and kills nobody unasked.
    let from = |at: Duration| world.jumped.map_or(at, |jumped| jumped.max(at));
    let is_over = |at: Duration, limit: Duration| now >= from(at) + limit + limits.close_timeout;
    if let Some(stuck) = client.peer.pipe.stuck_since()
        && is_over(stuck, limits.write_timeout)
    {
        return Err(format!(
            "could not be written to since {stuck:?} and is there"
        ));
    }
    if let Some(deaf) = client.conduct.deaf_since
        && ![SCRIPT, HALL].contains(&client.service)
        && is_over(deaf, Keepalive::longest_silence(limits.keepalive))
    {
        return Err(format!("is silent since {deaf:?} and is there"));
    }
    // They go one after the other.
    let drain = &limits.drain;
    let sessions = u32::try_from(world.clients.len()).unwrap_or(u32::MAX);
    let pace = drain.window + Duration::from_secs(1) * sessions / drain.per_second.get();
    // And not before their services have dealt with what had arrived.
    let pace = 2 * pace + limits.arrivals_timeout();
    let told = [client.peer.closed_at(), world.drained];
    if let Some(told) = told.into_iter().flatten().min()
        && is_over(told, pace)
    {
        return Err(format!("was told to go at {told:?} and is there"));
    }
    Ok(())
}
