//! Clients of rooms in a run of the core: they come, and rooms are made and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use busline::Peer;
use busline::bus::Room;
use busline::identity::Identity;
use busline::registry::{ServiceStatus, State};
use busline::session::{Admission, Asking};

use super::halls::Halls;
use super::rules::{self, Asked};
use super::world::{World, next_to_serve};
use crate::host;
use crate::journal::JOURNAL;
use crate::rooms::{KINDS, RELAY, Rooms as Bounds, is_of, name, parts, query};
use crate::trace::Event;

/// The rooms of a run, and what was seen of them.
#[derive(Default)]
pub(crate) struct Rooms {
    pub(crate) halls: Halls,
    /// The rooms that are there, by their names.
    pub(crate) there: BTreeMap<String, There>,
    /// The rooms that are gone.
    pub(crate) gone: BTreeMap<String, Room>,
    /// Texts that clients of relays have sent.
    pub(crate) lines: Vec<Line>,
}

/// A room that is there.
#[derive(Clone, Debug)]
pub(crate) struct There {
    pub(crate) room: Room,
    pub(crate) status: ServiceStatus,
    /// The client that made it: its address and its subject.
    pub(crate) maker: Maker,
}

/// The address and the subject of a client; the subject 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) address: u8,
    pub(crate) subject: u8,
}

/// A text that a client of a relay has sent.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) from: u32,
    /// The clients that are to receive it, if they stay.
    pub(crate) to: Vec<u32>,
}

impl Maker {
    fn peer(self, client: u32) -> Peer {
        let subject = (self.subject > 0).then(|| format!("subject {}", self.subject));
        Peer {
            address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.address))),
            query: Some(query(client).into()),
            identity: Identity {
                subject: subject.map(Into::into),
                ..Identity::default()
            },
            ..Peer::default()
        }
    }
}

impl World {
    /// A client connects to a room.
    pub(super) fn enter(&mut self, client: u32, path: &str, maker: Maker) {
        let known = KINDS.into_iter().any(|kind| is_of(kind, path));
        if known && !self.clients.contains_key(&client) {
            self.knock(client, path, maker, Asking::default());
        }
    }

    /// A client asks for a room; returns whether it was admitted.
    pub(super) fn knock(&mut self, client: u32, path: &str, maker: Maker, asking: Asking) -> bool {
        let known = parts(path).and_then(|(kind, key)| {
            let kind = KINDS.into_iter().chain([JOURNAL]).find(|it| *it == kind)?;
            Some((kind, key))
        });
        let (Some((kind, key)), Some(bounds)) = (known, self.plan.wild.rooms) else {
            return false;
        };
        self.recorder.record(Event::Connecting {
            client,
            service: path.to_owned(),
            zone: 0,
        });
        let room = self.app.registry().room(kind, Some(&key));
        let found = rules::key(&key, room.as_ref().err());
        self.judge("admission", found);
        let Ok(room) = room else {
            let reason = "no key".to_owned();
            self.recorder.record(Event::Refused { client, reason });
            return false;
        };
        // A journal has no bound of its own.
        let clients = if kind == JOURNAL {
            usize::MAX
        } else {
            bounds.clients
        };
        let asked = Asked::new(self, &room, Bounds { clients, ..bounds }, maker);
        self.ask(client, kind, asked, asking)
    }

    fn ask(&mut self, client: u32, kind: &'static str, asked: Asked, asking: Asking) -> bool {
        let peer = asked.maker.peer(client);
        let requested = Admission::request_wishing(&self.app, &asked.room, peer, asking);
        let found = rules::admission_to_room(self, &asked, requested.as_ref().map(drop));
        self.judge("admission", found);
        let admission = match requested {
            Ok(admission) => admission,
            Err(error) => {
                let reason = error.to_string();
                self.recorder.record(Event::Refused { client, reason });
                return false;
            }
        };
        self.recorder.record(Event::Connected { client });
        if asked.before.is_none() {
            self.made(&asked);
        }
        let since = asked.before.map_or(0, |status| next_to_serve(&status));
        self.open(client, kind, admission, since);
        true
    }

    /// A client has made a room.
    fn made(&mut self, asked: &Asked) {
        let Some(status) = self.app.registry().room_status(&asked.room) else {
            let found = Err(format!("{} is not there for its client", asked.room));
            return self.judge("rooms", found);
        };
        let name = asked.room.to_string();
        self.rooms.gone.remove(&name);
        let there = There {
            room: asked.room.clone(),
            status,
            maker: asked.maker,
        };
        self.record_room(&name, &status);
        self.rooms.there.insert(name, there);
    }

    /// Looks at the rooms after a step: those that have changed, and those that are gone.
    pub(super) fn look_at_rooms(&mut self) {
        if self.plan.wild.rooms.is_none() {
            return;
        }
        let rooms = host::rooms(&self.app);
        let names: BTreeSet<String> = rooms.iter().map(Room::to_string).collect();
        let all: Vec<String> = self.rooms.there.keys().cloned().collect();
        for name in all.iter().filter(|name| !names.contains(*name)) {
            self.room_gone(name);
        }
        for (name, room) in names.iter().zip(&rooms_in_order(rooms)) {
            self.look_at_room(name, room);
        }
    }

    fn look_at_room(&mut self, name: &str, room: &Room) {
        let Some(status) = self.app.registry().room_status(room) else {
            return;
        };
        let Some(there) = self.rooms.there.get_mut(name) else {
            let found = Err(format!("{name} is there, and no client has made it"));
            return self.judge("rooms", found);
        };
        if there.status != status {
            there.status = status;
            self.record_room(name, &status);
        }
    }

    fn record_room(&mut self, name: &str, status: &ServiceStatus) {
        let event = host::status(&self.app, name, status);
        self.recorder.record(event);
        let is_draining = self.drained.is_some();
        let found = self.lives.take(name, self.rt.time(), status, is_draining);
        self.judge("lifecycle", found);
    }

    fn room_gone(&mut self, name: &str) {
        let Some(There { room, status, .. }) = self.rooms.there.remove(name) else {
            return;
        };
        self.rooms.gone.insert(name.to_owned(), room);
        let is_draining = self.drained.is_some();
        let found = self.lives.gone(name, self.rt.time(), is_draining);
        self.judge("lifecycle", found);
        if status.clients > 1 {
            let found = Err(format!("{name} is gone with {} clients", status.clients));
            self.judge("rooms", found);
        }
    }

    /// The task of the instance of a room is dropped.
    pub(super) fn evict(&mut self, path: &str) {
        let host = name(path).and_then(|name| self.rooms.halls.host(&name));
        if let Some(host) = host {
            self.killed = true;
            self.marks.insert("instance of a room dropped");
            self.rt.kill(host.task);
        }
    }

    /// Notes which clients are to receive the text of a client of a relay.
    pub(super) fn note_line(&mut self, from: u32, text: &str) {
        let echo = self.plan.wild.rooms.is_some_and(|rooms| rooms.echo);
        let Some(client) = self.clients.get(&from).filter(|c| c.service == RELAY) else {
            return;
        };
        if !client.is_sound() {
            return;
        }
        let room = &client.room;
        let others = self.clients.iter().filter(|(number, other)| {
            other.room == *room && !other.is_ended() && (echo || **number != from)
        });
        let to = others.map(|(number, _)| *number).collect();
        let text = text.to_owned();
        self.rooms.lines.push(Line { text, from, to });
    }

    /// Whether the room of this name has an instance that takes each event at once.
    pub(crate) fn is_hall_taking(&self, name: &str) -> bool {
        let runs = self.rooms.there.get(name);
        let runs = runs.is_some_and(|there| there.status.state == State::Running);
        let host = self.rooms.halls.host(name);
        runs && host.is_some_and(|host| !host.is_busy)
    }
}

/// The rooms in the order of their names.
fn rooms_in_order(mut rooms: Vec<Room>) -> Vec<Room> {
    rooms.sort_by_key(Room::to_string);
    rooms
}

/// The numbers of rooms that were made from this address, and by this subject.
pub(crate) fn made_by(rooms: &Rooms, maker: Maker) -> (usize, usize) {
    let of = |is_it: &dyn Fn(&Maker) -> bool| {
        let makers = rooms.there.values().map(|there| &there.maker);
        makers.filter(|maker| is_it(maker)).count()
    };
    let subjects = |it: &Maker| it.subject > 0 && it.subject == maker.subject;
    (of(&|it| it.address == maker.address), of(&subjects))
}
