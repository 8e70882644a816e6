//! The hard situations of rooms that a trace has reached.

use std::collections::BTreeSet;

use crate::hall::SHUT;
use crate::plan::Action;
use crate::rooms::{RELAY, is_of, is_room};
use crate::trace::{Event, Seen};

/// The situations, in order; each is of the whole server and of the core.
#[cfg(test)]
const ALL: [&str; 14] = [
    "client closed by its room",
    "client of a relay served",
    "clients of two rooms at one instant",
    "clients that the crash of an instance has left",
    "drain with rooms",
    "instance of a room aborted after its grace",
    "join while a room lingers",
    "join while a room stops",
    "member left while its room starts again",
    "message of a room whose client has gone",
    "room crashed with clients there",
    "room made",
    "room made again after its end",
    "room removed",
];

/// A situation that the core alone is asked for.
const AT_ONCE: &str = "room made again at the instant of its end";

/// The rooms of a run while its trace is read.
#[derive(Default)]
pub(crate) struct RoomMarks {
    /// The rooms that are there, with their states and numbers of clients.
    there: Vec<Known>,
    /// The rooms that are gone, and when they went.
    gone: Vec<(String, u64)>,
    /// The clients whose connections are over.
    ended: BTreeSet<u32>,
    /// The last room that a client has joined, and when.
    joined: Option<(String, u64)>,
}

struct Known {
    name: String,
    state: &'static str,
    clients: usize,
    /// Whether an instance of it has ended, and none has begun since.
    has_lost: bool,
}

/// A situation, and whether it is reached.
type Mark = (&'static str, bool);

impl RoomMarks {
    /// The situations of an event at this time.
    pub(crate) fn take(&mut self, t: u64, event: &Event) -> Vec<&'static str> {
        let marks = self.marks(t, event).into_iter();
        marks
            .filter(|(_, is_it)| *is_it)
            .map(|(mark, _)| mark)
            .collect()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "few events say anything of rooms"
    )]
    fn marks(&mut self, t: u64, event: &Event) -> Vec<Mark> {
        match event {
            Event::Started => {
                *self = Self::default();
                Vec::new()
            }
            Event::Acted {
                action: Action::Drain,
            } => vec![("drain with rooms", !self.there.is_empty())],
            Event::Closed { code, .. } => vec![("client closed by its room", *code == Some(SHUT))],
            Event::Ended { client, .. } => {
                self.ended.insert(*client);
                Vec::new()
            }
            Event::Log {
                message, fields, ..
            } => {
                let name = fields.get("service").map_or("", String::as_str);
                if is_room(name) {
                    return self.log(t, message, name);
                }
                Vec::new()
            }
            Event::Room { room, seen, .. } => self.saw(room, seen),
            Event::Status {
                service,
                state,
                clients,
                ..
            } if is_room(service) => self.status(t, service, state, *clients),
            _ => Vec::new(),
        }
    }

    fn log(&mut self, t: u64, message: &str, name: &str) -> Vec<Mark> {
        match message {
            "service stopped" => {
                self.there.retain(|room| room.name != name);
                self.gone.push((name.to_owned(), t));
                vec![("room removed", true)]
            }
            "service started" if self.known(name).is_none() => {
                let gone = self.gone.iter().rev().find(|(gone, _)| gone == name);
                let at = gone.map(|(_, at)| *at);
                self.there.push(Known {
                    name: name.to_owned(),
                    state: "running",
                    clients: 0,
                    has_lost: false,
                });
                vec![
                    ("room made", true),
                    ("room made again after its end", at.is_some()),
                    (AT_ONCE, at == Some(t)),
                ]
            }
            _ => {
                let aborted = message.starts_with("service did not return");
                vec![("instance of a room aborted after its grace", aborted)]
            }
        }
    }

    fn known(&mut self, name: &str) -> Option<&mut Known> {
        self.there.iter_mut().find(|room| room.name == name)
    }

    fn saw(&mut self, room: &str, seen: &Seen) -> Vec<Mark> {
        match seen {
            Seen::Began { there } => {
                let lost = self
                    .known(room)
                    .map(|room| std::mem::take(&mut room.has_lost));
                let is_it = lost == Some(true) && !there.is_empty();
                vec![("clients that the crash of an instance has left", is_it)]
            }
            Seen::Ended => {
                self.known(room)
                    .into_iter()
                    .for_each(|room| room.has_lost = true);
                Vec::new()
            }
            Seen::Heard { who, .. } => {
                let is_gone = self.ended.contains(who);
                vec![("message of a room whose client has gone", is_gone)]
            }
            Seen::Asked { .. }
            | Seen::Dozes
            | Seen::Gave { .. }
            | Seen::Joined { .. }
            | Seen::Left { .. }
            | Seen::Said { .. }
            | Seen::Stopped
            | Seen::Wakes => Vec::new(),
        }
    }

    fn status(&mut self, t: u64, name: &str, state: &'static str, clients: usize) -> Vec<Mark> {
        let mut marks = vec![
            (
                "client of a relay served",
                is_of(RELAY, name) && clients > 1,
            ),
            (
                "join while a room stops",
                state == "stopping" && clients > 0,
            ),
            (
                "room crashed with clients there",
                state == "backoff" && clients > 0,
            ),
        ];
        let Some(room) = self.known(name) else {
            return marks;
        };
        let (before, there) = (room.state, room.clients);
        (room.state, room.clients) = (state, clients);
        let lingered = before == "lingering" && state == "running";
        marks.push(("join while a room lingers", lingered));
        let restarts = [before, state] == ["backoff", "backoff"];
        let has_left = restarts && clients < there;
        marks.push(("member left while its room starts again", has_left));
        if clients > there {
            let last = self.joined.replace((name.to_owned(), t));
            let is_other = last.is_some_and(|(room, at)| room != name && at == t);
            marks.push(("clients of two rooms at one instant", is_other));
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core, marks};

    #[test]
    fn each_situation_is_asked_for_in_both_simulators() {
        for mark in ALL {
            assert!(marks::ALL.contains(&mark), "{mark}");
            assert!(core::MARKS.contains(&mark), "{mark}");
        }
        // The whole server seldom comes to it.
        assert!(core::MARKS.contains(&AT_ONCE));
    }
}
