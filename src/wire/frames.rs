//! Encoded data messages, one or more in a shared block of memory.

use std::fmt;

use super::extension::WindowBits;
use super::frame_pool::{self, Head, Shared, Unique};
use super::opcode::{DataKind, header_len, write_header};
use crate::planted::{self, Bug};
use crate::sync::OnceLock;

/// The most bytes of a block in which messages are joined; a longer message has its own block.
pub(crate) const JOINED_BYTES_MAX: usize = 4_096;

/// Complete data messages, at least one, each encoded as an unmasked FIN frame (RFC 6455 5.2, 5.6),
/// one after the other.
///
/// The frames lie in a block of memory, which their clones and parts share. A part keeps the whole
/// block in memory. Two `Frames` are equal if their bytes are.
#[derive(Clone)]
pub struct Frames {
    /// `None` only while the frames are being dropped.
    block: Option<Shared>,
    /// The position of the first frame in the block.
    start: u32,
    /// The end of the last frame in the block.
    end: u32,
    count: u32,
    /// The length of all payloads together.
    payload_bytes: u32,
}

/// Other encodings of all messages of a block, each made once for all its readers.
#[derive(Default)]
pub(super) struct Forms {
    enveloped: OnceLock<Frames>,
    events: OnceLock<Frames>,
    deflated: OnceLock<Box<[Deflated; WindowBits::COUNT]>>,
}

/// The compressed form for one window; `None` if no message gets shorter.
type Deflated = OnceLock<Option<Frames>>;

/// A message among the bytes of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) kind: DataKind,
    pub(crate) payload: &'a [u8],
    /// The end of the message's frame.
    pub(crate) end: usize,
}

/// Frames under construction.
pub(super) struct Builder {
    block: Unique,
    end: usize,
    count: u32,
    payload_bytes: usize,
}

impl Builder {
    /// Makes an empty builder with room for this many bytes of frames.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self {
            block: frame_pool::alloc(bytes),
            end: 0,
            count: 0,
            payload_bytes: 0,
        }
    }

    /// Adds a message. `fill` writes its payload and returns whether that is ASCII.
    ///
    /// Returns whether the message was added: a text that is not UTF-8 is left out, and so is a
    /// message for which there is no room.
    #[inline]
    pub(super) fn push(
        &mut self,
        kind: DataKind,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let header_len = header_len(payload_len);
        let end = self.end + header_len + payload_len;
        let Some(room) = self.block.slice.get_mut(self.end..end) else {
            return false;
        };
        let (header, payload) = room.split_at_mut(header_len);
        write_header(header, kind, payload_len);
        if !checked(kind, payload, fill) {
            return false;
        }
        self.end = end;
        self.count += 1;
        self.payload_bytes += payload_len;
        true
    }

    /// Adds encoded frames.
    fn push_frames(&mut self, frames: &Frames) {
        let bytes = frames.as_bytes();
        let end = self.end + bytes.len();
        self.block.slice[self.end..end].copy_from_slice(bytes);
        self.end = end;
        self.count += frames.count;
        self.payload_bytes += frames.payload_bytes();
    }

    /// Returns the frames; `None` if no message was added.
    #[inline]
    pub(super) fn finish(mut self) -> Option<Frames> {
        if self.count == 0 {
            frame_pool::free(self.block.shareable());
            return None;
        }
        let end = narrow(self.end);
        (self.block.header.end, self.block.header.count) = (end, self.count);
        Some(Frames {
            block: Some(self.block.shareable()),
            start: 0,
            end,
            count: self.count,
            payload_bytes: narrow(self.payload_bytes),
        })
    }
}

impl Frames {
    /// Joins frames in one block; `None` without frames. A single item is not copied.
    pub(crate) fn join<'a>(mut all: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        let bytes = all.clone().map(|frames| frames.as_bytes().len()).sum();
        let first = all.next()?;
        let Some(second) = all.next() else {
            return Some(first.clone());
        };
        let mut builder = Builder::with_room(bytes);
        for frames in [first, second].into_iter().chain(all) {
            builder.push_frames(frames);
        }
        builder.finish()
    }

    /// Makes frames of encoded ones, at least one.
    pub(super) fn encoded(bytes: &[u8], count: usize) -> Self {
        let mut builder = Builder::with_room(bytes.len());
        builder.block.slice[..bytes.len()].copy_from_slice(bytes);
        builder.end = bytes.len();
        builder.count = narrow(count);
        builder.payload_bytes = payload_bytes(bytes);
        builder.finish().expect("there is one at least")
    }

    /// The number of messages: at least one.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The encoded frames, headers included, ready for any client's socket.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.shared().slice[self.start as usize..self.end as usize]
    }

    /// The place of these messages in their block of memory.
    pub(super) fn part(&self) -> (u32, u32) {
        (self.start, self.end)
    }

    /// The length of all payloads together, in bytes.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes as usize
    }

    /// The bytes of memory that these messages keep: their whole block, with the other encodings
    /// made of it so far.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let shared = self.shared();
        let own = size_of::<Head>() + shared.slice.len();
        shared.header.forms.get().map_or(own, |forms| {
            let texts = [forms.enveloped.get(), forms.events.get()];
            let deflated = forms.deflated.get().into_iter();
            let deflated = deflated.flat_map(|each| each.iter());
            let deflated = deflated.filter_map(|form| form.get()?.as_ref());
            let all = texts.into_iter().flatten().chain(deflated);
            own + size_of::<Forms>() + all.map(Self::pinned_bytes).sum::<usize>()
        })
    }

    /// Iterates over the messages as parts of [`as_bytes`](Self::as_bytes).
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        parts(self.as_bytes())
    }

    /// Splits the first `count` messages off and returns them; the rest stays in `self`.
    ///
    /// # Panics
    ///
    /// If `count` is 0 or not less than [`len`](Self::len).
    #[must_use = "what is taken off is in it"]
    pub(crate) fn split_front(&mut self, count: usize) -> Self {
        assert!(0 < count && count < self.len(), "both parts have a message");
        let (mut end, mut payload_bytes) = (0, 0);
        for part in self.parts().take(count) {
            (end, payload_bytes) = (part.end, payload_bytes + part.payload.len());
        }
        let middle = self.start + narrow(end);
        let front = Self {
            block: self.block.clone(),
            start: self.start,
            end: middle,
            count: narrow(count),
            payload_bytes: narrow(payload_bytes),
        };
        self.start = middle;
        self.count -= front.count;
        self.payload_bytes -= front.payload_bytes;
        front
    }

    /// Returns these messages in their envelopes. The first reader to ask runs `envelop`, for the
    /// whole block.
    pub(crate) fn enveloped(&self, envelop: impl FnOnce(&Self) -> Self) -> Self {
        let form = self
            .forms()
            .enveloped
            .get_or_init(|| envelop(&self.whole()));
        self.part_of(form)
    }

    /// Returns these messages as events. The first reader to ask runs `encode`, for the whole
    /// block.
    pub(crate) fn events(&self, encode: impl FnOnce(&Self) -> Self) -> Self {
        let form = self.forms().events.get_or_init(|| encode(&self.whole()));
        self.part_of(form)
    }

    /// Returns these messages compressed for this window; `None` if no message of the block gets
    /// shorter. The first reader to ask runs `deflate`, for the whole block.
    pub fn deflated(
        &self,
        window: WindowBits,
        deflate: impl FnOnce(&Self) -> Option<Self>,
    ) -> Option<Self> {
        let forms = self.forms().deflated.get_or_init(Box::default);
        let form = forms[window.index()].get_or_init(|| deflate(&self.whole()));
        form.as_ref().map(|form| self.part_of(form))
    }

    /// Returns all messages of the block.
    fn whole(&self) -> Self {
        let shared = self.shared();
        let (end, count) = (shared.header.end, shared.header.count);
        Self {
            block: self.block.clone(),
            start: 0,
            end,
            count,
            payload_bytes: narrow(payload_bytes(&shared.slice[..end as usize])),
        }
    }

    /// Returns the part of another encoding of the block that corresponds to these messages.
    fn part_of(&self, form: &Self) -> Self {
        debug_assert_eq!(form.count, self.shared().header.count, "one for each");
        let mut form = form.clone();
        if planted::is(Bug::FormOfWhole) {
            return form;
        }
        if self.start > 0 {
            let before = parts(&self.shared().slice[..self.start as usize]).count();
            drop(form.split_front(before));
        }
        if self.count < form.count {
            form = form.split_front(self.len());
        }
        form
    }

    fn forms(&self) -> &Forms {
        self.shared().header.forms.get_or_init(Box::default)
    }

    #[inline]
    fn shared(&self) -> &Shared {
        self.block.as_ref().expect("only drop takes it")
    }
}

/// Has `fill` write a payload and return whether that is ASCII; returns whether the message is
/// legal.
#[inline]
fn checked(kind: DataKind, payload: &mut [u8], fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
    let is_ascii = fill(payload);
    match kind {
        DataKind::Text => is_ascii || str::from_utf8(payload).is_ok(),
        DataKind::Binary => true,
    }
}

/// Iterates over the messages of encoded frames.
pub(crate) fn parts(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let header_len = header_len_of(rest);
        let payload_len = payload_len_of(rest);
        let first = start + header_len;
        start = first + payload_len;
        Some(Part {
            kind: DataKind::of(rest[0]),
            payload: &bytes[first..start],
            end: start,
        })
    })
}

/// The length of all payloads of frames that this module encoded.
fn payload_bytes(frames: &[u8]) -> usize {
    parts(frames).map(|part| part.payload.len()).sum()
}

/// The length of the header at the front of frames that this module encoded.
#[inline]
pub(super) fn header_len_of(bytes: &[u8]) -> usize {
    match bytes[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// The length of the first payload of frames that this module encoded.
fn payload_len_of(bytes: &[u8]) -> usize {
    match (bytes[1], &bytes[2..]) {
        (126, &[a, b, ..]) => usize::from(u16::from_be_bytes([a, b])),
        (127, &[a, b, c, d, e, f, g, h, ..]) => {
            let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            usize::try_from(len).expect("it is in memory")
        }
        (short, _) => usize::from(short),
    }
}

/// Narrows a length within a block.
///
/// # Panics
///
/// If the length is 4 GiB or more, which no message of a client can reach.
#[inline]
fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("a block of frames is smaller than 4 GiB")
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(shared) = self.block.take() {
            frame_pool::free(shared);
        }
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Frames {}

impl fmt::Debug for Frames {
    // Messages belong to users: their content stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("len", &self.len())
            .field("payload_bytes", &self.payload_bytes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Frame;

    fn texts(texts: &[&str]) -> Frames {
        let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
        Frames::join(each.iter()).expect("one at least")
    }

    #[test]
    fn joined_messages_lie_as_they_are_written() {
        let frames = texts(&["a", "", "bc"]);
        assert_eq!(frames.as_bytes(), b"\x81\x01a\x81\x00\x81\x02bc");
        assert_eq!((frames.len(), frames.payload_bytes()), (3, 3));
        assert!(frames.iter().eq(["a", "", "bc"].map(Frame::text)));
        let ends: Vec<_> = frames.parts().map(|part| part.end).collect();
        assert_eq!(ends, [3, 5, 9]);
    }

    #[test]
    fn frames_that_come_alone_are_not_copied() {
        let one = texts(&["a"]);
        let joined = Frames::join([&one].into_iter()).expect("one");
        assert_eq!(joined.as_bytes().as_ptr(), one.as_bytes().as_ptr());
        assert!(Frames::join([].into_iter()).is_none());
    }

    #[test]
    fn every_split_of_every_split_has_the_same_messages() {
        for count in 2..6 {
            let each: Vec<String> = (0..count).map(|n| "x".repeat(n * 60)).collect();
            let each: Vec<&str> = each.iter().map(String::as_str).collect();
            for first in 1..count {
                let mut rest = texts(&each);
                let front = rest.split_front(first);
                assert_eq!(front, texts(&each[..first]));
                assert_eq!(rest, texts(&each[first..]));
                assert_eq!(front.len() + rest.len(), count);
                for part in [&front, &rest] {
                    assert_eq!(part.payload_bytes(), payload_bytes(part.as_bytes()));
                }
                for second in 1..rest.len() {
                    let mut last = rest.clone();
                    let middle = last.split_front(second);
                    assert_eq!(middle, texts(&each[first..first + second]));
                    assert_eq!(last, texts(&each[first + second..]));
                }
            }
        }
    }

    #[test]
    fn all_three_forms_of_a_length_are_read() {
        for len in [0, 125, 126, 0xFFFF, 0x1_0000] {
            let text = "x".repeat(len);
            let frames = texts(&[&text, "y"]);
            let lens: Vec<_> = frames.parts().map(|part| part.payload.len()).collect();
            assert_eq!(lens, [len, 1]);
            assert_eq!(Frame::text(&text).len(), len);
        }
    }

    #[test]
    fn a_part_has_its_part_of_another_encoding() {
        let whole = texts(&["a", "b", "c"]);
        let mut rest = whole.clone();
        let first = rest.split_front(1);
        let mut asked = 0;
        let mut envelop = |frames: &Frames| {
            asked += 1;
            let each: Vec<Frames> = frames
                .iter()
                .map(|frame| Frame::binary([frame.payload_bytes(), b"!"].concat()).into())
                .collect();
            Frames::join(each.iter()).expect("one at least")
        };
        let of = |text: &str| Frame::binary(text);
        assert!(first.enveloped(&mut envelop).iter().eq([of("a!")]));
        assert!(rest.enveloped(&mut envelop).iter().eq([of("b!"), of("c!")]));
        let middle = rest.split_front(1);
        assert!(middle.enveloped(&mut envelop).iter().eq([of("b!")]));
        assert_eq!(asked, 1, "it is made once for all");
    }

    #[test]
    fn everything_is_shown_but_what_the_messages_say() {
        let shown = format!("{:?}", texts(&["a secret", "b"]));
        assert_eq!(shown, "Frames { len: 2, payload_bytes: 9 }");
    }
}
