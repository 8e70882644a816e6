//! The futures of an executor's tasks.

use futures::future::BoxFuture;
use slab::Slab;

/// Futures by keys; a key is not used again before 2^32 more insertions.
#[derive(Default)]
pub(super) struct TaskSet {
    slab: Slab<(u32, BoxFuture<'static, ()>)>,
    /// The number of insertions, wrapping.
    count: u32,
}

impl TaskSet {
    pub(super) fn insert(&mut self, future: BoxFuture<'static, ()>) -> u64 {
        self.count = self.count.wrapping_add(1);
        let index = self.slab.insert((self.count, future));
        (index as u64) << 32 | u64::from(self.count)
    }

    /// The index in the slab, and the number of the insertion.
    fn split(key: u64) -> (usize, u32) {
        ((key >> 32) as usize, key as u32)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut BoxFuture<'static, ()>> {
        let (index, number) = Self::split(key);
        let (own, future) = self.slab.get_mut(index)?;
        (*own == number).then_some(future)
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<BoxFuture<'static, ()>> {
        self.get_mut(key)?;
        let (_, future) = self.slab.try_remove(Self::split(key).0)?;
        Some(future)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Takes out all futures.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = BoxFuture<'static, ()>> {
        self.slab.drain().map(|(_, future)| future)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use futures::FutureExt;
    use futures::future::ready;

    use super::*;

    #[test]
    fn a_key_finds_its_own_future_and_no_later_one_in_its_place() {
        let mut tasks = TaskSet::default();
        let (first, second) = (
            tasks.insert(ready(()).boxed()),
            tasks.insert(ready(()).boxed()),
        );
        assert!(tasks.get_mut(first).is_some() && tasks.get_mut(second).is_some());
        assert!(tasks.remove(first).is_some());
        let third = tasks.insert(ready(()).boxed());
        assert_eq!(first >> 32, third >> 32, "it is in the same place");
        assert!(tasks.get_mut(first).is_none() && tasks.remove(first).is_none());
        assert!(tasks.get_mut(third).is_some());
        assert_eq!(tasks.len(), 2);
        assert_eq!(tasks.drain().count(), 2);
        assert!(tasks.get_mut(second).is_none());
    }
}
