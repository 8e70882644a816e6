//! The memory of frames: a thread that is done with one leaves it to its next one.
//!
//! Messages come and go by the hundred in a turn, more than the allocator keeps at hand for a
//! thread.

use std::cell::RefCell;

use triomphe::{Arc, HeaderSlice, UniqueArc};

use super::frame::Head;
use super::spare::Spare;

/// The memory of a frame, shared by all who have it.
pub(super) type Shared = Arc<HeaderSlice<Head, [u8]>>;

/// The memory of a frame that nobody else has.
type Room = UniqueArc<HeaderSlice<Head, [u8]>>;

/// All that a thread keeps for its next frames, in bytes of frames.
const SPARE_BYTES_MAX: usize = 65_536;

/// Classes of memory; the last one is of 264 bytes. What is larger is of its own size and not kept.
const CLASSES: usize = 17;

/// Classes differ by so many bytes, as an allocator's do.
const STEP: usize = 16;

thread_local! {
    static SPARE: RefCell<Spare<Room, CLASSES>> =
        const { RefCell::new(Spare::new(SPARE_BYTES_MAX)) };
}

/// Memory of so many bytes at least, in which there may be what is left over from others.
pub(super) fn hold(bytes: usize) -> Room {
    let class = class(bytes);
    if class >= CLASSES {
        return fresh(bytes);
    }
    let spare = SPARE.try_with(|spare| spare.borrow_mut().take(class, room_bytes(class)));
    let spare = spare.ok().flatten();
    spare.unwrap_or_else(|| fresh(room_bytes(class)))
}

/// Takes the memory of a frame back, if nobody else has it.
#[inline]
pub(super) fn leave(shared: Shared) {
    if let Ok(room) = Arc::try_unique(shared) {
        keep(room);
    }
}

fn keep(mut room: Room) {
    let class = class(room.slice.len());
    if class < CLASSES {
        if room.header.forms.get().is_some() {
            // They may be frames themselves.
            drop(room.header.forms.take());
        }
        // A thread that ends keeps nothing.
        let _gone = SPARE.try_with(|spare| spare.borrow_mut().put(class, room_bytes(class), room));
    }
}

/// The class of the memory in which so many bytes have room.
fn class(bytes: usize) -> usize {
    (bytes + STEP / 2 - 1) / STEP
}

/// The bytes of a class: with the counts in front of them they fill what an allocator gives.
const fn room_bytes(class: usize) -> usize {
    class * STEP + STEP / 2
}

#[inline(never)]
fn fresh(bytes: usize) -> Room {
    let zeroes = std::iter::repeat_n(0, bytes);
    let shared = Arc::from_header_and_iter(Head::default(), zeroes);
    Arc::try_unique(shared).unwrap_or_else(|_shared| unreachable!("nobody shares it yet"))
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn spare() -> usize {
        SPARE.with_borrow(Spare::bytes)
    }

    fn clear() {
        SPARE.replace(Spare::new(SPARE_BYTES_MAX));
    }

    #[test]
    fn every_length_has_room_in_the_smallest_class_that_has_it() {
        for len in 0..=room_bytes(CLASSES - 1) {
            let class = class(len);
            assert!(class < CLASSES && len <= room_bytes(class), "{len}");
            assert!(class == 0 || len > room_bytes(class - 1), "{len}");
            assert_eq!(self::class(room_bytes(class)), class);
        }
        assert_eq!(class(room_bytes(CLASSES - 1) + 1), CLASSES);
        assert_eq!(room_bytes(CLASSES - 1), 264);
    }

    #[test]
    fn the_memory_of_a_frame_is_that_of_the_next_one_of_its_class_and_says_nothing_of_it() {
        clear();
        let first = Frame::text("a long secret");
        let at = first.as_bytes().as_ptr();
        let other = first.clone();
        drop(first);
        assert_eq!(spare(), 0, "somebody has it");
        drop(other);
        assert_eq!(spare(), 24);
        let second = Frame::binary("short one");
        assert_eq!(second.as_bytes(), b"\x82\x09short one");
        assert_eq!(second.payload_bytes(), b"short one");
        let end = second.as_bytes().as_ptr_range().end;
        assert_eq!(at.wrapping_add(15), end, "it is the same memory");
        assert_eq!(spare(), 0);
        let third = Frame::text("a long secret");
        assert_eq!(third.as_bytes(), b"\x81\x0da long secret");
    }

    #[test]
    fn other_forms_go_with_their_message() {
        clear();
        let frame = Frame::text("plain");
        let envelope = frame.enveloped(|| Frame::text("in an envelope of its own"));
        assert_eq!(envelope.len(), 25);
        drop(frame);
        assert_eq!(spare(), 8 + 40, "both are left to others");
        let next = Frame::text("other");
        let envelope = next.enveloped(|| Frame::text("its own"));
        assert_eq!(envelope.payload_bytes(), b"its own");
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound_and_nothing_large() {
        clear();
        let large = Frame::binary([0; 261]);
        assert_eq!(large.as_bytes().len(), 265);
        drop(large);
        assert_eq!(spare(), 0);
        let frames: Vec<_> = (0..300).map(|_| Frame::binary([0; 260])).collect();
        assert_eq!(frames[0].as_bytes().len(), 264);
        drop(frames);
        assert_eq!(spare(), SPARE_BYTES_MAX / 264 * 264);
    }
}
