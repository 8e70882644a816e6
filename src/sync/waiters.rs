//! The tasks that wait for something, woken with no lock held.

use std::num::NonZeroU32;
use std::task::Waker;

use slab::Slab;
use smallvec::SmallVec;

use crate::planted::{self, Bug};

/// The tasks that wait for one resource, kept under the lock that guards the resource.
///
/// Each method that takes out a waker returns it to the caller, who wakes or drops it after
/// unlocking: both run foreign code, which may take the lock again.
#[derive(Debug, Default)]
pub(crate) enum Waiters {
    /// Two or more waiters, or fewer after some have left.
    Crowd(Box<Crowd>),
    #[default]
    None,
    /// A single waiter, as at most topics, without memory of its own.
    One(Option<Waker>),
}

/// A set of waiters of any size.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// For each waiter, the index of its waker in `parked`.
    slots: Slab<Option<usize>>,
    parked: Parked,
    /// The index in `parked` of the waker that is next when only some are woken.
    turn: usize,
}

/// Wakers with the indices of their slots; a single waker needs no allocation.
type Parked = SmallVec<[(usize, Waker); 1]>;

/// The slot of one waiter in [`Waiters`]; give it back with [`Waiters::leave`].
#[derive(Debug)]
pub(crate) struct WaiterSlot(
    /// The index plus one, so that an `Option` of a slot is no larger.
    NonZeroU32,
);

impl WaiterSlot {
    fn at(index: usize) -> Self {
        let index = u32::try_from(index).expect("there are not as many tasks");
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(&self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Waiters {
    pub(crate) fn enter(&mut self) -> WaiterSlot {
        match self {
            Self::Crowd(crowd) => WaiterSlot::at(crowd.slots.insert(None)),
            Self::None => {
                *self = Self::One(None);
                WaiterSlot::at(0)
            }
            Self::One(waker) => {
                let mut crowd = Crowd::default();
                let first = WaiterSlot::at(crowd.slots.insert(None));
                if let Some(waker) = waker.take() {
                    crowd.add(&first, waker);
                }
                let slot = WaiterSlot::at(crowd.slots.insert(None));
                *self = Self::Crowd(Box::new(crowd));
                slot
            }
        }
    }

    /// Parks the task in this slot and returns the waker it replaces, to drop after unlocking.
    #[must_use]
    pub(crate) fn park(&mut self, slot: &WaiterSlot, waker: &Waker) -> Option<Waker> {
        match self {
            Self::Crowd(crowd) => crowd.park(slot, waker),
            Self::None => unreachable!("a slot is given back once"),
            Self::One(Some(parked)) if parked.will_wake(waker) => None,
            Self::One(parked) => parked.replace(waker.clone()),
        }
    }

    /// Gives the slot back and returns its waker, if it has one, to drop after unlocking.
    #[must_use]
    pub(crate) fn leave(&mut self, slot: WaiterSlot) -> Option<Waker> {
        match self {
            Self::Crowd(crowd) => {
                let waker = crowd.leave(&slot);
                if crowd.slots.is_empty() {
                    *self = Self::None;
                }
                waker
            }
            Self::None => unreachable!("a slot is given back once"),
            Self::One(_) => match std::mem::take(self) {
                Self::One(waker) => waker,
                Self::Crowd(_) | Self::None => None,
            },
        }
    }

    /// Takes the waker out of this slot, to drop after unlocking.
    #[must_use]
    pub(crate) fn unpark_one(&mut self, slot: &WaiterSlot) -> Option<Waker> {
        match self {
            Self::Crowd(crowd) => crowd.unpark_one(slot),
            Self::None => None,
            Self::One(waker) => waker.take(),
        }
    }

    /// Takes out all wakers, to wake after unlocking.
    #[inline]
    pub(crate) fn unpark(&mut self) -> Wakers {
        match self {
            Self::Crowd(crowd) => crowd.unpark(),
            Self::None => Wakers::None,
            Self::One(waker) => waker.take().map_or(Wakers::None, Wakers::One),
        }
    }

    /// Takes out `count` wakers, round robin, to wake after unlocking.
    pub(crate) fn unpark_some(&mut self, count: usize) -> Wakers {
        match self {
            _ if count == 0 => Wakers::None,
            Self::Crowd(crowd) if count < crowd.parked.len() => crowd.unpark_some(count),
            Self::Crowd(_) | Self::None | Self::One(_) => self.unpark(),
        }
    }

    /// The number of slots without a waker: their tasks were woken and have not parked again.
    pub(crate) fn awake(&self) -> usize {
        match self {
            Self::Crowd(crowd) => crowd.slots.len() - crowd.parked.len(),
            Self::None => 0,
            Self::One(waker) => usize::from(waker.is_none()),
        }
    }

    /// The number of slots in use.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Crowd(crowd) => crowd.slots.len(),
            Self::None => 0,
            Self::One(_) => 1,
        }
    }
}

impl Crowd {
    /// Adds a waker to a slot that has none.
    fn add(&mut self, slot: &WaiterSlot, waker: Waker) {
        self.slots[slot.index()] = Some(self.parked.len());
        self.parked.push((slot.index(), waker));
    }

    fn park(&mut self, slot: &WaiterSlot, waker: &Waker) -> Option<Waker> {
        match self.slots[slot.index()] {
            Some(index) if self.parked[index].1.will_wake(waker) => None,
            Some(index) => Some(std::mem::replace(&mut self.parked[index].1, waker.clone())),
            None => {
                self.add(slot, waker.clone());
                None
            }
        }
    }

    fn leave(&mut self, slot: &WaiterSlot) -> Option<Waker> {
        let index = self.slots.remove(slot.index())?;
        Some(self.remove(index))
    }

    fn unpark_one(&mut self, slot: &WaiterSlot) -> Option<Waker> {
        let index = self.slots[slot.index()].take()?;
        Some(self.remove(index))
    }

    fn remove(&mut self, index: usize) -> Waker {
        let (_, waker) = self.parked.swap_remove(index);
        if let Some((moved, _)) = self.parked.get(index) {
            self.slots[*moved] = Some(index);
        }
        waker
    }

    /// Takes out `count` wakers, which are fewer than there are.
    ///
    /// The last waker moves to the index of each removed one and is passed over in this lap. So
    /// each waiter is woken within two laps, even if others come and go.
    fn unpark_some(&mut self, count: usize) -> Wakers {
        let mut wakers = Parked::with_capacity(count);
        for _ in 0..count {
            let index = if self.turn < self.parked.len() {
                self.turn
            } else {
                0
            };
            self.turn = index + 1;
            let slot = self.parked[index].0;
            self.slots[slot] = None;
            wakers.push((slot, self.remove(index)));
        }
        Wakers::Crowd(wakers)
    }

    #[inline]
    fn unpark(&mut self) -> Wakers {
        // The usual case: all waiters were woken and have not run yet.
        if self.parked.is_empty() {
            return Wakers::None;
        }
        self.unpark_all()
    }

    fn unpark_all(&mut self) -> Wakers {
        let parked = std::mem::take(&mut self.parked);
        for (slot, _) in &parked {
            self.slots[*slot] = None;
        }
        Wakers::Crowd(parked)
    }
}

/// Wakers taken out of [`Waiters`], to be woken with no lock held.
#[must_use = "the tasks stay asleep until these are woken"]
#[derive(Debug, Default)]
pub(crate) enum Wakers {
    Crowd(Parked),
    #[default]
    None,
    One(Waker),
}

impl Wakers {
    #[inline]
    pub(crate) fn wake(self) {
        match self {
            Self::Crowd(parked) => wake_all(parked),
            Self::None => {}
            Self::One(waker) => waker.wake(),
        }
    }
}

fn wake_all(parked: Parked) {
    let most = planted::most(Bug::OneWoken, 1);
    for (_, waker) in parked.into_iter().take(most) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as StdArc;
    use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: StdArc<Self>) {
            self.0.fetch_add(1, StdOrdering::SeqCst);
        }
    }

    fn waker() -> (StdArc<Count>, Waker) {
        let count = StdArc::new(Count::default());
        (StdArc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.load(StdOrdering::SeqCst)
    }

    #[test]
    fn each_parked_task_is_woken_once() {
        let mut waiters = Waiters::default();
        let slots = [(); 3].map(|()| waiters.enter());
        let (count, waker) = waker();
        for slot in &slots {
            assert!(waiters.park(slot, &waker).is_none());
            assert!(
                waiters.park(slot, &waker).is_none(),
                "the same task parks again"
            );
        }
        waiters.unpark().wake();
        assert_eq!(woken(&count), 3);
        waiters.unpark().wake();
        assert_eq!(woken(&count), 3, "nobody is parked any more");
        assert!(waiters.park(&slots[1], &waker).is_none());
        waiters.unpark().wake();
        assert_eq!(woken(&count), 4);
    }

    #[test]
    fn a_task_that_parks_in_anothers_stead_is_the_one_that_is_woken() {
        let mut waiters = Waiters::default();
        let slot = waiters.enter();
        let ((old, old_waker), (new, new_waker)) = (waker(), waker());
        assert!(waiters.park(&slot, &old_waker).is_none());
        assert!(
            waiters.park(&slot, &new_waker).is_some(),
            "the old waker comes back"
        );
        waiters.unpark().wake();
        assert_eq!((woken(&old), woken(&new)), (0, 1));
    }

    #[test]
    fn who_is_taken_out_is_not_woken_and_may_park_again() {
        let mut waiters = Waiters::default();
        let slots = [(); 3].map(|()| waiters.enter());
        let (count, waker) = waker();
        for slot in &slots {
            assert!(waiters.park(slot, &waker).is_none());
        }
        assert!(waiters.unpark_one(&slots[0]).is_some());
        assert!(waiters.unpark_one(&slots[0]).is_none(), "it is out");
        waiters.unpark().wake();
        assert_eq!(woken(&count), 2);
        assert!(waiters.park(&slots[0], &waker).is_none());
        waiters.unpark().wake();
        assert_eq!(woken(&count), 3);
    }

    #[test]
    fn so_many_are_woken_as_are_asked_for_and_each_has_its_turn() {
        let mut waiters = Waiters::default();
        assert_eq!(waiters.awake(), 0);
        let tasks: Vec<_> = (0..5).map(|_| (waiters.enter(), waker())).collect();
        let park = |waiters: &mut Waiters| {
            for (slot, (_, waker)) in &tasks {
                drop(waiters.park(slot, waker));
            }
        };
        for turn in 1..=10 {
            park(&mut waiters);
            assert_eq!(waiters.awake(), 0);
            waiters.unpark_some(0).wake();
            waiters.unpark_some(2).wake();
            assert_eq!(waiters.awake(), 2);
            let all: usize = tasks.iter().map(|(_, (count, _))| woken(count)).sum();
            assert_eq!(all, 2 * turn);
        }
        assert!(
            tasks.iter().all(|(_, (count, _))| woken(count) > 1),
            "nobody is forgotten"
        );
        waiters.unpark_some(5).wake();
        assert_eq!(waiters.awake(), 5);
        for (slot, _) in tasks {
            assert!(waiters.leave(slot).is_none());
        }
        assert_eq!(waiters.awake(), 0);
        let (slot, (count, waker)) = (waiters.enter(), waker());
        assert_eq!(waiters.awake(), 1);
        drop(waiters.park(&slot, &waker));
        waiters.unpark_some(1).wake();
        assert_eq!((woken(&count), waiters.awake()), (1, 1));
    }

    #[test]
    fn who_leaves_takes_its_own_waker_and_nobody_elses() {
        for leaver in 0..3 {
            let mut waiters = Waiters::default();
            let mut slots: Vec<_> = (0..3).map(|_| waiters.enter()).collect();
            let counts: Vec<_> = slots
                .iter()
                .map(|slot| {
                    let (count, waker) = waker();
                    assert!(waiters.park(slot, &waker).is_none());
                    count
                })
                .collect();
            assert!(waiters.leave(slots.remove(leaver)).is_some());
            // The other wakers are found at their new indices.
            let (count, again) = waker();
            for slot in &slots {
                assert!(waiters.park(slot, &again).is_some());
            }
            waiters.unpark().wake();
            assert_eq!(woken(&count), 2);
            assert!(counts.iter().all(|count| woken(count) == 0));
            for slot in slots {
                assert!(waiters.leave(slot).is_none(), "it was not parked");
            }
            assert!(matches!(waiters, Waiters::None), "nothing stays");
        }
    }

    #[test]
    fn one_waiter_needs_no_memory_of_its_own_and_keeps_its_waker_when_others_come() {
        let mut waiters = Waiters::default();
        let (count, own) = waker();
        let first = waiters.enter();
        assert!(waiters.park(&first, &own).is_none());
        assert!(matches!(waiters, Waiters::One(_)));
        let second = waiters.enter();
        waiters.unpark().wake();
        assert_eq!(woken(&count), 1, "it was parked before");
        assert!(waiters.leave(first).is_none() && waiters.leave(second).is_none());
        let third = waiters.enter();
        assert!(matches!(waiters, Waiters::One(None)));
        assert!(waiters.park(&third, &own).is_none());
        assert!(waiters.leave(third).is_some(), "its own waker comes back");
        assert!(matches!(waiters, Waiters::None));
        assert_eq!(size_of::<Waiters>(), 24);
        assert_eq!(size_of::<Option<WaiterSlot>>(), 4);
    }
}
