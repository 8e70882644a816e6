//! The memory of encoded frames: shared, counted, and kept for the thread's next frames.
//!
//! Messages come and go by the hundred in one iteration of the event loop, more than an allocator
//! keeps at hand for a thread.

use std::cell::RefCell;

use triomphe::{Arc, HeaderSlice, UniqueArc};

use super::frames::Forms;
use crate::sync::OnceLock;

/// A block of memory, shared by all its readers.
pub(super) type Shared = Arc<HeaderSlice<Head, [u8]>>;

/// A block of memory that nothing else refers to.
pub(super) type Unique = UniqueArc<HeaderSlice<Head, [u8]>>;

/// What stands in front of the bytes of a block.
#[derive(Default)]
pub(super) struct Head {
    /// Where the last frame ends; bytes behind it may be left over from earlier frames.
    pub(super) end: u32,
    /// Frames in the block.
    pub(super) count: u32,
    /// Other encodings of the same messages, made when the first reader needs one.
    pub(super) forms: OnceLock<Box<Forms>>,
}

/// Bytes that a thread keeps for its next blocks, all classes together.
const KEPT_BYTES_MAX: usize = 196_608;

/// Classes that differ by [`STEP`] bytes, as an allocator's small classes do: up to 264 bytes.
const SMALL: usize = 17;

/// The distance of two small classes, in bytes.
const STEP: usize = 16;

/// The larger classes, in bytes; a block that is larger still is of its own size and not kept.
const LARGE: [usize; 4] = [520, 1_032, 2_056, 4_104];

/// Classes of blocks.
const CLASSES: usize = SMALL + LARGE.len();

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// Blocks that a thread has freed, by class.
struct Pool {
    bytes: usize,
    free: [Vec<Unique>; CLASSES],
}

impl Pool {
    const fn new() -> Self {
        Self {
            bytes: 0,
            free: [const { Vec::new() }; CLASSES],
        }
    }

    fn take(&mut self, class: usize) -> Option<Unique> {
        let block = self.free[class].pop()?;
        self.bytes -= class_bytes(class);
        Some(block)
    }

    /// Keeps a block, unless the pool is full.
    fn put(&mut self, class: usize, block: Unique) {
        let bytes = self.bytes + class_bytes(class);
        if bytes <= KEPT_BYTES_MAX {
            self.bytes = bytes;
            self.free[class].push(block);
        }
    }
}

/// A block of at least so many bytes, in which bytes of earlier frames may be left over.
pub(super) fn alloc(bytes: usize) -> Unique {
    let Some(class) = class(bytes) else {
        return fresh(bytes);
    };
    let pooled = POOL.try_with(|pool| pool.borrow_mut().take(class));
    let pooled = pooled.ok().flatten();
    pooled.unwrap_or_else(|| fresh(class_bytes(class)))
}

/// Frees one reference; the last one gives the block to the pool of this thread.
#[inline]
pub(super) fn free(shared: Shared) {
    if let Ok(block) = Arc::try_unique(shared) {
        keep(block);
    }
}

fn keep(mut block: Unique) {
    let bytes = block.slice.len();
    let Some(class) = class(bytes).filter(|class| class_bytes(*class) == bytes) else {
        return;
    };
    if block.header.forms.get().is_some() {
        // The forms are frames themselves and go back to this pool: not while it is borrowed.
        drop(block.header.forms.take());
    }
    // A thread that ends keeps nothing.
    let _ended = POOL.try_with(|pool| pool.borrow_mut().put(class, block));
}

/// The smallest class that has room for so many bytes; `None` if no class has.
#[inline]
fn class(bytes: usize) -> Option<usize> {
    let small = (bytes + STEP / 2 - 1) / STEP;
    if small < SMALL {
        return Some(small);
    }
    let large = LARGE.iter().position(|room| bytes <= *room);
    large.map(|large| SMALL + large)
}

/// The bytes of a class: with the counts in front of them they fill what an allocator gives.
const fn class_bytes(class: usize) -> usize {
    if class < SMALL {
        class * STEP + STEP / 2
    } else {
        LARGE[class - SMALL]
    }
}

#[inline(never)]
fn fresh(bytes: usize) -> Unique {
    let zeroes = std::iter::repeat_n(0, bytes);
    let shared = Arc::from_header_and_iter(Head::default(), zeroes);
    Arc::try_unique(shared).unwrap_or_else(|_shared| unreachable!("nothing else refers to it yet"))
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn kept() -> usize {
        POOL.with_borrow(|pool| pool.bytes)
    }

    fn clear() {
        POOL.replace(Pool::new());
    }

    #[test]
    fn every_length_has_room_in_the_smallest_class_that_has_it() {
        for len in 0..=LARGE[LARGE.len() - 1] {
            let class = class(len).expect("a class has room for it");
            assert!(len <= class_bytes(class), "{len}");
            assert!(class == 0 || len > class_bytes(class - 1), "{len}");
            assert_eq!(self::class(class_bytes(class)), Some(class));
        }
        assert_eq!(class(LARGE[LARGE.len() - 1] + 1), None);
        assert_eq!(class_bytes(SMALL - 1), 264);
    }

    #[test]
    fn a_block_serves_the_next_frame_of_its_class_and_shows_nothing_of_the_last_one() {
        clear();
        let first = Frame::text("a long secret");
        let at = first.as_bytes().as_ptr();
        let other = first.clone();
        drop(first);
        assert_eq!(kept(), 0, "a reader still has it");
        drop(other);
        assert_eq!(kept(), 24);
        let second = Frame::binary("short one");
        assert_eq!(second.as_bytes(), b"\x82\x09short one");
        assert_eq!(second.payload_bytes(), b"short one");
        assert_eq!(second.as_bytes().as_ptr(), at, "it is the same memory");
        assert_eq!(kept(), 0);
    }

    #[test]
    fn other_encodings_are_freed_with_their_message() {
        clear();
        let frame = Frame::text("plain");
        let envelope = frame
            .frames()
            .enveloped(|_whole| Frame::text("other form").into());
        assert_eq!(envelope.as_bytes(), Frame::text("other form").as_bytes());
        drop(envelope);
        clear();
        drop(frame);
        assert_eq!(kept(), 8 + 24, "both blocks are free again");
        let next = Frame::text("other");
        let envelope = next.frames().enveloped(|_whole| Frame::text("own").into());
        assert_eq!(envelope.as_bytes(), Frame::text("own").as_bytes());
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound_and_no_very_large_block() {
        clear();
        drop(Frame::binary([0; 4_101]));
        assert_eq!(kept(), 0);
        let frames: Vec<_> = (0..900).map(|_| Frame::binary([0; 260])).collect();
        assert_eq!(frames[0].as_bytes().len(), 264);
        drop(frames);
        assert_eq!(kept(), KEPT_BYTES_MAX / 264 * 264);
    }
}
