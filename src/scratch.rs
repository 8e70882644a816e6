//! A buffer that tasks need only while they are polled, shared by the tasks of a thread.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::limits::READ_BYTES;

thread_local! {
    /// The buffer that was given back last; each thread has its own.
    static SPARE: Cell<Box<[u8]>> = Cell::default();
}

/// A buffer on loan, of [`READ_BYTES`] bytes, which may be left over from other tasks.
///
/// An idle connection therefore holds no buffer, and a poll need not clear a new one.
pub(crate) struct Lent(Box<[u8]>);

/// Lends the buffer of this thread, or a new one if that is on loan already.
pub(crate) fn lend() -> Lent {
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    Lent(if spare.is_empty() {
        vec![0; READ_BYTES].into_boxed_slice()
    } else {
        spare
    })
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends has lost its buffer already.
        let _gone = SPARE.try_with(|spare| spare.set(buffer));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_but_not_twice_at_once() {
        let mut one = lend();
        one[0] = 1;
        let at = one.as_ptr();
        let two = lend();
        assert_ne!(two.as_ptr(), at);
        drop(two);
        drop(one);
        let again = lend();
        assert_eq!((again.as_ptr(), again[0], again.len()), (at, 1, READ_BYTES));
    }
}
