//! The memory of a log's entries, which busy logs pass on to one another.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Deref;

use super::message::Message;
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

/// A message in a log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) message: Message,
    /// Readers whose next message is this one.
    pub(super) readers: usize,
}

/// Entries, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    /// Whether it has given memory back before, and so is to grow as far again.
    has_outgrown: bool,
}

/// What messages are read into.
pub(super) trait Gathers {
    fn gathered(&self) -> usize;

    fn gather(&mut self, message: Message);

    /// Takes all there is out of a ring.
    fn gather_all(&mut self, ring: &mut Ring);

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

    fn gather_all(&mut self, ring: &mut Ring) {
        self.extend(ring.messages());
    }

    fn swap_after(&mut self, before: usize) {
        planted::swap(Bug::BatchSwapped, &mut self[before..]);
    }
}

impl Gathers for Ring {
    fn gathered(&self) -> usize {
        self.entries.len()
    }

    fn gather(&mut self, message: Message) {
        self.add(message);
    }

    fn gather_all(&mut self, ring: &mut Ring) {
        // No more room is left to the other one than it had: one that is busy would fill up all.
        if self.entries.is_empty() && self.entries.capacity() <= ring.entries.capacity() {
            std::mem::swap(&mut self.entries, &mut ring.entries);
        } else {
            self.append(ring);
        }
    }

    fn swap_after(&mut self, before: usize) {
        let entries = self.entries.make_contiguous();
        planted::swap(Bug::BatchSwapped, &mut entries[before..]);
    }
}

impl Ring {
    pub(crate) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            has_outgrown: false,
        }
    }

    /// Adds a message before which nobody stands.
    #[inline]
    pub(crate) fn add(&mut self, message: Message) {
        self.push_back(Entry {
            message,
            readers: 0,
        });
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            self.grow(1);
        }
        self.entries.push_back(entry);
    }

    /// Adds these behind the others.
    pub(super) fn extend(&mut self, entries: impl Iterator<Item = Entry>) {
        let (count, _) = entries.size_hint();
        if self.entries.len() + count > self.entries.capacity() {
            self.grow(count);
        }
        self.entries.extend(entries);
    }

    /// Adds those of another one behind the others, and leaves none there.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.entries.len() + other.entries.len() > self.entries.capacity() {
            self.grow(other.entries.len());
        }
        self.entries.append(&mut other.entries);
    }

    /// Takes out what is behind the first so many messages.
    pub(super) fn take_after(&mut self, count: usize) -> impl Iterator<Item = Message> {
        let from = count.min(self.entries.len());
        self.entries.drain(from..).map(|entry| entry.message)
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }

    /// All messages, the oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Message> {
        self.entries.iter().map(|entry| &entry.message)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Takes all messages out, the oldest first.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = Message> {
        self.take_first(self.entries.len())
    }

    /// Takes the first so many messages out, which are there.
    pub(super) fn take_first(&mut self, count: usize) -> impl Iterator<Item = Message> {
        self.entries.drain(..count).map(|entry| entry.message)
    }

    /// Puts these before its own and leaves none there.
    pub(super) fn put_before(&mut self, before: &mut Self) {
        // Where there is nothing at all, what has more memory stays.
        if !before.is_empty() || self.is_empty() {
            before.entries.append(&mut self.entries);
            std::mem::swap(self, before);
        }
        before.shrink(false);
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
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

impl Deref for Ring {
    type Target = VecDeque<Entry>;

    fn deref(&self) -> &VecDeque<Entry> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Ring {
        let mut ring = Ring::default();
        for readers in 0..count {
            let message = "x".into();
            ring.push_back(Entry { message, readers });
        }
        ring
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
        assert!(ring.iter().map(|entry| entry.readers).eq(0..=KEPT));
        assert_eq!(spare(), 0, "it is passed on once");
    }

    #[test]
    fn a_spare_that_is_too_small_is_not_taken() {
        emptied(KEPT + 1);
        let ring = filled(200);
        assert!(ring.iter().map(|entry| entry.readers).eq(0..200));
    }

    #[test]
    fn one_that_has_given_memory_back_takes_it_again_at_once() {
        spare();
        let mut ring = emptied(200);
        ring.push_back(Entry {
            message: "x".into(),
            readers: 0,
        });
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
            gathers.gather_all(&mut ring);
            assert_eq!((gathers.len(), ring.len(), ring.capacity()), (2, 0, left));
            assert_eq!(gathers.capacity(), own.max(room));
            // Behind what is there already.
            let mut more = filled(3);
            gathers.gather_all(&mut more);
            assert!(
                gathers
                    .iter()
                    .map(|entry| entry.readers)
                    .eq([0, 1, 0, 1, 2])
            );
            assert!(more.is_empty());
        }
    }
}
