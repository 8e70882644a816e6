//! The end of a history: its last message, after which it takes no other one.
//!
//! The end has an offset like each message, so that a client knows whether it has received it. It
//! is never dropped: the history of a room that is over says so as long as its position is known.

use super::History;
use super::entry::Entry;
use crate::wire::{DataKind, Frames};

/// The most bytes of the data of an end. They are kept as long as the position of their room, which
/// outlives its messages.
pub const END_BYTES_MAX: usize = 4 * 1024;

/// The reason why a room's stream could not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// The stream has ended before, with other data perhaps.
    #[error("the stream has ended already")]
    Ended,
    /// The data are no JSON.
    #[error("the data of an end are JSON: pass `null` for an end without data")]
    NotJson,
    /// The data have more bytes than the data of an end may have.
    #[error("the data of an end have {bytes} bytes, more than {END_BYTES_MAX}")]
    TooLarge {
        /// The bytes.
        bytes: usize,
    },
    /// The kind of the room has no history: nothing would know of the end.
    #[error("a stream without a history has no end: give its kind a history, or close its clients")]
    Unrecorded,
}

/// The stream of a room has ended: no message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream of this room has ended: it takes no further message")]
pub struct Ended;

/// Checks the data of an end.
///
/// # Errors
///
/// When they are no JSON, or too large.
pub(in crate::bus) fn check(end: &Frames) -> Result<(), EndError> {
    let bytes = end.payload_bytes();
    if bytes > END_BYTES_MAX {
        return Err(EndError::TooLarge { bytes });
    }
    let mut parts = end.parts();
    let (Some(data), None) = (parts.next(), parts.next()) else {
        return Err(EndError::NotJson);
    };
    let is_text = data.kind == DataKind::Text;
    // As a value, which is bounded in depth and in its numbers: every reader can take it.
    let is_json = serde_json::from_slice::<serde_json::Value>(data.payload).is_ok();
    (is_text && is_json).then_some(()).ok_or(EndError::NotJson)
}

impl History {
    /// Whether the history takes no further message.
    pub(in crate::bus) fn has_ended(&self) -> bool {
        self.entries.back().is_some_and(Entry::is_end)
    }

    /// The number of ends, which count in no bound: 1, or 0 as long as the stream goes on.
    pub(super) fn ends(&self) -> u64 {
        u64::from(self.has_ended())
    }

    /// The offset up to which messages may be dropped: the end is not.
    pub(super) fn droppable_end(&self) -> u64 {
        self.top + 1 - self.ends()
    }

    /// Whether the history keeps messages that it may drop.
    pub(super) fn has_droppable(&self) -> bool {
        self.len() > self.ends()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn checked(frame: Frame) -> Result<(), EndError> {
        check(&frame.into())
    }

    #[test]
    fn the_data_of_an_end_are_json_of_few_bytes() {
        for good in ["null", "{\"tokens\":7}", " \"x\" ", "[1]"] {
            assert_eq!(checked(Frame::text(good)), Ok(()), "{good}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bad in ["", "x", "{\"a\":}", "1 2", "1e400", &deep] {
            assert_eq!(checked(Frame::text(bad)), Err(EndError::NotJson), "{bad}");
        }
        assert_eq!(checked(Frame::binary(b"1")), Err(EndError::NotJson));
        let longest = format!("\"{}\"", "x".repeat(END_BYTES_MAX - 2));
        assert_eq!(checked(Frame::text(longest)), Ok(()));
        let bytes = END_BYTES_MAX + 1;
        let longer = format!("\"{}\"", "x".repeat(bytes - 2));
        assert_eq!(
            checked(Frame::text(longer)),
            Err(EndError::TooLarge { bytes })
        );
    }
}
