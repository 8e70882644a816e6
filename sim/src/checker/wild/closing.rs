//! Closing: the code of a close frame tells its cause.

use std::collections::BTreeMap;

use crate::calls::PARTED;
use crate::checker::{Breach, Checker, History, Life, Scope};
use crate::frames::Seen;
use crate::hall::SHUT;
use crate::past::Fact;
use crate::rooms::{HALL, is_of};
use crate::trace::Event;
use crate::wild::{Deed, is_legal_code};

/// A client is closed with its own code, with that of a rule it has broken, with 1000 after the end
/// of its stream, with 1001 after the drain, with 1008 where it may send no more or sends a message
/// too slowly, with 1013 where it or its service is slow, with 4000 where its room was asked for
/// it, or with 1011 where its service crashed or a client has answered no ping.
/// Which client may be closed with 1008 or 1011, `arriving`, `rates` and `deadlines` say more
/// exactly.
pub struct Closing;

impl Checker for Closing {
    fn name(&self) -> &'static str {
        "closing"
    }

    fn scope(&self) -> Scope {
        Scope::Wild
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let mut offended: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        let message_bytes = history
            .wild
            .as_ref()
            .map_or(usize::MAX, |w| w.message_bytes);
        for entry in history.entries {
            if let Event::Did { client, deed } = &entry.event {
                let codes = offended.entry(*client).or_default();
                match deed {
                    Deed::Offend { offence } => codes.push(offence.code()),
                    // What follows it is a part of it, or a frame without sense.
                    Deed::Partial => codes.extend([1002, 1007, 1009]),
                    // 1005 is seen as a frame without a code.
                    Deed::Binary { bytes } if *bytes > message_bytes => codes.push(1009),
                    Deed::Ask { .. }
                    | Deed::Binary { .. }
                    | Deed::Flood { .. }
                    | Deed::Fragments { .. }
                    | Deed::HalfClose
                    | Deed::Opening { .. }
                    | Deed::Ping
                    | Deed::Read { .. }
                    | Deed::Reset
                    | Deed::Resume
                    | Deed::Sip { .. }
                    | Deed::Speak { .. }
                    | Deed::Stop
                    | Deed::Tell { .. }
                    | Deed::Trickle { .. }
                    | Deed::Vanish
                    | Deed::Wish { .. } => {}
                }
            }
        }
        let inbound = history.wild.as_ref().and_then(|wild| wild.inbound);
        // A server that lost its power has told of no end that it waited for.
        let is_late =
            history.ended_for("message_too_slow") > 0 || history.crashes().next().is_some();
        let silent = history.ended_for("silent");
        for (client, life) in &history.clients {
            let Some((t, code)) = life.closed else {
                continue;
            };
            // A code that may not be sent is a rule broken.
            let own = life
                .leaving
                .map(|(_, own)| if is_legal_code(own) { own } else { 1002 });
            let is_own = own.is_some() && own == code;
            let codes = offended.get(client);
            let is_earned = code.is_some_and(|code| codes.is_some_and(|c| c.contains(&code)));
            let is_right = match code {
                Some(1000) => is_told_of_end(history, *client),
                Some(1001) => {
                    history.has_restarted(t) || history.drained.is_some_and(|drained| drained <= t)
                }
                Some(1008) => is_late || inbound.is_some_and(|inbound| inbound.closes),
                Some(1011) => silent > 0 || super::crashes_in(history, &life.service),
                Some(1013) => history.is_slow(),
                Some(SHUT) => asked_to_go(life),
                Some(PARTED) => history.ledger().has_parted(&life.service),
                _ => false,
            };
            if !is_own && !is_earned && !is_right {
                return Err(Breach::new(
                    t,
                    format!("client {client} was closed with {code:?}"),
                ));
            }
        }
        Ok(())
    }
}

/// Whether the client was told of the end of its stream, in the core alone: there the connection of
/// a client has its number.
fn is_told_of_end(history: &History<'_>, client: u32) -> bool {
    let mut conns = history.conns().filter(|(number, _)| *number == client);
    conns.any(|(_, conn)| {
        let mut seen = conn.said().seen.iter();
        seen.any(|(_, seen)| matches!(seen, Seen::Fact(Fact::End { .. })))
    })
}

/// Whether the client has told its room to close it.
fn asked_to_go(life: &Life) -> bool {
    let mut sent = life.sent.iter();
    is_of(HALL, &life.service) && sent.any(|said| said.text.starts_with("shut "))
}
