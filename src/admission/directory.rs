//! The directory: which clients are connected, by number, by subject and by room.
//!
//! The directory is kept where callers may act on clients, and costs other applications nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc as StdArc;

use crate::bus::{ClientId, Room};
use crate::sync::{Arc, Mutex};

/// The connected clients; a handle, cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory(Option<Arc<Mutex<Lists>>>);

#[derive(Default)]
struct Lists {
    by_id: BTreeMap<ClientId, Place>,
    by_subject: BTreeSet<(StdArc<str>, ClientId)>,
    by_room: BTreeSet<(Room, ClientId)>,
    subjects: usize,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) room: Room,
    pub(crate) subject: Option<StdArc<str>>,
}

/// The numbers of connected clients, and of their different subjects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) clients: usize,
    pub(crate) subjects: usize,
}

/// The entry of one client, which is removed when this is dropped.
pub(crate) struct Listed {
    directory: Directory,
    id: ClientId,
}

impl Directory {
    /// Makes a directory; one that is not kept stays empty.
    pub(crate) fn new(is_kept: bool) -> Self {
        Self(is_kept.then(|| Arc::new(Mutex::new(Lists::default()))))
    }

    /// Whether clients are listed here.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a client; `None` if the directory is not kept.
    pub(crate) fn enter(
        &self,
        id: ClientId,
        room: &Room,
        subject: Option<&StdArc<str>>,
    ) -> Option<Listed> {
        let place = Place {
            room: room.clone(),
            subject: subject.cloned(),
        };
        self.0.as_ref()?.lock().enter(id, place);
        let directory = self.clone();
        Some(Listed { directory, id })
    }

    /// The client with this number.
    pub(crate) fn client(&self, id: ClientId) -> Option<Place> {
        self.0.as_ref()?.lock().by_id.get(&id).cloned()
    }

    /// The clients of a subject.
    pub(crate) fn of_subject(&self, subject: &str) -> Vec<ClientId> {
        let Some(lists) = &self.0 else {
            return Vec::new();
        };
        let first: StdArc<str> = subject.into();
        let lists = lists.lock();
        let from = lists.by_subject.range((first, ClientId::new(0))..);
        let own = from.take_while(|(own, _)| **own == *subject);
        own.map(|(_, id)| *id).collect()
    }

    /// The clients of a room.
    pub(crate) fn of_room(&self, room: &Room) -> Vec<ClientId> {
        let Some(lists) = &self.0 else {
            return Vec::new();
        };
        let lists = lists.lock();
        let from = lists.by_room.range((room.clone(), ClientId::new(0))..);
        let own = from.take_while(|(own, _)| own == room);
        own.map(|(_, id)| *id).collect()
    }

    /// The numbers of clients and of subjects.
    pub(crate) fn present(&self) -> Present {
        let lists = self.0.as_ref().map(|lists| lists.lock());
        lists.map_or_else(Present::default, |lists| Present {
            clients: lists.by_id.len(),
            subjects: lists.subjects,
        })
    }
}

impl Lists {
    fn enter(&mut self, id: ClientId, place: Place) {
        if let Some(subject) = &place.subject {
            self.subjects += usize::from(!self.has(subject));
            self.by_subject.insert((StdArc::clone(subject), id));
        }
        self.by_room.insert((place.room.clone(), id));
        self.by_id.insert(id, place);
    }

    fn leave(&mut self, id: ClientId) {
        let Some(place) = self.by_id.remove(&id) else {
            return;
        };
        self.by_room.remove(&(place.room, id));
        if let Some(subject) = place.subject {
            self.by_subject.remove(&(StdArc::clone(&subject), id));
            self.subjects -= usize::from(!self.has(&subject));
        }
    }

    fn has(&self, subject: &StdArc<str>) -> bool {
        let first = (StdArc::clone(subject), ClientId::new(0));
        let next = self.by_subject.range(first..).next();
        next.is_some_and(|(own, _)| own == subject)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(lists) = &self.directory.0 {
            lists.lock().leave(self.id);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::bus::ServiceName;

    fn room(key: &str) -> Room {
        let kind: ServiceName = "chat".parse().expect("a name");
        Room::new(&kind, key).expect("a key")
    }

    fn ids(ids: &[u64]) -> Vec<ClientId> {
        ids.iter().map(|id| ClientId::new(*id)).collect()
    }

    #[test]
    fn a_client_is_found_by_number_subject_and_room_until_it_leaves() {
        let directory = Directory::new(true);
        let (ann, bob): (StdArc<str>, StdArc<str>) = ("ann".into(), "ann2".into());
        let enter = |id, key: &str, subject: Option<&StdArc<str>>| {
            directory.enter(ClientId::new(id), &room(key), subject)
        };
        let one = enter(1, "a", Some(&ann)).expect("it is kept");
        let two = enter(2, "a", None);
        let three = enter(3, "b", Some(&ann));
        let four = enter(4, "ab", Some(&bob));
        assert_eq!(directory.of_subject("ann"), ids(&[1, 3]));
        assert_eq!(directory.of_room(&room("a")), ids(&[1, 2]));
        let place = directory.client(ClientId::new(3)).expect("it is there");
        assert_eq!((place.room, place.subject), (room("b"), Some(ann)));
        let present = |directory: &Directory| {
            let Present { clients, subjects } = directory.present();
            (clients, subjects)
        };
        assert_eq!(present(&directory), (4, 2));
        drop(one);
        assert_eq!(directory.of_subject("ann"), ids(&[3]));
        assert_eq!(directory.of_room(&room("a")), ids(&[2]));
        assert_eq!(present(&directory), (3, 2));
        drop((two, three, four));
        assert_eq!(present(&directory), (0, 0));
        assert_eq!(directory.client(ClientId::new(3)), None);
    }

    #[test]
    fn a_directory_that_is_not_kept_lists_nobody() {
        let directory = Directory::new(false);
        let listed = directory.enter(ClientId::new(1), &room("a"), None);
        assert!(listed.is_none() && !directory.is_kept());
        assert_eq!(directory.present(), Present::default());
        assert_eq!(directory.of_room(&room("a")), []);
    }
}
