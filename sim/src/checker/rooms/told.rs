//! Told: a client of a room receives what its room said to it, in order, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::room_of;
use super::visit::starts;
use crate::checker::calls::Ledger;
use crate::checker::{Breach, Checker, History, Life, Said};
use crate::hall::Line;
use crate::rooms::{HALL, client_of, is_of};
use crate::trace::{Event, Seen, To};

/// A client receives what a room with an instance said to all, to all but another, or to it alone,
/// each once and in the order in which it was said; of what lies between, no more is missing than
/// was counted as lost.
pub struct Told;

/// What each room said, by the number of its server, its generation and its number.
type Words<'a> = BTreeMap<(usize, &'a str, u64), BTreeMap<u64, To>>;

impl Checker for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        // A client that gets the newest message only gets no order.
        let keeps_latest = history.wild.as_ref().is_some_and(|wild| wild.keeps_latest);
        let words = words(history);
        let servers = servers(history);
        let mut missing = 0;
        for (client, life) in &history.clients {
            if is_of(HALL, &life.service) {
                let room = room_of(history, *client).unwrap_or_default();
                let reader = Reader {
                    client: *client,
                    room: &room,
                    words: &words,
                    server: servers.get(client).copied().unwrap_or(0),
                    keeps_latest,
                    ledger: history.ledger(),
                };
                missing += reader.read(life)?;
            }
        }
        let end = history.entries.last().map_or(0, |entry| entry.t);
        if missing > history.lost() {
            let lost = history.lost();
            let text = format!("{missing} messages of rooms are missing, {lost} counted");
            return Err(Breach::new(end, text));
        }
        Ok(())
    }
}

/// The number of the server to which each client was connected; a client may hear of its connection
/// when the next server runs.
fn servers(history: &History<'_>) -> BTreeMap<u32, usize> {
    let starts = starts(history);
    let upgraded = history.all_conns().values();
    let upgraded = upgraded.filter(|conn| conn.is_upgraded());
    let servers = upgraded.map(|conn| {
        let server = starts.partition_point(|start| *start <= conn.first);
        (client_of(conn.query()), server)
    });
    servers.collect()
}

/// What the rooms of all servers said.
fn words<'a>(history: &History<'a>) -> Words<'a> {
    let (mut words, mut server) = (Words::new(), 0);
    for entry in history.entries {
        if entry.event == Event::Started {
            server += 1;
        }
        if let Event::Room {
            room,
            generation,
            seen: Seen::Said { number, to },
        } = &entry.event
        {
            let key = (server, room.as_str(), *generation);
            let said = words.entry(key).or_default();
            said.insert(*number, *to);
        }
    }
    words
}

/// A client that reads what its room said.
struct Reader<'a> {
    client: u32,
    room: &'a str,
    words: &'a Words<'a>,
    server: usize,
    keeps_latest: bool,
    ledger: &'a Ledger<'a>,
}

impl Reader<'_> {
    /// The number of messages that are missing between others.
    fn read(&self, life: &Life) -> Result<u64, Breach> {
        let mut missing = 0;
        let mut last = (0, 0);
        let mut words = BTreeSet::new();
        for said in &life.received {
            if let Some(word) = self.ledger.word(&said.text) {
                let found = word.may_be_heard(self.room, words.insert(&said.text));
                found.map_err(|text| Breach::new(said.t, text))?;
                continue;
            }
            let place = self.place(said).map_err(|text| {
                let text = format!("client {} of {} {text}", self.client, self.room);
                Breach::new(said.t, text)
            })?;
            if place <= last && !self.keeps_latest {
                let text = format!("client {} was told {place:?} after {last:?}", self.client);
                return Err(Breach::new(said.t, text));
            }
            if place.0 == last.0 && !self.keeps_latest {
                missing += self.between(place.0, last.1, place.1);
            }
            last = last.max(place);
        }
        Ok(missing)
    }

    /// The generation and the number of a message that is for this client.
    fn place(&self, said: &Said) -> Result<(u64, u64), String> {
        let text = &said.text;
        let line = Line::of(text).ok_or_else(|| format!("received `{text}`"))?;
        let key = self.room.split_once(':').map_or("", |(_, key)| key);
        if line.key != key {
            return Err(format!("received `{text}` of another room"));
        }
        let said = self.words.get(&(self.server, self.room, line.generation));
        let to = said.and_then(|said| said.get(&line.number));
        match to {
            None => Err(format!("received `{text}`, which its room had not said")),
            Some(to) if !to.is_for(self.client) => {
                Err(format!("received `{text}`, which was for {to:?}"))
            }
            Some(_) => Ok((line.generation, line.number)),
        }
    }

    /// The number of messages for this client between two others.
    fn between(&self, generation: u64, from: u64, to: u64) -> u64 {
        let said = self.words.get(&(self.server, self.room, generation));
        let between = said
            .into_iter()
            .flat_map(|said| said.range(from + 1..to.max(from + 1)));
        between.filter(|(_, to)| to.is_for(self.client)).count() as u64
    }
}
