//! The results of publishes by their idempotency keys; pure.
//!
//! A key stands for one publish in one room. From its beginning to its end the publish is under
//! way: a caller that comes with the same key meanwhile is told so, and nothing is published twice.
//! From its end on, its result is remembered for a time, and among a number of results.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Room;
use crate::planted::{self, Bug};
use crate::rt::Instant;

/// A room and an idempotency key; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named(Arc<(Room, Box<str>)>);

/// The state of a key when a publish with it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun<T> {
    /// No publish is known: this one is to be done, and then [finished](Remembered::finish).
    First(Named),
    /// The result of the publish with this key.
    Known(T),
    /// A publish with this key is being done.
    UnderWay,
}

/// The results of publishes by room and idempotency key.
#[derive(Debug)]
pub struct Remembered<T> {
    most: usize,
    ttl: Duration,
    /// `None` for a publish that is under way.
    by_key: BTreeMap<Named, Option<T>>,
    /// The finished publishes in the order of their ends, each with the end of its time.
    finished: VecDeque<(Instant, Named)>,
}

impl<T: Clone> Remembered<T> {
    /// Remembers at most this many results, each for this time.
    pub fn new(most: usize, ttl: Duration) -> Self {
        Self {
            most,
            ttl,
            by_key: BTreeMap::new(),
            finished: VecDeque::new(),
        }
    }

    /// Begins a publish, or finds the one that has the key.
    pub fn begin(&mut self, room: &Room, key: &str, now: Instant) -> Begun<T> {
        self.expire(now);
        let named = Named(Arc::new((room.clone(), key.into())));
        let known = self.by_key.get(&named).or_else(|| self.in_other_room(key));
        match known.filter(|_| !planted::is(Bug::IdempotencyKeyForgotten)) {
            Some(Some(result)) => Begun::Known(result.clone()),
            Some(None) => Begun::UnderWay,
            None => {
                self.by_key.insert(named.clone(), None);
                Begun::First(named)
            }
        }
    }

    /// The publish with this key in any room, with the planted bug alone.
    fn in_other_room(&self, key: &str) -> Option<&Option<T>> {
        // Asked first: to look at all keys for each call would cost as much as there are keys.
        if !planted::is(Bug::IdempotencyKeyShared) {
            return None;
        }
        let mut all = self.by_key.iter();
        all.find_map(|(named, result)| (&*named.0.1 == key).then_some(result))
    }

    /// Ends a publish that was begun, with its result.
    pub fn finish(&mut self, named: &Named, result: T, now: Instant) {
        self.by_key.insert(named.clone(), Some(result));
        self.finished.push_back((now + self.ttl, named.clone()));
        while self.finished.len() > self.most {
            self.forget_oldest();
        }
    }

    /// Ends a publish that was begun and has come to nothing.
    pub fn abandon(&mut self, named: &Named) {
        self.by_key.remove(named);
    }

    /// The number of results that are remembered.
    pub fn len(&self) -> usize {
        self.finished.len()
    }

    /// Whether no result is remembered.
    pub fn is_empty(&self) -> bool {
        self.finished.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while self.finished.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, named)) = self.finished.pop_front() {
            self.by_key.remove(&named);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
