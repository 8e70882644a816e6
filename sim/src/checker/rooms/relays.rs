//! Relays: a client of a relay receives the texts of its room, in the order of each sender.

use std::collections::{BTreeMap, BTreeSet};

use super::room_of;
use crate::checker::{Breach, Checker, History, Life};
use crate::rooms::{RELAY, is_of};

/// A client of a relay receives texts of clients of its room, each once and in the order in which
/// their client sent them, and its own ones only where the relay says so; of what lies between, no
/// more is missing than was counted as lost.
pub struct Relays;

impl Checker for Relays {
    fn name(&self) -> &'static str {
        "relays"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let mut missing = 0;
        for (client, life) in &history.clients {
            if is_of(RELAY, &life.service) {
                missing += read(history, *client, life)?;
            }
        }
        let end = history.entries.last().map_or(0, |entry| entry.t);
        if missing > history.lost() {
            let lost = history.lost();
            let text = format!("{missing} messages of relays are missing, {lost} counted");
            return Err(Breach::new(end, text));
        }
        Ok(())
    }
}

/// The number of messages that are missing between those that a client has of one sender.
fn read(history: &History<'_>, client: u32, life: &Life) -> Result<u64, Breach> {
    let rooms = history.wild.as_ref().and_then(|wild| wild.rooms);
    let echo = rooms.is_some_and(|rooms| rooms.echo);
    let room = room_of(history, client);
    let mut last: BTreeMap<u32, usize> = BTreeMap::new();
    let (mut backends, mut words) = (BTreeMap::new(), BTreeSet::new());
    let mut missing = 0;
    for said in &life.received {
        let text = &said.text;
        let breach = |why: &str| {
            let text = format!("client {client} received `{text}`{why}");
            Err(Breach::new(said.t, text))
        };
        if let Some(word) = history.ledger().word(text) {
            let is_new = words.insert(text);
            let of = room.as_deref().unwrap_or_default();
            if let Err(text) = word.may_be_heard(of, is_new) {
                return Err(Breach::new(said.t, text));
            }
            let Some(order) = word.order else {
                continue;
            };
            match backends.insert(order.link(), order) {
                Some(last) if order <= last => return breach(" too late"),
                Some(last) => missing += history.ledger().between(of, last, order),
                None => {}
            }
            continue;
        }
        let sender = text
            .split(' ')
            .nth(2)
            .and_then(|sender| sender.parse().ok());
        let Some(sender) = sender else {
            return breach(", which no client has sent");
        };
        if room_of(history, sender) != room {
            return breach(" of another room");
        }
        if sender == client && !echo {
            return breach(" of its own");
        }
        let mut sent = history
            .clients
            .get(&sender)
            .into_iter()
            .flat_map(|of| &of.sent);
        let Some(place) = sent.position(|sent| sent.text == *text) else {
            return breach(", which was not sent");
        };
        match last.insert(sender, place) {
            Some(last) if place <= last => return breach(" too late, or again"),
            Some(last) => missing += (place - last - 1) as u64,
            None => {}
        }
    }
    Ok(missing)
}
