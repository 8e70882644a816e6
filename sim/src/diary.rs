//! The histories of a server, as they are seen from outside: each change of an epoch, and each
//! message that a history has taken.

use std::collections::BTreeMap;

use busline::App;
use busline::bus::{Position, Reading, Recorded, Room, Since, Topic};
use busline::rt::Runtime;

use crate::journal::{JOURNAL, JOURNALS};
use crate::trace::Event;

/// Longer than any history of a plan.
const ALL: usize = 1_000;

/// The rooms with a history that were ever there, and their last positions.
#[derive(Default)]
pub(crate) struct Diary(BTreeMap<String, (Room, Option<Position>)>);

impl Diary {
    /// The changes since the last time; `there` are the rooms that are there.
    pub(crate) fn changed<R: Runtime>(&mut self, app: &App<R>, there: &[Room]) -> Vec<Event> {
        if self.0.is_empty() {
            self.0
                .extend(JOURNALS.iter().filter_map(|path| known(path)));
        }
        let journals = there.iter().filter(|room| room.kind().as_str() == JOURNAL);
        for room in journals {
            let known = self.0.entry(room.to_string());
            known.or_insert_with(|| (room.clone(), None));
        }
        let rooms = self.0.iter_mut();
        let changed = rooms.filter_map(|(name, (room, last))| changed(app, name, room, last));
        changed.collect()
    }
}

/// Whether a kind of rooms of the application has a history.
pub(crate) fn is_kept<R: Runtime>(app: &App<R>) -> bool {
    app.registry().has_rooms(JOURNAL)
}

/// A room of plans, by its path: a backend may publish where no client has ever been.
fn known(path: &str) -> Option<(String, (Room, Option<Position>))> {
    let (kind, key) = path.split_once('/')?;
    let room = Room::new(&kind.parse().ok()?, key).ok()?;
    Some((room.to_string(), (room, None)))
}

fn changed<R: Runtime>(
    app: &App<R>,
    name: &str,
    room: &Room,
    last: &mut Option<Position>,
) -> Option<Event> {
    let topic = Topic::from_service_to_ws(room);
    let position = app.bus().position(&topic)?;
    // A room without subscribers and messages may have no history.
    let is_there = position.offset > 0 || app.bus().topic_counts(&topic).is_some();
    if !is_there || *last == Some(position) {
        return None;
    }
    let before = last.filter(|last| last.epoch == position.epoch);
    let reading = Reading {
        since: Some(Since {
            epoch: Some(position.epoch),
            offset: before.map_or(0, |before| before.offset),
        }),
        limit: ALL,
        reverse: false,
    };
    let page = app.bus().history(&topic, &reading);
    let messages = page.map(|page| page.messages).unwrap_or_default();
    *last = Some(position);
    Some(Event::Journal {
        room: name.to_owned(),
        epoch: position.epoch.to_string(),
        top: position.offset,
        texts: messages.iter().filter_map(text).collect(),
    })
}

/// The offset and the text of a message.
fn text(recorded: &Recorded) -> Option<(u64, String)> {
    let message = &recorded.message;
    Some((message.offset()?, message.as_text()?.to_owned()))
}
