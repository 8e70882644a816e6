//! Several data messages in one piece of memory, as they are written to a socket.

use std::cell::RefCell;
use std::fmt;

use super::frame::{DataKind, Frame, checked, header_len, write_header};
use super::spare::Spare;

/// Bytes of all frames at most: with longer messages there is nothing to be gained.
const FRAMES_BYTES_MAX: usize = 4096;

/// The memory that frames are put in is of one of these sizes.
const ROOMS: [usize; 3] = [256, 1024, FRAMES_BYTES_MAX];

/// All that a thread keeps for its next ones, in bytes.
const SPARE_BYTES_MAX: usize = 131_072;

thread_local! {
    static SPARE: RefCell<Spare<Box<Frames>, { ROOMS.len() }>> =
        const { RefCell::new(Spare::new(SPARE_BYTES_MAX)) };
}

/// Data messages, each encoded as one unmasked FIN frame (RFC 6455 5.2, 5.6), one after the other.
///
/// Messages that come together go together: what would be an allocation for each of them is one for
/// all, and so is what is written. It takes at most four times the memory that it fills, or the
/// least there is.
pub(crate) struct Frames {
    /// Behind `end` there may be what is left over from others.
    room: Box<[u8]>,
    end: usize,
    messages: usize,
    payload_bytes: usize,
}

/// One of several messages.
struct Part<'a> {
    kind: DataKind,
    payload: &'a [u8],
    /// Where its frame ends.
    end: usize,
}

impl Frames {
    /// None yet, with room for so many bytes, or as many as there may be.
    pub(super) fn with_room(bytes: usize) -> Box<Self> {
        let class = class(bytes);
        let spare = SPARE.try_with(|spare| spare.borrow_mut().take(class, ROOMS[class]));
        spare.ok().flatten().unwrap_or_else(|| Self::fresh(class))
    }

    #[inline(never)]
    fn fresh(class: usize) -> Box<Self> {
        Box::new(Self {
            room: vec![0; ROOMS[class]].into_boxed_slice(),
            end: 0,
            messages: 0,
            payload_bytes: 0,
        })
    }

    /// Adds a message whose payload is what `fill` writes, which tells whether that is ASCII; not
    /// if there is no room for it, and not a text that is not UTF-8.
    #[inline]
    pub(super) fn append(
        &mut self,
        kind: DataKind,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let header_len = header_len(payload_len);
        let end = self.end + header_len + payload_len;
        let Some(room) = self.room.get_mut(self.end..end) else {
            return false;
        };
        let (header, payload) = room.split_at_mut(header_len);
        write_header(header, kind, payload_len);
        if !checked(kind, payload, fill) {
            return false;
        }
        self.end = end;
        self.messages += 1;
        self.payload_bytes += payload_len;
        true
    }

    /// How many messages there are.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// The bytes of all payloads.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The encoded frames, headers included, ready for any client's socket.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.room[..self.end]
    }

    /// Each message by itself, copied.
    pub(crate) fn each(&self) -> impl Iterator<Item = Frame> {
        self.parts()
            .map(|part| Frame::copied(part.kind, part.payload))
    }

    /// The length of each payload.
    pub(crate) fn lens(&self) -> impl Iterator<Item = usize> {
        self.parts().map(|part| part.payload.len())
    }

    /// Where each frame ends.
    pub(crate) fn ends(&self) -> impl Iterator<Item = usize> {
        self.parts().map(|part| part.end)
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let bytes = self.as_bytes();
        let mut start = 0;
        std::iter::from_fn(move || {
            let part = Part::read(bytes, start)?;
            start = part.end;
            Some(part)
        })
    }

    /// The same in less memory, if they fill less than a fourth of it.
    #[inline]
    pub(super) fn fitted(self: Box<Self>) -> Box<Self> {
        if self.room.len() > 4 * self.end && self.room.len() > ROOMS[0] {
            return self.moved();
        }
        self
    }

    #[cold]
    fn moved(self: Box<Self>) -> Box<Self> {
        let mut frames = Self::with_room(self.end);
        frames.room[..self.end].copy_from_slice(self.as_bytes());
        (frames.end, frames.messages) = (self.end, self.messages);
        frames.payload_bytes = self.payload_bytes;
        self.leave();
        frames
    }

    /// Leaves the memory to the next ones of this thread.
    pub(crate) fn leave(mut self: Box<Self>) {
        let class = class(self.room.len());
        if ROOMS[class] == self.room.len() {
            (self.end, self.messages, self.payload_bytes) = (0, 0, 0);
            // A thread that ends keeps nothing.
            let _gone = SPARE.try_with(|spare| spare.borrow_mut().put(class, ROOMS[class], self));
        }
    }

    /// Takes no more memory than it fills, if it takes more than twice as much.
    pub(crate) fn shrink(&mut self) {
        if self.room.len() > 2 * self.end {
            self.room = self.as_bytes().into();
        }
    }
}

impl Part<'_> {
    /// The message whose frame, which we have encoded, begins here.
    fn read(bytes: &[u8], start: usize) -> Option<Part<'_>> {
        let (&[first, short_len], rest) = bytes[start..].split_first_chunk()?;
        let payload_len = match (short_len, rest) {
            // None is so long that it takes the third form.
            (126, &[high, low, ..]) => usize::from(u16::from_be_bytes([high, low])),
            (short, _) => usize::from(short),
        };
        let start = start + header_len(payload_len);
        let end = start + payload_len;
        Some(Part {
            kind: DataKind::of(first),
            payload: &bytes[start..end],
            end,
        })
    }
}

/// The smallest of the memories in which so many bytes have room.
#[inline]
fn class(bytes: usize) -> usize {
    let class = ROOMS.iter().position(|room| bytes <= *room);
    class.unwrap_or(ROOMS.len() - 1)
}

impl fmt::Debug for Frames {
    // Messages belong to users: their content stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("messages", &self.messages)
            .field("payload_bytes", &self.payload_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Frames {
    /// Those of these texts.
    pub(crate) fn of_texts(texts: &[&str]) -> Box<Self> {
        let mut frames = Self::with_room(FRAMES_BYTES_MAX);
        for text in texts {
            let copy = |room: &mut [u8]| {
                room.copy_from_slice(text.as_bytes());
                text.is_ascii()
            };
            assert!(frames.append(DataKind::Text, text.len(), copy));
        }
        frames.fitted()
    }

    /// The memory they take.
    #[cfg(not(feature = "loom"))]
    pub(crate) fn capacity(&self) -> usize {
        self.room.len()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn spare() -> usize {
        SPARE.with_borrow(Spare::bytes)
    }

    fn clear() {
        SPARE.replace(Spare::new(SPARE_BYTES_MAX));
    }

    /// So many messages of so many bytes.
    fn frames(messages: usize, bytes: usize) -> Box<Frames> {
        let text = "x".repeat(bytes);
        Frames::of_texts(&vec![&*text; messages])
    }

    #[test]
    fn the_memory_of_some_serves_the_next_ones_and_says_nothing_of_them() {
        clear();
        let first = Frames::of_texts(&["a secret", "and another one"]);
        let at = first.as_bytes().as_ptr();
        first.leave();
        assert_eq!(spare(), 256 + FRAMES_BYTES_MAX, "and what it was made in");
        let second = Frames::of_texts(&["b", "c"]);
        assert_eq!(second.as_bytes().as_ptr(), at);
        assert_eq!(second.as_bytes(), b"\x81\x01b\x81\x01c");
        assert_eq!((second.messages(), second.payload_bytes()), (2, 2));
        assert!(second.each().eq(["b", "c"].map(Frame::text)));
    }

    #[test]
    fn they_take_at_most_four_times_as_much_memory_as_they_fill() {
        for (messages, bytes, room) in [
            (2, 0, 256),
            (8, 30, 256),
            (8, 31, 1024),
            (4, 251, 1024),
            (4, 252, 4096),
            (15, 250, 4096),
        ] {
            let frames = frames(messages, bytes);
            assert_eq!(frames.room.len(), room, "{messages} of {bytes} bytes");
            assert!(frames.each().all(|frame| frame.len() == bytes));
        }
    }

    #[test]
    fn those_that_wait_for_long_take_no_more_than_twice_as_much() {
        clear();
        for (bytes, room) in [(62, 128), (61, 126), (30, 64)] {
            let mut frames = frames(2, bytes);
            frames.shrink();
            assert_eq!(frames.room.len(), if bytes == 62 { 256 } else { room });
            assert_eq!(frames.as_bytes().len(), room);
            let before = spare();
            frames.leave();
            assert_eq!(
                spare() > before,
                bytes == 62,
                "of another size it is no room"
            );
        }
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound() {
        clear();
        let many: Vec<_> = (0..40).map(|_| frames(15, 250)).collect();
        many.into_iter().for_each(Frames::leave);
        assert_eq!(spare(), SPARE_BYTES_MAX);
    }

    #[test]
    fn they_show_everything_but_what_they_say() {
        let shown = format!("{:?}", Frames::of_texts(&["a secret", "b"]));
        assert_eq!(shown, "Frames { messages: 2, payload_bytes: 9, .. }");
    }
}
