//! Rooms with a history in a run of the core: clients come back, and texts are recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use busline::bus::{Batch, EndError, Message, Position, Reading, Room, Since, Topic};
use busline::session::{Asking, Subprotocol, Wish};

use super::annals::{Annals, Glance};
use super::reader::{self, Around, Asked, Begun, Greeting, Reader};
use super::rooms::Maker;
use super::rules::Found;
use super::world::World;
use crate::journal::{JOURNAL, Journal, Recovering};
use crate::past::{self, Place};
use crate::rooms::{name, parts};

/// The rooms with a history, and their clients.
#[derive(Default)]
pub(crate) struct Journals {
    /// The rooms by their names.
    pub(crate) rooms: BTreeMap<String, (Room, Annals)>,
    pub(crate) readers: BTreeMap<u32, Reader>,
    /// The most messages that all rooms together have ever had to keep.
    pub(crate) in_all: u64,
}

impl Journals {
    /// Whether a stream may have ended.
    pub(crate) fn may_end(&self) -> bool {
        self.rooms.values().any(|(_, annals)| annals.may_end)
    }
}

/// The wish of a client that comes, as a plan has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shows {
    /// The client whose position it shows.
    pub(crate) of: Option<u32>,
    /// So much is added to the offset.
    pub(crate) ahead: u64,
    pub(crate) last: u64,
}

/// The place that a position of the product says.
fn place(position: Position) -> Place {
    Place {
        epoch: position.epoch.to_string(),
        offset: position.offset,
    }
}

impl World {
    /// The room of this path, which is looked at from now on.
    fn journal(&mut self, path: &str) -> Option<(String, Journal)> {
        let bounds = self.plan.journal?;
        let (_, key) = parts(path).filter(|(kind, _)| *kind == JOURNAL)?;
        let room = self.app.registry().room(JOURNAL, Some(&key)).ok()?;
        let name = name(path)?;
        let rooms = &mut self.journals.rooms;
        let known = rooms.entry(name.clone());
        known.or_insert_with(|| (room, Annals::new(bounds)));
        Some((name, bounds))
    }

    /// A client comes to a journal, and shows the position of another one.
    pub(super) fn come(&mut self, client: u32, path: &str, shows: Shows, maker: Maker) {
        let Some((name, bounds)) = self.journal(path) else {
            return;
        };
        if self.clients.contains_key(&client) {
            return;
        }
        let of = shows
            .of
            .and_then(|of| self.journals.readers.get(&of)?.position());
        let since = of.map(|place| Place {
            offset: place.offset + shows.ahead,
            ..place
        });
        let first = self.first(&name);
        let annals = &self.journals.rooms[&name].1;
        let (was_shelved, top) = (annals.is_shelved(), annals.top());
        let (greeting, after) = self.greeting(&name, since.as_ref(), first);
        // The end of the stream comes after them, whatever a client has asked for.
        let ends = u64::from(annals.has_ended());
        let newest = |count: u64| first.max((top + 1).saturating_sub(count + ends)) - 1;
        let after = match bounds.recovery {
            Recovering::Newest => newest(1),
            _ if shows.last > 0 && (since.is_none() || !bounds.answers()) => newest(shows.last),
            Recovering::Always | Recovering::Asked | Recovering::Off => after.min(top - ends),
        };
        let wish = Wish {
            since: since.as_ref().and_then(parsed),
            last: shows.last,
        };
        let asking = Asking {
            subprotocol: Subprotocol::Json,
            wish,
            join_leave: false,
        };
        if !self.knock(client, path, maker, asking) {
            return;
        }
        self.note_greeting(&greeting, was_shelved && top > 0);
        let has_newest = bounds.recovery == Recovering::Newest && after + ends < top;
        self.note_mark(has_newest, "newest message first");
        let there = self.rooms.there.get(&name);
        let has_crashed = there.is_some_and(|there| there.status.counts.crashes > 0);
        let recovers = greeting == Greeting::Recovers && after + ends < top;
        self.note_mark(
            has_crashed && recovers,
            "recovered after the crash of an instance",
        );
        let Some(place) = self.position(&name) else {
            return;
        };
        let at = self.rt.time();
        let begun = Begun {
            client,
            after,
            place,
            greeting,
            at,
        };
        self.journals
            .readers
            .insert(client, Reader::new(bounds, begun));
    }

    fn note_mark(&mut self, is_reached: bool, mark: &'static str) {
        if is_reached {
            self.marks.insert(mark);
        }
    }

    fn note_greeting(&mut self, greeting: &Greeting, was_shelved: bool) {
        const WHYS: [(&str, &str); 6] = [
            ("ahead", "not recovered: ahead"),
            ("epoch", "not recovered: epoch"),
            ("evicted", "not recovered: evicted"),
            ("expired", "not recovered: expired"),
            ("removed", "not recovered: removed"),
            ("too_many", "not recovered: too many"),
        ];
        match greeting {
            Greeting::Nothing => self.note_mark(true, "client of a history without recovery"),
            Greeting::Present => {}
            Greeting::Recovers => {
                self.marks.insert("recovered");
                if was_shelved {
                    self.marks.insert("recovered from the shelf");
                }
            }
            Greeting::Refused(whys) => {
                let only = WHYS.iter().find(|(why, _)| *whys == [*why]);
                self.marks.extend(only.map(|(_, mark)| *mark));
            }
        }
    }

    /// The first notice that a client must be told, and the offset after which its messages come.
    fn greeting(&self, name: &str, since: Option<&Place>, first: u64) -> (Greeting, u64) {
        let (annals, now) = (&self.journals.rooms[name].1, self.rt.time());
        let top = annals.top();
        let refused = |whys| (Greeting::Refused(whys), top);
        let recovery = self.plan.journal.map(|journal| journal.recovery);
        let since = since.filter(|_| self.plan.journal.is_some_and(Journal::answers));
        let Some(since) = since else {
            let is_off = recovery == Some(Recovering::Off);
            let greeting = if is_off {
                Greeting::Nothing
            } else {
                Greeting::Present
            };
            return (greeting, top);
        };
        let most = self.plan.journal.map_or(0, Journal::recovery_max);
        if annals.epoch.as_ref() != Some(&since.epoch) {
            refused(vec!["epoch"])
        } else if since.offset > top {
            refused(vec!["ahead"])
        } else if since.offset + 1 < first {
            refused(annals.whys(first - 1, now, self.journals.in_all))
        } else if annals.last().saturating_sub(since.offset) > most {
            refused(vec!["too_many"])
        } else {
            (Greeting::Recovers, since.offset)
        }
    }

    /// The first offset that is left, as a reading tells it; the reading is judged.
    fn first(&mut self, name: &str) -> u64 {
        let now = self.rt.time();
        let in_all = self.journals.in_all;
        let Some((room, annals)) = self.journals.rooms.get_mut(name) else {
            return 1;
        };
        let limit = usize::MAX;
        let reading = Reading {
            since: None,
            limit,
            reverse: false,
        };
        let topic = Topic::from_service_to_ws(&*room);
        let Ok(page) = self.app.bus().history(&topic, &reading) else {
            return 1;
        };
        let texts = page.messages.iter().map(|recorded| {
            let text = recorded.message.as_text().unwrap_or_default();
            let text = if recorded.is_end {
                past::end(text)
            } else {
                text.to_owned()
            };
            (recorded.message.offset().unwrap_or(0), text)
        });
        let texts: Vec<_> = texts.collect();
        let first = texts
            .first()
            .map_or_else(|| annals.top() + 1, |(offset, _)| *offset);
        let (least, most) = annals.kept(now);
        let is_there = first >= least && (first <= most || annals.may_not_fit(first - 1, in_all));
        let asked = Asked::Texts {
            limit,
            reverse: false,
            at: now,
        };
        let place = place(page.position);
        let mut around = Around {
            annals,
            now,
            in_all,
        };
        let mut found = reader::page(&asked, &place, &texts, &mut around);
        if !is_there {
            found = Err(format!(
                "{name} keeps messages from {first} on, and not from {least} to {most} on"
            ));
        }
        self.judge("journal", found);
        first
    }

    /// The program publishes texts to a journal.
    pub(super) fn record_texts(&mut self, path: &str, text: &str, count: u64, live: bool) {
        let Some((name, _)) = self.journal(path) else {
            return;
        };
        self.look_at_journals();
        let texts = (1..=count.max(1)).map(|number| format!("{text} {number}"));
        let texts: Vec<String> = texts.collect();
        let batch = Batch::join(texts.iter().map(|text| Message::from(text.clone())));
        let (Some((_, key)), Some(batch)) = (parts(path), batch) else {
            return;
        };
        let Ok(room) = self.app.room(JOURNAL, &key) else {
            return;
        };
        let batch = if live { batch.live() } else { batch };
        let annals = &self.journals.rooms[&name].1;
        let (top, has_ended) = (annals.top(), annals.has_ended());
        let published = room.try_publish(batch);
        let told = published.map(|published| published.position.map(place));
        if told.is_err() != has_ended {
            let found = Err(format!("{name} has ended: {has_ended}, and said {told:?}"));
            return self.judge("journal", found);
        }
        let Ok(told) = told else {
            return self.note_mark(true, "publish refused after the end");
        };
        self.noted += texts.len() as u64;
        if live {
            self.note_live(&name, texts.iter());
            let found = told.map_or(Ok(()), |told| Err(format!("live texts are at {told:?}")));
            return self.judge("journal", found);
        }
        self.look_at_journals();
        let found = self.recorded(&name, top, &texts, told);
        self.judge("journal", found);
    }

    /// The program ends the stream of a journal.
    pub(super) fn end(&mut self, path: &str, data: u64) {
        let Some((name, _)) = self.journal(path) else {
            return;
        };
        self.look_at_journals();
        let room = parts(path).and_then(|(_, key)| self.app.room(JOURNAL, &key).ok());
        let (Some(room), Some((_, annals))) = (room, self.journals.rooms.get_mut(&name)) else {
            return;
        };
        annals.may_end = true;
        let (top, has_ended) = (annals.top(), annals.has_ended());
        let data = format!("{{\"end\":{data}}}");
        let told = room.end(&data).map(place);
        self.look_at_journals();
        let found = match told {
            Ok(told) if !has_ended => {
                self.noted += 1;
                self.recorded(&name, top, &[past::end(&data)], Some(told))
            }
            Err(EndError::Ended) if has_ended => Ok(()),
            Ok(_) | Err(_) => Err(format!("{name} has ended: {has_ended}, and said {told:?}")),
        };
        self.judge("journal", found);
    }

    /// Notes that a client tells an instance to end its stream.
    pub(super) fn note_order(&mut self, client: u32, text: &str) {
        let is_hosted = self.plan.journal.is_some_and(|journal| journal.is_hosted);
        let client = self.clients.get(&client);
        let name = client.map(|client| client.room.to_string());
        let room = name.and_then(|name| self.journals.rooms.get_mut(&name));
        if let Some((_, annals)) = room.filter(|_| is_hosted && text.starts_with("end ")) {
            annals.may_end = true;
        }
    }

    /// Texts that were recorded have the next offsets.
    fn recorded(&mut self, name: &str, top: u64, texts: &[String], told: Option<Place>) -> Found {
        let Some((_, annals)) = self.journals.rooms.get_mut(name) else {
            return Ok(());
        };
        let count = texts.len() as u64;
        // The history may have been forgotten for others, and be gone at once.
        let told = told.ok_or("a recorded text has no position")?;
        if told.offset != top + count && told.offset != count {
            return Err(format!("{count} texts after {top} are at {told:?}"));
        }
        for (offset, text) in (told.offset + 1 - count..).zip(texts) {
            let epoch = told.epoch.clone();
            annals.place(&Place { epoch, offset }, text)?;
        }
        Ok(())
    }

    fn note_live<'a>(&mut self, name: &str, texts: impl Iterator<Item = &'a String>) {
        if let Some((_, annals)) = self.journals.rooms.get_mut(name) {
            annals.live.extend(texts.cloned());
        }
    }

    /// A client asks to publish a text, and for a reply.
    pub(super) fn tell(&mut self, client: u32, id: u64, text: &str, live: bool) {
        let Some(of) = self.clients.get(&client).filter(|it| it.service == JOURNAL) else {
            return;
        };
        if !of.peer.is_talking() {
            return;
        }
        let name = of.room.to_string();
        if live && !self.plan.journal.is_some_and(|journal| journal.is_hosted) {
            self.note_live(&name, [text.to_owned()].iter());
        }
        self.note_order(client, text);
        let room = self.journals.rooms.get(&name);
        let has_ended = room.is_some_and(|(_, annals)| annals.has_ended());
        let asked = Asked::Text {
            text: text.to_owned(),
            live,
            is_late: has_ended,
        };
        if let Some(reader) = self.journals.readers.get_mut(&client) {
            reader.asked.push_back((id, asked));
        }
        let json = serde_json::json!({ "id": id, "text": text, "live": live });
        self.clients[&client]
            .peer
            .request(&json.to_string(), Some(text));
    }

    /// A client asks for texts of the history.
    pub(super) fn look_up(&mut self, client: u32, id: u64, limit: usize, reverse: bool) {
        let Some(of) = self.clients.get(&client).filter(|it| it.service == JOURNAL) else {
            return;
        };
        if !of.peer.is_talking() {
            return;
        }
        let at = self.rt.time();
        let asked = Asked::Texts { limit, reverse, at };
        if let Some(reader) = self.journals.readers.get_mut(&client) {
            reader.asked.push_back((id, asked));
        }
        let wanted = serde_json::json!({ "limit": limit, "reverse": reverse });
        let json = serde_json::json!({ "id": id, "history": wanted });
        of.peer.request(&json.to_string(), None);
    }

    /// The program removes all messages of a journal.
    pub(super) fn erase(&mut self, path: &str) {
        let Some((name, _)) = self.journal(path) else {
            return;
        };
        self.look_at_journals();
        if let Some((room, annals)) = self.journals.rooms.get_mut(&name) {
            self.app
                .bus()
                .remove_history(&Topic::from_service_to_ws(&*room));
            annals.remove(self.rt.time());
        }
    }

    fn position(&self, name: &str) -> Option<Place> {
        let (room, _) = self.journals.rooms.get(name)?;
        let topic = Topic::from_service_to_ws(room);
        self.app.bus().position(&topic).map(place)
    }

    /// Looks at the journals and at all that their clients were told, after a step.
    pub(super) fn look_at_journals(&mut self) {
        let Some(bounds) = self.plan.journal else {
            return;
        };
        let now = self.rt.time();
        let names: Vec<String> = self.journals.rooms.keys().cloned().collect();
        let glances = names
            .iter()
            .filter_map(|name| Some((name, self.glance(name, now)?)));
        let mut glances: Vec<(&String, Glance)> = glances.collect();
        let shelved = glances.iter().filter(|(name, glance)| {
            let annals = &self.journals.rooms[*name].1;
            !glance.has_readers && (annals.epoch.is_some() || glance.place.offset > 0)
        });
        let is_crowded = shelved.count() > bounds.positions;
        for (name, glance) in &mut glances {
            glance.is_crowded = is_crowded;
            let (_, annals) = self.journals.rooms.get_mut(*name).expect("it is known");
            match annals.take(glance) {
                Ok(true) => drop(self.marks.insert("position forgotten")),
                Ok(false) if annals.has_ended() => drop(self.marks.insert("stream ended")),
                Ok(false) => {}
                Err(text) => self.judge("journal", Err(format!("{name}: {text}"))),
            }
        }
        let rooms = self.journals.rooms.values();
        let kept = rooms.map(|(_, annals)| annals.top().min(bounds.messages as u64));
        self.journals.in_all = self.journals.in_all.max(kept.sum());
        self.look_at_readers(now);
    }

    fn glance(&self, name: &str, now: Duration) -> Option<Glance> {
        let (room, _) = self.journals.rooms.get(name)?;
        let topic = Topic::from_service_to_ws(room);
        Some(Glance {
            now,
            place: self.app.bus().position(&topic).map(place)?,
            has_readers: self.app.bus().topic_counts(&topic).is_some(),
            has_ended: self.app.bus().has_ended(&topic),
            is_crowded: false,
            in_all: self.journals.in_all,
        })
    }

    fn look_at_readers(&mut self, now: Duration) {
        let mut all = Vec::new();
        for (number, reader) in &mut self.journals.readers {
            let Some(client) = self.clients.get(number) else {
                continue;
            };
            let rooms = &mut self.journals.rooms;
            let Some((_, annals)) = rooms.get_mut(&client.room.to_string()) else {
                continue;
            };
            let mut around = Around {
                annals,
                now,
                in_all: self.journals.in_all,
            };
            for heard in client.peer.heard() {
                let found = reader.take(&heard, &mut around);
                all.push(found.map_err(|text| format!("client {number} {text}")));
            }
        }
        for found in all {
            self.judge("journal", found);
        }
    }
}

/// The position as a client shows it.
fn parsed(place: &Place) -> Option<Since> {
    format!("{}:{}", place.epoch, place.offset).parse().ok()
}
