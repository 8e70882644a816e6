//! A buffer that tasks need only while they are polled, shared by the tasks of a thread.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::limits::READ_BYTES;

thread_local! {
    /// The buffer that was given back last; each thread has its own.
    static FREE: Cell<Box<[u8]>> = Cell::default();
}

/// A scratch buffer, of [`READ_BYTES`] bytes, which may be left over from other tasks.
///
/// An idle connection therefore holds no buffer, and a poll need not clear a new one.
pub(crate) struct ScratchBuffer(Box<[u8]>);

/// Acquires the buffer of this thread, or a new one if that is in use already.
pub(crate) fn acquire() -> ScratchBuffer {
    let free = FREE.try_with(Cell::take).unwrap_or_default();
    debug_assert!(
        free.is_empty() || free.len() == READ_BYTES,
        "a thread keeps a free buffer of {} bytes, but a scratch buffer has {READ_BYTES}",
        free.len(),
    );
    ScratchBuffer(if free.is_empty() {
        vec![0; READ_BYTES].into_boxed_slice()
    } else {
        free
    })
}

impl Deref for ScratchBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for ScratchBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for ScratchBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends has lost its buffer already.
        let _gone = FREE.try_with(|free| free.set(buffer));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_but_not_twice_at_once() {
        let mut one = acquire();
        one[0] = 1;
        let at = one.as_ptr();
        let two = acquire();
        assert_ne!(two.as_ptr(), at);
        drop(two);
        drop(one);
        let again = acquire();
        assert_eq!((again.as_ptr(), again[0], again.len()), (at, 1, READ_BYTES));
    }
}
