//! Answers: a client that reads has those to all that it had said when it left, or when the drain
//! began.

use busline::session::Cause;

use super::Found;
use crate::core::world::{Client, World};

/// A client of `echo` that reads, and was heard out, has the answer to each of its texts: to all of
/// them where it has closed, and to those before the drain where that has ended its session.
pub(crate) fn answered(world: &mut World) -> Found {
    // A pause of the whole machine may take all the time there is for the answers.
    if world.jumped.is_some() {
        return Ok(());
    }
    for (number, client) in &world.clients {
        if client.service == "echo" && reads(client) {
            one(client).map_err(|text| format!("client {number} {text}"))?;
        }
    }
    Ok(())
}

fn reads(client: &Client) -> bool {
    let conduct = client.conduct;
    !conduct.stopped && !conduct.broke && conduct.deaf_since.is_none()
}

fn one(client: &Client) -> Found {
    let due = match client.ended.with(|ended| ended.clone()).flatten() {
        Some(Cause::PeerClosed(_)) => client.peer.talk(|sent, _| sent.len()),
        Some(Cause::Drained) => client.sent_before_drain,
        Some(_) | None => 0,
    };
    let got = client.peer.talk(|_, received| received.len());
    if got < due {
        return Err(format!("got {got} of {due} answers before its end"));
    }
    Ok(())
}
