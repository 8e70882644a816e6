//! The instances of the rooms `hall` of a run, as they are seen from within.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use busline::rt::Clock;

use super::executor::{Executor, Number};
use crate::hall::Surroundings;
use crate::shared::Shared;
use crate::trace::{Event, Recorder, Seen, To};

/// All instances by the names of their rooms; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Halls(Shared<Inner>);

#[derive(Default)]
struct Inner {
    hosts: BTreeMap<String, Host>,
    said: BTreeMap<String, Vec<Said>>,
}

/// An instance that runs.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) task: Number,
    /// The clients that are there, as it was told.
    pub(crate) there: BTreeSet<u32>,
    /// Whether it does something else than to wait for events.
    pub(crate) is_busy: bool,
}

/// Something that a room said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) generation: u64,
    pub(crate) number: u64,
    /// The clients for which it was, of those that were there.
    pub(crate) to: BTreeSet<u32>,
}

impl Halls {
    /// The instance of the room of this name, if it has one.
    pub(crate) fn host(&self, room: &str) -> Option<Host> {
        self.0.with(|inner| inner.hosts.get(room).cloned())
    }

    /// Visits all that the room of this name has ever said, in order.
    pub(crate) fn said<T>(&self, room: &str, visit: impl FnOnce(&[Said]) -> T) -> T {
        self.0
            .with(|inner| visit(inner.said.get(room).map_or(&[], Vec::as_slice)))
    }

    /// The surroundings of the instances: they are seen here, and in the trace.
    pub(crate) fn around(&self, rt: &Executor, recorder: &Recorder) -> Surroundings {
        let (halls, clock, recorder) = (self.clone(), rt.clone(), recorder.clone());
        let sleeper = rt.clone();
        Surroundings {
            watch: Arc::new(move |room: &str, generation, seen: Seen| {
                let task = clock.running().unwrap_or_default();
                halls
                    .0
                    .with(|inner| inner.saw(room, generation, task, &seen));
                let room = room.to_owned();
                recorder.record(Event::Room {
                    room,
                    generation,
                    seen,
                });
            }),
            sleep: Arc::new(move |wait: Duration| sleeper.sleep_until(sleeper.now() + wait)),
        }
    }
}

impl Inner {
    fn saw(&mut self, room: &str, generation: u64, task: Number, seen: &Seen) {
        match seen {
            Seen::Began { there } => {
                let host = Host {
                    task,
                    there: there.iter().copied().collect(),
                    is_busy: false,
                };
                self.hosts.insert(room.to_owned(), host);
            }
            Seen::Dozes => self.with(room, |host| host.is_busy = true),
            Seen::Wakes => self.with(room, |host| host.is_busy = false),
            Seen::Joined { who, .. } => self.with(room, |host| host.there.extend([*who])),
            Seen::Left { who, .. } => self.with(room, |host| host.there.retain(|it| it != who)),
            Seen::Said { number, to } => self.say(room, generation, *number, *to),
            Seen::Ended => drop(self.hosts.remove(room)),
            Seen::Asked { .. } | Seen::Gave { .. } | Seen::Heard { .. } | Seen::Stopped => {}
        }
    }

    fn with(&mut self, room: &str, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(room) {
            change(host);
        }
    }

    fn say(&mut self, room: &str, generation: u64, number: u64, to: To) {
        let there = self.hosts.get(room).map(|host| &host.there);
        let there = there.into_iter().flatten().copied();
        let to = there.filter(|client| to.is_for(*client));
        let said = Said {
            generation,
            number,
            to: to.collect(),
        };
        self.said.entry(room.to_owned()).or_default().push(said);
    }
}
