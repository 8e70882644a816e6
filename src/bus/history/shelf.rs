//! All histories of a bus: those of rooms without subscribers lie here, the others at their topics.
//!
//! Each history has a number, which rises with its last use, and a deadline: the time at which its
//! oldest message expires, or its position is forgotten. So no operation walks over histories that
//! it does not change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::quality::RandomState;

use super::History;
use super::archive::Archive;
use super::end::Ended;
use super::kept::Kept;
use super::ledger::HistoryCounts;
use super::maker::Maker;
use super::moment::Moment;
use super::order::Order;
use super::position::{Epoch, Position};
use super::saved::Saved;
use crate::bus::batch::Batch;
use crate::bus::topic::Topic;
use crate::instant::Instant;
use crate::limits::HistoryLimits;
use crate::planted::{self, Bug};

/// The histories of a bus; `L` finds the topic of a room that has subscribers.
#[derive(Debug)]
pub(in crate::bus) struct Shelf<L> {
    limits: HistoryLimits,
    numbers: HashMap<Topic, u64, RandomState>,
    places: BTreeMap<u64, Place<L>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// The shelved histories with messages.
    full: Order,
    /// The shelved histories without messages that can be dropped: positions, and ends.
    empty: Order,
    next: u64,
    /// The number of histories that were forgotten.
    forgotten: u64,
}

/// The place of one history.
#[derive(Debug)]
struct Place<L> {
    topic: Topic,
    deadline: Instant,
    at: At<L>,
}

#[derive(Debug)]
enum At<L> {
    /// The history is at its topic.
    Live(L),
    /// The history is here.
    Shelved {
        kept: Box<Kept>,
        /// The time at which the position is forgotten, if no message is left by then.
        forget_at: Instant,
    },
}

/// A publish to a topic without subscribers.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) struct Unheard<'a> {
    pub(in crate::bus) topic: &'a Topic,
    pub(in crate::bus) maker: &'a Maker,
    pub(in crate::bus) now: Moment,
}

impl<L> Shelf<L> {
    pub(in crate::bus) fn new(limits: HistoryLimits) -> Self {
        Self {
            limits,
            numbers: HashMap::default(),
            places: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            full: Order::default(),
            empty: Order::default(),
            next: 0,
            forgotten: 0,
        }
    }

    /// Notes that the history of the topic is at its topic, and has a message that expires at
    /// `deadline` at the earliest.
    pub(in crate::bus) fn note_live(&mut self, topic: &Topic, live: L, deadline: Instant) {
        self.insert(topic, deadline, At::Live(live));
    }

    /// Takes the history from the shelf, or the note that it is at its topic.
    pub(in crate::bus) fn take(&mut self, topic: &Topic) -> Option<Box<Kept>> {
        let number = self.numbers.remove(topic)?;
        match self.remove(number)?.at {
            At::Live(_) => None,
            At::Shelved { mut kept, .. } => {
                if planted::is(Bug::EpochChangedOnShelf) {
                    let other = Epoch::from_bits(!kept.history().position().epoch.bits());
                    kept.change(|history| history.epoch = other);
                }
                // What was published meanwhile has no place in the log of a topic.
                kept.change(History::enter_topic);
                Some(kept)
            }
        }
    }

    /// Whether there is a history of the topic, here or at the topic.
    pub(in crate::bus) fn has(&self, topic: &Topic) -> bool {
        self.numbers.contains_key(topic)
    }

    /// Runs `run` on the shelved history of a topic, which may lose its last message.
    pub(in crate::bus) fn with<T>(
        &mut self,
        topic: &Topic,
        run: impl FnOnce(&mut Kept) -> T,
    ) -> Option<T> {
        let number = *self.numbers.get(topic)?;
        self.change(number, run)
    }

    /// Puts a restored history on the shelf.
    pub(in crate::bus) fn restore(&mut self, saved: &Saved, kept: Box<Kept>, now: Instant) {
        let left = self.limits.position_ttl.saturating_sub(saved.unused);
        self.place(&saved.topic, kept, now + left);
    }

    /// Puts the history of a topic on the shelf that has lost its last subscriber; a history that
    /// was never used is dropped.
    pub(in crate::bus) fn shelve(&mut self, topic: &Topic, mut kept: Box<Kept>) {
        if let Some(number) = self.numbers.remove(topic) {
            drop(self.remove(number));
        }
        if let Some(used) = kept.used() {
            kept.change(History::shrink);
            self.put(topic, kept, used);
        }
    }

    /// Appends a batch to the history of a topic without subscribers, which is made if there is
    /// none, and returns the position of the last message; `None` if no history takes the batch.
    ///
    /// # Errors
    ///
    /// When the history has ended.
    pub(in crate::bus) fn publish(
        &mut self,
        archive: &Archive,
        unheard: Unheard<'_>,
        batch: &mut Batch,
    ) -> Result<Option<Position>, Ended> {
        let Unheard { topic, maker, now } = unheard;
        if self.has_ended(topic) {
            return Err(Ended);
        }
        if batch.is_live() {
            return Ok(None);
        }
        let kept = self.take(topic);
        let Some(mut kept) = kept.or_else(|| archive.make(topic, maker, now)) else {
            return Ok(None);
        };
        let position = kept.append(batch, 0, now);
        // The others make room first: a maker of a single room does not displace itself.
        self.make_room(maker, || archive.is_over());
        kept.make_room();
        self.put(topic, kept, now.at);
        Ok(position)
    }

    /// Whether the history of the topic is here, and has ended.
    fn has_ended(&self, topic: &Topic) -> bool {
        let number = self.numbers.get(topic);
        let place = number.and_then(|number| self.places.get(number));
        place.is_some_and(|place| match &place.at {
            At::Live(_) => false,
            At::Shelved { kept, .. } => kept.history().has_ended(),
        })
    }

    /// Puts a history on the shelf. If there are too many, forgets the oldest of its maker, or else
    /// the oldest of all.
    fn put(&mut self, topic: &Topic, kept: Box<Kept>, used: Instant) {
        self.place(topic, kept, used + self.limits.position_ttl);
    }

    fn place(&mut self, topic: &Topic, kept: Box<Kept>, forget_at: Instant) {
        let maker = kept.maker().clone();
        let deadline = deadline(&kept, forget_at);
        self.insert(topic, deadline, At::Shelved { kept, forget_at });
        let newest = self.next - 1;
        while self.shelved() > self.limits.positions {
            let own = oldest(self.full.oldest_of(&maker), self.empty.oldest_of(&maker));
            let own = own.filter(|number| *number != newest);
            let victim = own.or_else(|| oldest(self.full.oldest(), self.empty.oldest()));
            self.forget(victim.expect("the shelf is not empty"));
        }
    }

    /// Drops the oldest messages on the shelf, first of this maker, until all histories together
    /// keep no more bytes than they may, or until none is left here.
    pub(in crate::bus) fn make_room(&mut self, maker: &Maker, is_over: impl Fn() -> bool) {
        let maker = maker.key();
        while is_over() {
            let own = self.full.oldest_of(&maker);
            let Some(number) = own.or_else(|| self.full.oldest()) else {
                return;
            };
            self.change(number, |kept| kept.change(History::evict_oldest));
        }
    }

    /// Drops expired messages and forgets old positions, after about `at_most` of both; returns the
    /// time at which there is more to do.
    ///
    /// `on_live` does so for a history at its topic, with the number of messages that it may drop,
    /// and returns how many it has dropped and the next deadline.
    pub(in crate::bus) fn expire(
        &mut self,
        now: Instant,
        at_most: usize,
        mut on_live: impl FnMut(&L, usize) -> (usize, Instant),
    ) -> Option<Instant> {
        let mut left = at_most;
        while left > 0 {
            let &(deadline, number) = self.deadlines.first()?;
            if deadline > now {
                break;
            }
            let place = self.places.get_mut(&number)?;
            let done = match &mut place.at {
                At::Live(live) => {
                    let (done, next) = on_live(live, left);
                    self.deadlines.remove(&(deadline, number));
                    place.deadline = next;
                    self.deadlines.insert((next, number));
                    done
                }
                At::Shelved { kept, .. } if !kept.history().has_droppable() => {
                    self.forget(number);
                    1
                }
                At::Shelved { .. } => {
                    let expire = |kept: &mut Kept| kept.change(|it| it.expire(now, left));
                    self.change(number, expire)?
                }
            };
            left = left.saturating_sub(done.max(1));
        }
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Returns all histories as plain data, in the order of their last use; `save_live` does so for
    /// a history at its topic.
    pub(in crate::bus) fn save(
        &self,
        now: Instant,
        save_live: impl Fn(&Topic, &L) -> Option<Saved>,
    ) -> Vec<Saved> {
        let saved = self.places.values().filter_map(|place| match &place.at {
            At::Live(live) => save_live(&place.topic, live),
            At::Shelved { kept, forget_at } => {
                let left = forget_at.saturating_since(now);
                let unused = self.limits.position_ttl.saturating_sub(left);
                Some(kept.save(&place.topic, unused, now))
            }
        });
        saved.collect()
    }

    /// Adds the numbers of histories.
    pub(in crate::bus) fn count(&self, counts: &mut HistoryCounts) {
        counts.shelved = self.shelved();
        counts.live = self.places.len() - counts.shelved;
        counts.forgotten = self.forgotten;
    }

    fn shelved(&self) -> usize {
        self.full.len() + self.empty.len()
    }

    /// Changes a shelved history, which may lose its last message.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let place = self.places.get_mut(&number)?;
        let At::Shelved { kept, forget_at } = &mut place.at else {
            return None;
        };
        let before = order_of(&mut self.full, &mut self.empty, kept);
        before.remove(kept.maker(), number);
        self.deadlines.remove(&(place.deadline, number));
        let result = change(kept);
        let after = order_of(&mut self.full, &mut self.empty, kept);
        after.insert(kept.maker(), number);
        place.deadline = deadline(kept, *forget_at);
        self.deadlines.insert((place.deadline, number));
        Some(result)
    }

    fn insert(&mut self, topic: &Topic, deadline: Instant, at: At<L>) {
        let number = self.next;
        self.next += 1;
        if let At::Shelved { kept, .. } = &at {
            let order = order_of(&mut self.full, &mut self.empty, kept);
            order.insert(kept.maker(), number);
        }
        let topic = topic.clone();
        self.numbers.insert(topic.clone(), number);
        self.deadlines.insert((deadline, number));
        let place = Place {
            topic,
            deadline,
            at,
        };
        self.places.insert(number, place);
    }

    fn remove(&mut self, number: u64) -> Option<Place<L>> {
        let place = self.places.remove(&number)?;
        self.deadlines.remove(&(place.deadline, number));
        if let At::Shelved { kept, .. } = &place.at {
            let order = order_of(&mut self.full, &mut self.empty, kept);
            order.remove(kept.maker(), number);
        }
        Some(place)
    }

    fn forget(&mut self, number: u64) {
        if let Some(place) = self.remove(number) {
            self.numbers.remove(&place.topic);
            self.forgotten += 1;
        }
    }
}

/// The time at which the oldest message of a shelved history expires, or else its position.
fn deadline(kept: &Kept, forget_at: Instant) -> Instant {
    kept.history().next_expiry().unwrap_or(forget_at)
}

/// The order that a history belongs to.
fn order_of<'a>(full: &'a mut Order, empty: &'a mut Order, kept: &Kept) -> &'a mut Order {
    if kept.history().has_droppable() {
        full
    } else {
        empty
    }
}

/// The older one of two histories.
fn oldest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}
