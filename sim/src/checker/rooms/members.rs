//! Members: an instance of a room is told of each of its clients, once and in order.

use std::collections::{BTreeMap, BTreeSet};

use super::room_of;
use crate::checker::{Breach, Checker, History};
use crate::trace::{Event, Seen};

/// Of each room one instance at most is there, of a later generation than all before. A client that
/// it is told of is of this room; it joins once, or was there at the start; it speaks and leaves
/// while it is there; the product counts the clients that are there by what the instance was told;
/// and an instance whose last client has left was told so of all.
pub struct Members;

impl Checker for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let mut rooms: BTreeMap<&str, Room> = BTreeMap::new();
        for entry in history.entries {
            if entry.event == Event::Started {
                rooms.clear();
            }
            let Event::Room {
                room,
                generation,
                seen,
            } = &entry.event
            else {
                continue;
            };
            let of = rooms.entry(room).or_default();
            let found = strangers(history, room, seen).and_then(|()| of.take(*generation, seen));
            found.map_err(|text| {
                let text = format!("{room}, generation {generation}: {text}");
                Breach::new(entry.t, text)
            })?;
        }
        Ok(())
    }
}

/// Whether all clients of the event are of this room, and a message is of the client that sent it.
fn strangers(history: &History<'_>, room: &str, seen: &Seen) -> Result<(), String> {
    let who = match seen {
        Seen::Began { there } => there.as_slice(),
        Seen::Heard { who, .. } | Seen::Joined { who, .. } | Seen::Left { who, .. } => {
            std::slice::from_ref(who)
        }
        Seen::Asked { who, .. } => who.as_slice(),
        Seen::Dozes
        | Seen::Ended
        | Seen::Gave { .. }
        | Seen::Said { .. }
        | Seen::Stopped
        | Seen::Wakes => &[],
    };
    for client in who {
        let asked = room_of(history, *client);
        if asked.as_deref() != Some(room) {
            return Err(format!("client {client} asked for {asked:?}: {seen:?}"));
        }
    }
    if let Seen::Heard { who, text, .. } = seen
        && text.split(' ').nth(2) != Some(&who.to_string())
    {
        return Err(format!("client {who} is said to have said `{text}`"));
    }
    Ok(())
}

/// A room as its instances saw it.
#[derive(Default)]
struct Room {
    last: u64,
    is_there: bool,
    there: BTreeSet<u32>,
    /// The clients that have left this instance.
    gone: BTreeSet<u32>,
}

impl Room {
    fn take(&mut self, generation: u64, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::Began { there } => return self.begin(generation, there),
            Seen::Ended => self.is_there = false,
            Seen::Heard { who, .. } if !self.there.contains(who) => {
                return Err(format!("client {who} speaks, and is not there"));
            }
            Seen::Asked { who: Some(who), .. } if !self.there.contains(who) => {
                return Err(format!("client {who} asks, and is not there"));
            }
            Seen::Asked { there, .. } | Seen::Heard { there, .. } => return self.count(*there),
            Seen::Joined { who, there } => {
                if self.gone.contains(who) || !self.there.insert(*who) {
                    return Err(format!("client {who} joins again"));
                }
                return self.count(*there);
            }
            Seen::Left { who, there } => {
                if !self.there.remove(who) {
                    return Err(format!("client {who} leaves, and is not there"));
                }
                self.gone.insert(*who);
                return self.count(*there);
            }
            Seen::Stopped if !self.there.is_empty() => {
                let there = &self.there;
                return Err(format!("stops, and was not told that {there:?} left"));
            }
            Seen::Dozes | Seen::Gave { .. } | Seen::Said { .. } | Seen::Stopped | Seen::Wakes => {}
        }
        Ok(())
    }

    fn begin(&mut self, generation: u64, there: &[u32]) -> Result<(), String> {
        if self.is_there || generation <= self.last {
            let (last, is_there) = (self.last, self.is_there);
            return Err(format!("begins after {last}, which is there: {is_there}"));
        }
        *self = Self {
            last: generation,
            is_there: true,
            there: there.iter().copied().collect(),
            gone: BTreeSet::new(),
        };
        self.count(there.len())
    }

    /// Whether the product says that so many clients are there.
    fn count(&self, there: usize) -> Result<(), String> {
        if there == self.there.len() {
            return Ok(());
        }
        let told = &self.there;
        Err(format!(
            "{told:?} are there as it was told, and {there} by number"
        ))
    }
}
