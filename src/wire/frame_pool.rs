//! The memory of encoded frames: shared, counted, and pooled for the next frames of a thread.
//!
//! An iteration of the event loop allocates and frees messages by the hundred, more than an
//! allocator caches for a thread.

use std::cell::RefCell;

use triomphe::{Arc, HeaderSlice, UniqueArc};

use super::frames::Forms;
use crate::sync::OnceLock;

/// A block of memory, shared by all its readers.
pub(super) type Shared = Arc<HeaderSlice<Head, [u8]>>;

/// A block of memory with a single reference.
pub(super) type Unique = UniqueArc<HeaderSlice<Head, [u8]>>;

/// The header in front of the bytes of a block.
#[derive(Default)]
pub(super) struct Head {
    /// The end of the last frame; bytes behind it may be left over from earlier frames.
    pub(super) end: u32,
    /// The number of frames in the block.
    pub(super) count: u32,
    /// Other encodings of the same messages, made when the first reader needs one.
    pub(super) forms: OnceLock<Box<Forms>>,
}

/// The most bytes that a thread keeps for its next blocks, in all classes together.
const KEPT_BYTES_MAX: usize = 196_608;

/// The number of small classes, [`STEP`] bytes apart as in an allocator: up to 264 bytes.
const SMALL: usize = 17;

/// The distance between two small classes, in bytes.
const STEP: usize = 16;

/// The sizes of the large classes, in bytes; a longer block gets its exact size and is not kept.
const LARGE: [usize; 4] = [520, 1_032, 2_056, 4_104];

/// The number of classes.
const CLASSES: usize = SMALL + LARGE.len();

thread_local! {
    static POOL: RefCell<FramePool> = const { RefCell::new(FramePool::new()) };
}

/// The free blocks of a thread, by class.
struct FramePool {
    bytes: usize,
    free: [Vec<Unique>; CLASSES],
}

impl FramePool {
    const fn new() -> Self {
        Self {
            bytes: 0,
            free: [const { Vec::new() }; CLASSES],
        }
    }

    fn take(&mut self, class: usize) -> Option<Unique> {
        let block = self.free[class].pop()?;
        self.bytes -= class_bytes(class);
        self.check();
        Some(block)
    }

    /// Keeps a block for later, unless the pool is full.
    fn put(&mut self, class: usize, block: Unique) {
        debug_assert!(
            block.slice.len() == class_bytes(class) && block.header.forms.get().is_none(),
            "the pool gets a block of {} bytes for its class of {}, or one with other encodings",
            block.slice.len(),
            class_bytes(class),
        );
        let bytes = self.bytes + class_bytes(class);
        if bytes <= KEPT_BYTES_MAX {
            self.bytes = bytes;
            self.free[class].push(block);
        }
        self.check();
    }

    /// Checks the bytes against the free blocks, in builds with debug assertions.
    fn check(&self) {
        debug_assert!(
            self.bytes == self.free_bytes(),
            "the pool counts {} bytes, but its free blocks have {}",
            self.bytes,
            self.free_bytes(),
        );
    }

    fn free_bytes(&self) -> usize {
        let classes = self.free.iter().enumerate();
        classes
            .map(|(class, blocks)| blocks.len() * class_bytes(class))
            .sum()
    }
}

/// Returns a block of at least this many bytes, which may be left over from earlier frames.
pub(super) fn alloc(bytes: usize) -> Unique {
    let Some(class) = class(bytes) else {
        return fresh(bytes);
    };
    let pooled = POOL.try_with(|pool| pool.borrow_mut().take(class));
    let pooled = pooled.ok().flatten();
    pooled.unwrap_or_else(|| fresh(class_bytes(class)))
}

/// Drops a reference; the last reference gives the block to the pool of this thread.
#[inline]
pub(super) fn free(shared: Shared) {
    if let Ok(block) = Arc::try_unique(shared) {
        recycle(block);
    }
}

fn recycle(mut block: Unique) {
    let bytes = block.slice.len();
    let Some(class) = class(bytes).filter(|class| class_bytes(*class) == bytes) else {
        return;
    };
    if block.header.forms.get().is_some() {
        // The forms are frames themselves and go to this pool when dropped: before it is borrowed.
        drop(block.header.forms.take());
    }
    // A thread that ends has lost its pool already.
    let _ended = POOL.try_with(|pool| pool.borrow_mut().put(class, block));
}

/// The smallest class with room for this many bytes; `None` if there is no such class.
#[inline]
fn class(bytes: usize) -> Option<usize> {
    let small = (bytes + STEP / 2 - 1) / STEP;
    if small < SMALL {
        return Some(small);
    }
    let large = LARGE.iter().position(|room| bytes <= *room);
    large.map(|large| SMALL + large)
}

/// The size of a class in bytes; with the header, a block fills a size class of the allocator.
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
        POOL.replace(FramePool::new());
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "the pool counts 25 bytes, but its free blocks have 24")]
    fn a_byte_too_many_trips_the_pool() {
        let mut pool = FramePool::new();
        pool.bytes = 1;
        pool.put(1, fresh(class_bytes(1)));
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "the pool gets a block of 8 bytes for its class of 24")]
    fn a_block_that_is_too_short_for_its_class_trips_the_pool() {
        FramePool::new().put(1, fresh(class_bytes(0)));
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
