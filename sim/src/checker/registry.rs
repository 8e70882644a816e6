//! The registry: a service runs exactly while it has clients, once at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, lifecycle};
use super::{Breach, Checker};
use crate::rooms::is_room;
use crate::trace::{Entry, Event};

/// Of each service one instance at most is there at any time, each of the next generation, in rooms
/// each of a later one; a service runs if and only if it has clients; and no more clients have
/// joined than there are sessions.
pub struct Registry;

impl Checker for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let relays = relays(history);
        let mut logs = Logs::default();
        for entry in history.entries {
            if entry.event == Event::Started {
                logs = Logs::default();
            }
            let found = logs.take(entry, &relays).and_then(|()| status(entry));
            found.map_err(|text| Breach::new(entry.t, text))?;
        }
        Ok(())
    }
}

/// What the logs say of instances, event by event.
#[derive(Default)]
struct Logs(BTreeMap<String, Instances>);

#[derive(Default)]
struct Instances {
    last: u64,
    alive: Option<u64>,
}

impl Logs {
    fn take(&mut self, entry: &Entry, relays: &BTreeSet<&str>) -> Result<(), String> {
        let Some((service, message, generation)) = lifecycle(&entry.event) else {
            return Ok(());
        };
        let instances = self.0.entry(service.to_owned()).or_default();
        let found = match message {
            // The generations of a room rise, but leave numbers out.
            "service started" => instances.start(generation, is_room(service)),
            "instance returned" | "instance ended" => instances.end(generation),
            "service stopped" if relays.contains(kind(service)) => instances.end(generation),
            "service stopped" => instances.stopped(),
            _ => Ok(()),
        };
        found.map_err(|text| format!("{service}: generation {generation} {text}"))
    }
}

/// The kind of a room, or the name of a service.
fn kind(service: &str) -> &str {
    service.split(':').next().unwrap_or(service)
}

/// The kinds of rooms of which no instance ever ended: a relay has none, and is started and stopped
/// all the same.
fn relays<'a>(history: &History<'a>) -> BTreeSet<&'a str> {
    let all = history
        .entries
        .iter()
        .filter_map(|entry| lifecycle(&entry.event));
    let (mut rooms, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (service, message, _) in all {
        if is_room(service) {
            rooms.insert(kind(service));
        }
        if message.starts_with("instance ") {
            others.insert(kind(service));
        }
    }
    rooms.difference(&others).copied().collect()
}

impl Instances {
    fn start(&mut self, generation: u64, is_room: bool) -> Result<(), String> {
        if self.alive == Some(generation) {
            return Ok(()); // It lingered and has clients again.
        }
        if let Some(alive) = self.alive.replace(generation) {
            return Err(format!("was started while generation {alive} is there"));
        }
        let last = std::mem::replace(&mut self.last, generation);
        let follows = if is_room {
            generation > last
        } else {
            generation == last + 1
        };
        if !follows {
            return Err(format!("was started after generation {last}"));
        }
        Ok(())
    }

    fn end(&mut self, generation: u64) -> Result<(), String> {
        match self.alive.take() {
            Some(alive) if alive == generation => Ok(()),
            other => Err(format!("ended, there was {other:?}")),
        }
    }

    fn stopped(&mut self) -> Result<(), String> {
        match self.alive {
            None => Ok(()),
            Some(alive) => Err(format!("stopped while generation {alive} is there")),
        }
    }
}

/// What the registry says of itself, after every tick.
fn status(entry: &Entry) -> Result<(), String> {
    let Event::Status {
        service,
        state,
        clients,
        starts,
        exits,
        sessions_open,
        ..
    } = &entry.event
    else {
        return Ok(());
    };
    let alive = starts - exits;
    let is_right = match *state {
        "running" => *clients > 0 && alive == 1,
        "stopped" => *clients == 0 && alive == 0,
        "lingering" => *clients == 0 && alive == 1,
        "stopping" => alive == 1,
        "backoff" | "failed" => alive == 0,
        _ => false,
    };
    if !is_right {
        return Err(format!(
            "{service} is {state} with {clients} clients and {alive} instances"
        ));
    }
    // A session that closes has left its service already.
    if clients > sessions_open {
        return Err(format!(
            "{service} has {clients} clients, and there are {sessions_open} sessions"
        ));
    }
    Ok(())
}
