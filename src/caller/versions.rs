//! The versions of what was published last in rooms whose state has one; pure.
//!
//! A caller that publishes the state of something gives it a version, so that a state that comes
//! late is dropped. A version counts within its epoch: with another epoch, counting begins anew.

use std::collections::{BTreeMap, VecDeque};

use crate::bus::Room;

/// The version of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number; 0 for a message without a version.
    pub number: u64,
    /// The epoch; the empty text is one, too.
    pub epoch: Box<str>,
}

/// The judgement of a version when its publish begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The version is newer: it is to be published, and then [finished](Versions::finish).
    Newer,
    /// The room has a version that is as new.
    NotNewer,
    /// A versioned message is being published in the room, whose place is not known yet.
    UnderWay,
}

/// The last versions by room, of at most so many rooms.
#[derive(Debug)]
pub struct Versions {
    most: usize,
    by_room: BTreeMap<Room, Last>,
    /// The rooms in the order of their publishes, each with the number of that publish.
    order: VecDeque<(u64, Room)>,
    publishes: u64,
}

#[derive(Debug)]
struct Last {
    /// `None` while the first one is being published.
    version: Option<Version>,
    is_under_way: bool,
    publish: u64,
}

impl Versions {
    /// Remembers the versions of at most this many rooms: those of the latest publishes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            by_room: BTreeMap::new(),
            order: VecDeque::new(),
            publishes: 0,
        }
    }

    /// Begins the publish of a version, if it is newer.
    pub fn begin(&mut self, room: &Room, version: &Version) -> Judged {
        let last = self.by_room.entry(room.clone()).or_insert(Last {
            version: None,
            is_under_way: false,
            publish: 0,
        });
        if last.is_under_way {
            return Judged::UnderWay;
        }
        let is_newer = last
            .version
            .as_ref()
            .is_none_or(|last| last.epoch != version.epoch || last.number < version.number);
        last.is_under_way = is_newer;
        if is_newer {
            Judged::Newer
        } else {
            Judged::NotNewer
        }
    }

    /// Ends a publish that was begun.
    pub fn finish(&mut self, room: &Room, version: Version) {
        self.publishes += 1;
        let publish = self.publishes;
        let last = Last {
            version: Some(version),
            is_under_way: false,
            publish,
        };
        self.by_room.insert(room.clone(), last);
        self.order.push_back((publish, room.clone()));
        while self.order.len() > self.most {
            self.forget_oldest();
        }
    }

    /// Ends a publish that was begun and has come to nothing.
    pub fn abandon(&mut self, room: &Room) {
        let Some(last) = self.by_room.get_mut(room) else {
            return;
        };
        last.is_under_way = false;
        if last.version.is_none() {
            self.by_room.remove(room);
        }
    }

    fn forget_oldest(&mut self) {
        let Some((publish, room)) = self.order.pop_front() else {
            return;
        };
        // A room that was published to again has a later place, too.
        let last = self.by_room.get(&room);
        if last.is_some_and(|last| last.publish == publish && !last.is_under_way) {
            self.by_room.remove(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ServiceName;

    fn room(key: u64) -> Room {
        let kind: ServiceName = "chat".parse().expect("a name");
        Room::new(&kind, &key.to_string()).expect("a key")
    }

    fn version(number: u64, epoch: &str) -> Version {
        let epoch = epoch.into();
        Version { number, epoch }
    }

    #[test]
    fn only_a_newer_version_is_published_and_another_epoch_begins_anew() {
        let mut versions = Versions::new(10);
        for (number, epoch, expected) in [
            (2, "", Judged::Newer),
            (2, "", Judged::NotNewer),
            (1, "", Judged::NotNewer),
            (3, "", Judged::Newer),
            (1, "a", Judged::Newer),
            (1, "a", Judged::NotNewer),
            (9, "", Judged::Newer),
        ] {
            let judged = versions.begin(&room(1), &version(number, epoch));
            assert_eq!(judged, expected, "{number} {epoch}");
            if judged == Judged::Newer {
                versions.finish(&room(1), version(number, epoch));
            }
        }
        assert_eq!(versions.begin(&room(2), &version(1, "")), Judged::Newer);
    }

    #[test]
    fn a_publish_that_comes_to_nothing_leaves_the_version_before() {
        let mut versions = Versions::new(10);
        assert_eq!(versions.begin(&room(1), &version(1, "")), Judged::Newer);
        let judged = versions.begin(&room(1), &version(2, ""));
        assert_eq!(judged, Judged::UnderWay);
        versions.abandon(&room(1));
        assert!(versions.by_room.is_empty());
        versions.begin(&room(1), &version(1, ""));
        versions.finish(&room(1), version(1, ""));
        versions.begin(&room(1), &version(2, ""));
        versions.abandon(&room(1));
        let judged =
            |versions: &mut Versions, number| versions.begin(&room(1), &version(number, ""));
        assert_eq!(judged(&mut versions, 1), Judged::NotNewer);
        assert_eq!(judged(&mut versions, 2), Judged::Newer);
    }

    #[test]
    fn the_rooms_of_the_latest_publishes_are_remembered_and_no_more() {
        let mut versions = Versions::new(3);
        for key in [1, 2, 3, 1, 4] {
            let number = versions.publishes + 1;
            assert_eq!(
                versions.begin(&room(key), &version(number, "")),
                Judged::Newer
            );
            versions.finish(&room(key), version(number, ""));
            assert!(versions.by_room.len() <= 3 && versions.order.len() <= 3);
        }
        let known = |versions: &mut Versions, key| {
            versions.begin(&room(key), &version(1, "")) == Judged::NotNewer
        };
        let all = [1, 2, 3, 4].map(|key| known(&mut versions, key));
        assert_eq!(all, [true, false, true, true]);
    }
}
