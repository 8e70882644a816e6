//! Causes: a session ends only for what its client, its service or the core has done.

use std::time::Duration;

use busline::session::{Cause, Keepalive};

use super::Found;
use crate::core::services::SCRIPT;
use crate::core::world::{Client, World};
use crate::journal::JOURNAL;
use crate::rooms::HALL;

/// The end of this client's session has the cause it names, and no deadline was early.
pub(crate) fn cause(world: &mut World, number: u32) -> Found {
    let Some(client) = world.clients.get(&number) else {
        return Ok(());
    };
    let Some(cause) = client.ended.with(|ended| ended.clone()).flatten() else {
        return Ok(());
    };
    if is_earned(world, number, &cause) {
        return Ok(());
    }
    let (service, conduct) = (client.service, client.conduct);
    let (now, said) = (world.rt.time(), client.peer.pipe.said_at());
    Err(format!(
        "client {number} of {service} was closed: {cause:?}; {conduct:?}, it is {now:?}, it last \
         said something at {said:?}, and is stuck since {:?}",
        client.peer.pipe.stuck_since()
    ))
}

fn is_earned(world: &World, number: u32, cause: &Cause) -> bool {
    let client = &world.clients[&number];
    let (now, conduct) = (world.rt.time(), client.conduct);
    let limits = world.app.limits();
    let is_over = |since: Duration, limit: Duration| now >= since + limit;
    match cause {
        // No plan of the core has such a client or such a limit.
        Cause::Aged
        | Cause::BadEnvelope(_)
        | Cause::Denied
        | Cause::Expired
        | Cause::Idle
        | Cause::MessageTooSlow
        | Cause::PingFlood
        | Cause::RateExceeded
        | Cause::Shed => false,
        Cause::Drained => world.drained.is_some(),
        Cause::Ended => has_ended(world, number),
        Cause::Failed => crashes(world, client),
        Cause::Closed(_) => client.service == HALL && asked_to_go(client),
        // The relay takes every message.
        Cause::NotAllowed | Cause::Unfit(_) => false,
        Cause::Lost(_) => conduct.broke,
        Cause::PeerClosed(_) => conduct.left,
        Cause::Protocol(_) => conduct.offended.is_some(),
        Cause::Silent => {
            // A pause of the whole machine is one of the peer too.
            let paused = world.jumped > Some(client.peer.pipe.said_at());
            let may = paused
                || conduct.deaf_since.is_some()
                || conduct.stopped
                || conduct.left
                || conduct.offended.is_some();
            let silence = Keepalive::longest_silence(limits.keepalive);
            may && is_over(client.peer.pipe.said_at(), silence)
        }
        Cause::SlowConsumer(lost) => world.plan.wild.closes_slow && *lost > 0,
        Cause::Stalled => {
            // After a pause of the whole machine everything is overdue.
            let jumped = world.jumped.is_some();
            let holds = world.plan.keeps_answers() && conduct.stopped;
            crashes(world, client) || jumped || (client.service == "echo" && holds)
        }
        Cause::Unwritable => {
            let stuck = client.peer.pipe.stuck_since();
            stuck.is_some_and(|since| is_over(since, limits.write_timeout))
        }
    }
}

/// Whether the stream of the client's journal has ended.
fn has_ended(world: &World, number: u32) -> bool {
    let room = world.clients[&number].room.to_string();
    let room = world.journals.rooms.get(&room);
    let reader = world.journals.readers.get(&number).zip(room);
    reader.is_some_and(|(reader, (_, annals))| reader.end(annals).1.is_some())
}

/// Whether the client's service may crash, doze and overstay.
fn crashes(world: &World, client: &Client) -> bool {
    let service = client.service;
    let is_hosted = world.plan.journal.is_some_and(|journal| journal.is_hosted);
    service == SCRIPT || service == HALL || (service == JOURNAL && is_hosted)
}

/// Whether the client has told its room to close it.
fn asked_to_go(client: &Client) -> bool {
    let is_it = |text: &String| text.starts_with("shut ");
    client.peer.talk(|sent, _| sent.iter().any(is_it))
}
