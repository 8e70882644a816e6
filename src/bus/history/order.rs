//! Histories in the order of their last use, of all makers and of each.

use std::collections::BTreeSet;

use super::maker::Maker;

/// The numbers of histories, which rise with each use: the smallest is the oldest.
#[derive(Debug, Default)]
pub(super) struct Order {
    all: BTreeSet<u64>,
    by_maker: BTreeSet<(Maker, u64)>,
}

impl Order {
    pub(super) fn insert(&mut self, maker: &Maker, number: u64) {
        self.all.insert(number);
        self.by_maker.insert((maker.clone(), number));
    }

    pub(super) fn remove(&mut self, maker: &Maker, number: u64) {
        self.all.remove(&number);
        self.by_maker.remove(&(maker.clone(), number));
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The oldest history of all makers.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.all.first().copied()
    }

    /// The oldest history of this maker.
    pub(super) fn oldest_of(&self, maker: &Maker) -> Option<u64> {
        let from = (maker.clone(), 0);
        let (of, number) = self.by_maker.range(from..).next()?;
        (of == maker).then_some(*number)
    }
}
