//! Served: whenever no task is ready, everything has gone where it had to go.

use busline::bus::Topic;

use super::Found;
use crate::core::services::SERVICES;
use crate::core::world::{Client, World};

/// What clients have said was taken, what they were told has arrived, pings are answered, and who
/// has left or broken a rule was told so.
pub(crate) fn served(world: &mut World) -> Found {
    for service in SERVICES {
        if world.is_taking(service) && world.drained.is_none() {
            inbox(world, service)?;
            outbox(world, service)?;
            for (number, client) in &world.clients {
                if client.service == service {
                    one(world, client).map_err(|text| format!("client {number} {text}"))?;
                }
            }
        }
    }
    if world.plan.wild.closes_slow && world.drained.is_none() {
        gapless(world)?;
    }
    for (number, client) in &world.clients {
        told(world, client).map_err(|text| format!("client {number} {text}"))?;
    }
    Ok(())
}

fn pending(world: &World, topic: &Topic) -> u64 {
    let counts = world.app.bus().topic_counts(topic);
    counts.map_or(0, |counts| counts.pending)
}

/// An instance that waits for messages has received all there are.
fn inbox(world: &World, service: &str) -> Found {
    let name = world.app.registry().name(service);
    let waiting = name.map_or(0, |name| pending(world, &Topic::from_ws_to_service(name)));
    if waiting > 0 {
        return Err(format!("{waiting} messages wait in the inbox of {service}"));
    }
    Ok(())
}

/// Clients that read have received all there is.
fn outbox(world: &World, service: &str) -> Found {
    let name = world.app.registry().name(service);
    let mut of = world
        .clients
        .values()
        .filter(|client| client.service == service);
    let all_read = of.all(|client| client.is_ended() || client.peer.is_reading());
    let waiting = name.map_or(0, |name| pending(world, &Topic::from_service_to_ws(name)));
    if all_read && waiting > 0 {
        return Err(format!(
            "{waiting} messages of {service} wait for clients that read"
        ));
    }
    Ok(())
}

/// A client of an instance that takes every message.
pub(super) fn one(world: &World, client: &Client) -> Found {
    if client.is_ended() || !client.peer.is_reading() {
        return Ok(());
    }
    if let Some(offence) = client.conduct.offended
        && client.peer.closed().is_none()
    {
        return Err(format!("was not told of its {offence:?}"));
    }
    if !client.is_sound() {
        return Ok(());
    }
    let unread = client.peer.pipe.unread();
    if unread > 0 {
        return Err(format!("waits with {unread} bytes that nobody reads"));
    }
    if client.peer.awaits_pong() {
        return Err("waits for a pong".to_owned());
    }
    let own = Topic::from_service_to_client(client.room.clone(), client.id);
    let waiting = pending(world, &own);
    if waiting > 0 {
        return Err(format!("waits for {waiting} answers"));
    }
    // A pause of the whole machine is as long a wait for answers as a client that does not read.
    let reads = !client.conduct.stopped && world.jumped.is_none();
    let is_exact = world.plan.keeps_answers() || reads;
    let is_answered = client.peer.talk(|sent, received| sent == received);
    if client.service == "echo" && is_exact && !is_answered {
        return client.peer.talk(|sent, received| {
            let (sent, received) = (sent.len(), received.len());
            Err(format!("has sent {sent} and received {received}"))
        });
    }
    Ok(())
}

/// A client that always reads has seen the close frame of a session that ended with one.
fn told(world: &World, client: &Client) -> Found {
    use busline::session::Cause;

    let cause = client.ended.with(|ended| ended.clone()).flatten();
    let has_frame = match cause {
        Some(
            Cause::Aged
            | Cause::BadEnvelope(_)
            | Cause::Denied
            | Cause::Drained
            | Cause::Ended
            | Cause::Expired
            | Cause::Closed(_)
            | Cause::NotAllowed
            | Cause::Unfit(_)
            | Cause::Failed
            | Cause::Idle
            | Cause::MessageTooSlow
            | Cause::PeerClosed(_)
            | Cause::PingFlood
            | Cause::Protocol(_)
            | Cause::RateExceeded
            | Cause::Shed
            | Cause::SlowConsumer(_)
            | Cause::Stalled,
        ) => true,
        Some(Cause::Lost(_) | Cause::Silent | Cause::Unwritable) | None => false,
    };
    let conduct = client.conduct;
    // A pause of the whole machine may take all the time there is to say it.
    let is_sure = !conduct.stopped && !conduct.broke && world.jumped.is_none();
    if has_frame && is_sure && client.peer.closed().is_none() {
        return Err(format!("was not told why it was closed: {cause:?}"));
    }
    Ok(())
}

/// Where slow clients are closed, one that is there lacks nothing between two messages it has.
fn gapless(world: &World) -> Found {
    let of = || {
        world
            .clients
            .iter()
            .filter(|(_, client)| client.service == "ping")
    };
    for (number, client) in of().filter(|(_, client)| client.is_sound()) {
        let mine = client.peer.talk(|_, received| received.to_vec());
        for (other, witness) in of().filter(|(other, _)| *other != number) {
            let gap = witness.peer.talk(|_, theirs| gap(&mine, theirs));
            if let Some(text) = gap {
                return Err(format!(
                    "client {number} lacks `{text}`, which client {other} has"
                ));
            }
        }
    }
    Ok(())
}

/// What one client has received between two messages that are neighbours for another one.
fn gap(mine: &[String], theirs: &[String]) -> Option<String> {
    let place = |text: &String| theirs.iter().position(|their| their == text);
    let gap = mine.windows(2).find_map(|pair| {
        let (first, second) = (place(&pair[0])?, place(&pair[1])?);
        (second > first + 1).then_some(first + 1)
    });
    gap.and_then(|at| theirs.get(at).cloned())
}
