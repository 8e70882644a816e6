//! Delivered: what clients of rooms say is taken, and what a room says arrives at its clients.

use std::collections::BTreeSet;

use busline::bus::Topic;
use busline::registry::State;

use crate::core::rooms::{Line, There};
use crate::core::rules::Found;
use crate::core::rules::served::one;
use crate::core::world::{Client, World};
use crate::hall::{self, SHUT};
use crate::journal::JOURNAL;
use crate::rooms::HALL;

/// Inboxes and sockets are empty where an instance and its clients take all; and where nothing was
/// lost, each client has all that was said to it.
pub(super) fn delivered(world: &World) -> Found {
    for (name, there) in &world.rooms.there {
        if is_taking(world, name, there) && world.drained.is_none() {
            taken(world, there).map_err(|text| format!("{name} {text}"))?;
        }
    }
    since(world)?;
    let counts = world.app.counts().bus.messages;
    if counts.lost_lagged + counts.lost_superseded > 0 || world.jumped.is_some() {
        return Ok(());
    }
    for (number, client) in world.clients.iter().filter(|(_, c)| c.service == HALL) {
        said(world, *number, client).map_err(|text| format!("client {number} {text}"))?;
    }
    world
        .rooms
        .lines
        .iter()
        .try_for_each(|line| passed(world, line))
}

/// Whether what clients of the room say is taken at once.
fn is_taking(world: &World, name: &str, there: &There) -> bool {
    match there.room.kind().as_str() {
        HALL => world.is_hall_taking(name),
        JOURNAL if world.plan.journal.is_some_and(|journal| journal.is_hosted) => {
            there.status.state == State::Running
        }
        _ => true,
    }
}

fn taken(world: &World, there: &There) -> Found {
    let pending = |topic: &Topic| {
        let counts = world.app.bus().topic_counts(topic);
        counts.map_or(0, |counts| counts.pending)
    };
    let inbox = pending(&Topic::from_ws_to_service(there.room.clone()));
    if inbox > 0 {
        return Err(format!("has {inbox} messages in its inbox"));
    }
    let of = || {
        world
            .clients
            .iter()
            .filter(|(_, client)| client.room == there.room)
    };
    let all_read = of().all(|(_, client)| client.is_ended() || client.peer.is_reading());
    let to_all = pending(&Topic::from_service_to_ws(there.room.clone()));
    if all_read && to_all > 0 {
        return Err(format!("has {to_all} messages for clients that read"));
    }
    of().try_for_each(|(number, client)| {
        one(world, client).map_err(|text| format!("has client {number}, which {text}"))
    })
}

/// No client is told anything by an instance that was to stop before it joined.
fn since(world: &World) -> Found {
    for (number, client) in world.clients.iter().filter(|(_, c)| c.service == HALL) {
        let told = client.peer.talk(|_, received| {
            let lines = received.iter().filter_map(|text| hall::Line::of(text));
            lines.map(|line| line.generation).min()
        });
        if told.is_some_and(|told| told < client.since) {
            let since = client.since;
            return Err(format!(
                "client {number} of generation {since} was told by {told:?}"
            ));
        }
    }
    Ok(())
}

/// A client that reads, and one that its room has closed, has all that was said to it.
fn said(world: &World, number: u32, client: &Client) -> Found {
    let is_shut = client.peer.closed() == Some(Some(SHUT));
    let reads = !client.conduct.stopped && !client.conduct.broke;
    let is_judged = client.is_sound() || (is_shut && reads);
    if !is_judged {
        return Ok(());
    }
    let got: BTreeSet<(u64, u64)> = client.peer.talk(|_, received| {
        let lines = received.iter().filter_map(|text| hall::Line::of(text));
        lines.map(|line| (line.generation, line.number)).collect()
    });
    world.rooms.halls.said(&client.room.to_string(), |said| {
        let mine = said.iter().filter(|said| said.to.contains(&number));
        let last = got.last().copied().unwrap_or_default();
        for said in mine {
            let place = (said.generation, said.number);
            // A client that was closed need not have what was said afterwards.
            if !got.contains(&place) && (!is_shut || place < last) {
                return Err(format!(
                    "lacks number {} of {}",
                    said.number, said.generation
                ));
            }
        }
        Ok(())
    })
}

/// Each client of a relay that was there has the text of another that still talks.
fn passed(world: &World, line: &Line) -> Found {
    let sound = |number: &u32| world.clients.get(number).filter(|client| client.is_sound());
    let is_read = |client: &Client| client.peer.pipe.unread() == 0;
    if !sound(&line.from).is_some_and(is_read) || world.drained.is_some() {
        return Ok(());
    }
    for to in &line.to {
        let lacks = |client: &Client| {
            let has = |_: &[String], received: &[String]| received.contains(&line.text);
            !client.peer.talk(has)
        };
        if sound(to).is_some_and(lacks) {
            let text = &line.text;
            return Err(format!("client {to} of a relay lacks `{text}`"));
        }
    }
    Ok(())
}
