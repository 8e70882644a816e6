//! The futures of a crew's tasks.

use futures::future::BoxFuture;
use slab::Slab;

/// Futures by keys; a key is not used again before 2^32 more insertions.
#[derive(Default)]
pub(super) struct Running {
    places: Slab<(u32, BoxFuture<'static, ()>)>,
    /// The number of insertions, wrapping.
    count: u32,
}

impl Running {
    pub(super) fn insert(&mut self, future: BoxFuture<'static, ()>) -> u64 {
        self.count = self.count.wrapping_add(1);
        let index = self.places.insert((self.count, future));
        (index as u64) << 32 | u64::from(self.count)
    }

    /// The index in the slab, and the number of the insertion.
    fn split(key: u64) -> (usize, u32) {
        ((key >> 32) as usize, key as u32)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut BoxFuture<'static, ()>> {
        let (index, number) = Self::split(key);
        let (own, future) = self.places.get_mut(index)?;
        (*own == number).then_some(future)
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<BoxFuture<'static, ()>> {
        self.get_mut(key)?;
        let (_, future) = self.places.try_remove(Self::split(key).0)?;
        Some(future)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Takes out all futures.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = BoxFuture<'static, ()>> {
        self.places.drain().map(|(_, future)| future)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use futures::FutureExt;
    use futures::future::ready;

    use super::*;

    #[test]
    fn a_key_finds_its_own_future_and_no_later_one_in_its_place() {
        let mut running = Running::default();
        let (first, second) = (
            running.insert(ready(()).boxed()),
            running.insert(ready(()).boxed()),
        );
        assert!(running.get_mut(first).is_some() && running.get_mut(second).is_some());
        assert!(running.remove(first).is_some());
        let third = running.insert(ready(()).boxed());
        assert_eq!(first >> 32, third >> 32, "it is in the same place");
        assert!(running.get_mut(first).is_none() && running.remove(first).is_none());
        assert!(running.get_mut(third).is_some());
        assert_eq!(running.len(), 2);
        assert_eq!(running.drain().count(), 2);
        assert!(running.get_mut(second).is_none());
    }
}
