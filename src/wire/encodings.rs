//! Encodings of messages that say more than the messages, such as their places in a history.

use std::sync::Arc;

use super::frames::Frames;
use crate::sync::OnceLock;

/// The encodings of one batch, each made once for the readers that share the batch.
///
/// They belong to the batch, and not to its messages: the same messages have other places in the
/// histories of other rooms, and a history that keeps the messages keeps no encoding of them.
#[derive(Clone, Default)]
pub(crate) struct Encodings(Option<Arc<[OnceLock<Encoding>; FORMS]>>);

/// The number of forms.
const FORMS: usize = 2;

/// A form of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Envelopes,
    Events,
}

/// The facts that an encoding shows beside its messages, as numbers.
pub(crate) type Shown = [u64; 3];

struct Encoding {
    shown: Shown,
    /// The messages that are encoded: a batch that was divided shares the encodings of the whole.
    part: (u32, u32),
    frames: Frames,
}

impl Encodings {
    /// Encodings that readers share.
    pub(crate) fn shared() -> Self {
        Self(Some(Arc::default()))
    }

    /// Returns these messages of the batch in a form that shows these facts. The first reader that
    /// asks for the form runs `encode` for all readers of the same messages and facts.
    pub(crate) fn encoded(
        &self,
        frames: &Frames,
        form: Form,
        shown: Shown,
        encode: impl Fn(&Frames) -> Frames,
    ) -> Frames {
        let Some(encodings) = &self.0 else {
            return encode(frames);
        };
        let part = frames.part();
        let encoding = encodings[form as usize].get_or_init(|| Encoding {
            shown,
            part,
            frames: encode(frames),
        });
        if (encoding.shown, encoding.part) == (shown, part) {
            return encoding.frames.clone();
        }
        encode(frames)
    }
}

/// Two batches are equal whatever is encoded of them so far.
impl PartialEq for Encodings {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::wire::Frame;

    #[test]
    fn an_encoding_is_made_once_for_the_same_messages_and_facts() {
        let one = Frames::from(Frame::text("a"));
        let two = Frames::join([&one, &Frames::from(Frame::text("b"))].into_iter());
        let mut rest = two.expect("two");
        let front = rest.split_front(1);
        let made = Cell::new(0);
        let encode = |name: &str| {
            let text = name.to_owned();
            let made = &made;
            move |_: &Frames| {
                made.set(made.get() + 1);
                Frame::text(&text).into()
            }
        };
        let encodings = Encodings::shared();
        let of = |frames, form, shown, name: &str| {
            encodings.encoded(frames, form, [shown; 3], encode(name))
        };
        let first = of(&front, Form::Events, 1, "first");
        assert_eq!(of(&front, Form::Events, 1, "again"), first);
        assert_eq!(made.get(), 1);
        // Other messages, facts and forms have encodings of their own.
        for (frames, form, shown, name) in [
            (&rest, Form::Events, 1, "rest"),
            (&front, Form::Events, 2, "other facts"),
            (&front, Form::Envelopes, 1, "other form"),
        ] {
            let expected: Frames = Frame::text(name).into();
            assert_eq!(of(frames, form, shown, name), expected);
        }
        assert_eq!(of(&front, Form::Events, 1, "again"), first);
        let alone = Encodings::default();
        for name in ["x", "y"] {
            let expected: Frames = Frame::text(name).into();
            let encoded = alone.encoded(&front, Form::Events, [1; 3], encode(name));
            assert_eq!(encoded, expected);
        }
    }
}
