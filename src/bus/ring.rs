//! The memory of a log's entries, which busy logs pass on to one another.

use std::cell::Cell;
use std::collections::VecDeque;

use super::message::{Message, Origin};
use super::train::Train;
use crate::instant::Instant;
use crate::planted::{self, Bug};

/// Capacity that an emptied ring keeps.
pub(super) const KEPT: usize = 32;

/// Capacity above which what a ring gives back is not passed on.
const PASSED_ON_MAX: usize = 1024;

thread_local! {
    /// What a ring of this thread has given back, for the next one that grows: a busy inbox fills
    /// and empties thousands of times a second.
    static SPARE: Cell<VecDeque<Entry>> = const { Cell::new(VecDeque::new()) };
}

/// What is kept together.
#[derive(Debug)]
pub(crate) enum Parcel {
    One(Message),
    Train(Train),
}

/// A parcel in a log.
#[derive(Debug)]
struct Entry {
    parcel: Parcel,
    /// Readers whose next message is the first of it.
    readers: usize,
}

/// Messages, the oldest first, and how many readers stand before each.
///
/// Those of a [`Train`] stay together until one of them is needed: nobody can stand between them.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    /// Those of all entries.
    messages: usize,
    /// Entries that are trains.
    trains: usize,
    /// Whether it has given memory back before, and so is to grow as far again.
    has_outgrown: bool,
}

/// What messages are read into.
pub(super) trait Gathers {
    fn gathered(&self) -> usize;

    fn gather(&mut self, message: Message);

    /// Takes all there is out of a ring: payloads of so many bytes.
    fn gather_all(&mut self, ring: &mut Ring, bytes: usize);

    /// The same messages, but that the first two after so many have changed their places.
    fn swap_after(&mut self, before: usize);
}

impl Gathers for Vec<Message> {
    fn gathered(&self) -> usize {
        self.len()
    }

    fn gather(&mut self, message: Message) {
        self.push(message);
    }

    fn gather_all(&mut self, ring: &mut Ring, _: usize) {
        self.extend(std::iter::from_fn(|| ring.pop_front()).map(|(message, _)| message));
    }

    fn swap_after(&mut self, before: usize) {
        planted::swap(Bug::BatchSwapped, &mut self[before..]);
    }
}

impl Parcel {
    #[inline]
    pub(super) fn is_train(&self) -> bool {
        matches!(self, Self::Train(_))
    }

    /// Messages in it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Train(train) => train.len(),
        }
    }

    /// The bytes of all payloads.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(message) => message.len(),
            Self::Train(train) => train.bytes(),
        }
    }

    /// From now on as published by `origin` at this time, if a service did; who said it before.
    #[inline]
    pub(super) fn publish(&mut self, origin: Origin, at: Option<Instant>) -> Origin {
        match self {
            Self::One(message) => message.publish(origin, at),
            Self::Train(train) => train.publish(origin, at),
        }
    }
}

impl Ring {
    /// Messages that there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.parcels().map(Parcel::bytes).sum()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Adds a message before which nobody stands.
    #[inline]
    pub(crate) fn add(&mut self, message: Message) {
        self.push_back(message, 0);
    }

    /// Adds a message before which so many readers stand.
    #[inline]
    pub(super) fn push_back(&mut self, message: Message, readers: usize) {
        self.push(Parcel::One(message), readers);
    }

    /// Adds what is kept together; so many readers stand before it.
    #[inline]
    pub(super) fn push(&mut self, parcel: Parcel, readers: usize) {
        if self.entries.len() == self.entries.capacity() {
            self.grow(1);
        }
        self.messages += parcel.len();
        self.trains += usize::from(parcel.is_train());
        self.entries.push_back(Entry { parcel, readers });
    }

    /// Adds these behind the others, before which nobody stands.
    pub(super) fn extend(&mut self, messages: impl Iterator<Item = Message>) {
        let (count, _) = messages.size_hint();
        if self.entries.len() + count > self.entries.capacity() {
            self.grow(count);
        }
        messages.for_each(|message| self.add(message));
    }

    /// Adds those of another one behind the others, and leaves none there.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.entries.len() + other.entries.len() > self.entries.capacity() {
            self.grow(other.entries.len());
        }
        self.entries.append(&mut other.entries);
        self.count_those_of(other);
    }

    /// Takes all there is out of another one.
    pub(super) fn take(&mut self, other: &mut Self) {
        // No more room is left to the other one than it had: one that is busy would fill up all.
        if self.is_empty() && self.capacity() <= other.capacity() {
            std::mem::swap(&mut self.entries, &mut other.entries);
            self.count_those_of(other);
        } else {
            self.append(other);
        }
    }

    /// Those of another one are its own from now on.
    fn count_those_of(&mut self, other: &mut Self) {
        self.messages += std::mem::take(&mut other.messages);
        self.trains += std::mem::take(&mut other.trains);
    }

    /// Makes single messages of those that are kept together.
    #[inline]
    pub(crate) fn unpack(&mut self) {
        if self.trains > 0 {
            self.unpack_trains();
        }
    }

    #[cold]
    fn unpack_trains(&mut self) {
        let packed = std::mem::replace(&mut self.entries, VecDeque::with_capacity(self.messages));
        (self.messages, self.trains) = (0, 0);
        for Entry { parcel, readers } in packed {
            match parcel {
                Parcel::One(message) => self.push_back(message, readers),
                Parcel::Train(train) => {
                    let first = self.entries.len();
                    self.extend(train.messages());
                    self.entries[first].readers = readers;
                    train.leave();
                }
            }
        }
    }

    /// Takes the oldest message out, and how many readers stand before it.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<(Message, usize)> {
        loop {
            match self.entries.pop_front()? {
                Entry {
                    parcel: Parcel::One(message),
                    readers,
                } => {
                    self.messages -= 1;
                    return Some((message, readers));
                }
                train => {
                    self.entries.push_front(train);
                    self.unpack_trains();
                }
            }
        }
    }

    /// Takes the oldest message out, if that is kept by itself and suits.
    #[inline]
    pub(super) fn pop_one_if(&mut self, suits: impl FnOnce(&Message) -> bool) -> Option<Message> {
        let is_suited = matches!(
            self.entries.front(),
            Some(Entry { parcel: Parcel::One(message), .. }) if suits(message)
        );
        if is_suited { self.pop_front() } else { None }.map(|(message, _)| message)
    }

    /// Takes out what is kept together of the oldest messages.
    #[inline]
    pub(crate) fn pop_parcel(&mut self) -> Option<Parcel> {
        let Entry { parcel, .. } = self.entries.pop_front()?;
        self.messages -= parcel.len();
        self.trains -= usize::from(parcel.is_train());
        Some(parcel)
    }

    /// All, as they are kept together.
    fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        self.entries.iter().map(|entry| &entry.parcel)
    }

    /// Each of them, changed in its place.
    pub(super) fn parcels_mut(&mut self) -> impl Iterator<Item = &mut Parcel> {
        self.entries.iter_mut().map(|entry| &mut entry.parcel)
    }

    /// The messages from this one on, of which none are kept together.
    pub(crate) fn messages_from(&self, index: usize) -> impl Iterator<Item = &Message> + Clone {
        debug_assert_eq!(self.trains, 0, "all are unpacked");
        let entries = self.entries.range(index..);
        entries.filter_map(|entry| match &entry.parcel {
            Parcel::One(message) => Some(message),
            Parcel::Train(_) => None,
        })
    }

    pub(crate) fn clear(&mut self) {
        (self.messages, self.trains) = (0, 0);
        self.entries.clear();
    }

    /// Puts these before its own and leaves none there.
    pub(super) fn put_before(&mut self, before: &mut Self) {
        // Where there is nothing at all, what has more memory stays.
        if !before.is_empty() || self.is_empty() {
            before.entries.append(&mut self.entries);
            before.count_those_of(self);
            std::mem::swap(self, before);
        }
        before.shrink(false);
    }

    /// How many readers stand before the first message.
    #[inline]
    pub(super) fn readers_at_front(&self) -> Option<usize> {
        self.entries.front().map(|entry| entry.readers)
    }

    /// How many readers stand before this one; `None` behind the last.
    ///
    /// Where messages are kept together, only before the first of all.
    pub(super) fn readers(&self, index: usize) -> Option<usize> {
        self.entries.get(index).map(|entry| entry.readers)
    }

    /// The same, to be changed.
    pub(super) fn readers_mut(&mut self, index: usize) -> Option<&mut usize> {
        self.entries.get_mut(index).map(|entry| &mut entry.readers)
    }

    /// Gives back the memory of a ring that is empty; a little is kept, if that is wanted.
    #[inline]
    pub(crate) fn shrink(&mut self, keep: bool) {
        let kept = if keep { KEPT } else { 0 };
        if self.entries.is_empty() && self.entries.capacity() > kept {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        let spare = std::mem::take(&mut self.entries);
        if (KEPT + 1..=PASSED_ON_MAX).contains(&spare.capacity()) {
            self.has_outgrown = true;
            // A thread that ends keeps nothing.
            let _gone = SPARE.try_with(|last| last.set(spare));
        }
    }

    /// Makes room for so many more entries.
    #[cold]
    fn grow(&mut self, additional: usize) {
        let needed = self.entries.len() + additional;
        if (self.has_outgrown || needed > KEPT)
            && let Ok(mut spare) = SPARE.try_with(Cell::take)
            && spare.capacity() >= needed
        {
            spare.append(&mut self.entries);
            self.entries = spare;
        } else {
            self.entries.reserve(additional);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Ring {
        let mut ring = Ring::default();
        for readers in 0..count {
            ring.push_back("x".into(), readers);
        }
        ring
    }

    fn readers(ring: &Ring) -> impl Iterator<Item = usize> {
        ring.entries.iter().map(|entry| entry.readers)
    }

    fn emptied(count: usize) -> Ring {
        let mut ring = filled(count);
        while ring.pop_front().is_some() {}
        ring.shrink(true);
        ring
    }

    fn spare() -> usize {
        SPARE.take().capacity()
    }

    #[test]
    fn a_few_entries_keep_their_memory_if_that_is_wanted() {
        for (count, keep, capacity) in [(KEPT, true, KEPT), (KEPT, false, 0), (KEPT + 1, true, 0)] {
            let mut ring = filled(count);
            ring.shrink(keep);
            assert!(ring.capacity() >= count, "it is not empty");
            while ring.pop_front().is_some() {}
            ring.shrink(keep);
            assert_eq!(ring.capacity(), capacity, "{count} entries, {keep}");
        }
    }

    #[test]
    fn what_one_gives_back_serves_the_next_one_that_grows_as_far() {
        let capacity = filled(200).capacity();
        assert_eq!(emptied(200).capacity(), 0);
        let ring = filled(KEPT);
        assert_eq!(
            ring.capacity(),
            KEPT,
            "a small one takes no more than it needs"
        );
        let ring = filled(KEPT + 1);
        assert_eq!(ring.capacity(), capacity);
        assert!(readers(&ring).eq(0..=KEPT));
        assert_eq!(spare(), 0, "it is passed on once");
    }

    #[test]
    fn a_spare_that_is_too_small_is_not_taken() {
        emptied(KEPT + 1);
        let ring = filled(200);
        assert!(readers(&ring).eq(0..200));
    }

    #[test]
    fn one_that_has_given_memory_back_takes_it_again_at_once() {
        spare();
        let mut ring = emptied(200);
        ring.add("x".into());
        assert!(ring.capacity() > KEPT);
        assert_eq!(spare(), 0);
        let mut other = filled(1);
        assert!(other.capacity() <= KEPT);
        // Both are empty: the larger one stays.
        ring.pop_front();
        other.pop_front();
        other.put_before(&mut ring);
        assert!(other.capacity() > KEPT && ring.capacity() == 0);
    }

    #[test]
    fn neither_small_nor_very_large_ones_are_passed_on() {
        for (count, is_passed_on) in [
            (KEPT, false),
            (KEPT + 1, true),
            (PASSED_ON_MAX, true),
            (PASSED_ON_MAX + 1, false),
        ] {
            spare();
            emptied(count);
            assert_eq!(spare() > 0, is_passed_on, "{count} entries");
        }
        let mut small = filled(KEPT);
        while small.pop_front().is_some() {}
        small.shrink(false);
        assert_eq!(spare(), 0, "one that is not kept");
    }

    #[test]
    fn what_is_gathered_leaves_no_more_room_than_there_was() {
        for (own, room, left) in [(0, 16, 0), (4, 16, 4), (16, 16, 16), (32, 16, 16)] {
            let mut gathers = Ring::default();
            gathers.entries.reserve_exact(own);
            let mut ring = filled(2);
            ring.entries.reserve_exact(room - 2);
            gathers.take(&mut ring);
            assert_eq!((gathers.len(), ring.len(), ring.capacity()), (2, 0, left));
            assert_eq!(gathers.capacity(), own.max(room));
            // Behind what is there already.
            let mut more = filled(3);
            gathers.take(&mut more);
            assert!(readers(&gathers).eq([0, 1, 0, 1, 2]));
            assert!(more.is_empty());
        }
    }
}
