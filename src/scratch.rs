//! Buffers that are needed only while a task is polled, lent to whoever is.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::sync::{Arc, Mutex};

/// A pool of buffers of one size; clones share it.
///
/// It holds as many as were ever lent at the same time, which is one for each thread that polls.
/// So an idle connection holds none, and a poll need not clear one of its own.
#[derive(Clone)]
pub(crate) struct Scratch(Arc<Pool>);

struct Pool {
    bytes: usize,
    buffers: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan; what is in it is left over from others.
pub(crate) struct Lent<'a> {
    scratch: &'a Scratch,
    buffer: Box<[u8]>,
}

impl Scratch {
    /// A pool of buffers of so many bytes each.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Pool {
            bytes,
            buffers: Mutex::new(Vec::new()),
        }))
    }

    /// A buffer, given back when it is dropped.
    pub(crate) fn lend(&self) -> Lent<'_> {
        let pooled = self.0.buffers.lock().pop();
        Lent {
            scratch: self,
            buffer: pooled.unwrap_or_else(|| vec![0; self.0.bytes].into_boxed_slice()),
        }
    }
}

impl fmt::Debug for Scratch {
    // What is in the buffers is left over from clients, and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Deref for Lent<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.scratch.0.buffers.lock().push(buffer);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_buffers_as_were_lent_at_once() {
        let scratch = Scratch::new(8);
        for _ in 0..3 {
            let (mut one, two) = (scratch.lend(), scratch.lend());
            assert_eq!((one.len(), two.len()), (8, 8));
            one[0] = 1;
        }
        assert_eq!(scratch.0.buffers.lock().len(), 2);
    }
}
